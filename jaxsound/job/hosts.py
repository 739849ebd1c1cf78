"""Several processes as one job: how they join, and how they leave when one of them is lost.

Every process counts up in the job's coordination service, which process 0 runs, and reads what the
others have counted. This goes on in threads of its own, since a process whose peer is gone waits in
a collective for as long as that takes: 30 seconds with Gloo, for ever with NCCL.
"""

import atexit
import contextlib
import dataclasses
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax._src import distributed  # its client, the key-value store, has no public name

from jaxsound.errors import UserError
from jaxsound.job import relay
from jaxsound.job.stopping import REQUEUE, Stopped

LOST_SECONDS, JOIN_SECONDS = 60, 300
_MEMBERS, _VERDICT, _FACTS = "jaxsound/members/", "jaxsound/members/verdict", "jaxsound/facts/"
_WEEK = 7 * 24 * 3600 * 1000  # milliseconds
_GOES_ON = "what was saved before is kept, and the same command goes on from there"


@dataclasses.dataclass(frozen=True)
class Place:
    """This process's place in a job: the coordinator's `host:port`, how many, and which."""

    coordinator: str
    count: int
    index: int


def place() -> Place | None:
    """What `launch/` or Slurm says; None for a process of its own.

    Raises:
      UserError: part of it is missing or no number.
    """
    names = ("JAXSOUND_COORDINATOR", "JAXSOUND_NUM_PROCESSES", "JAXSOUND_PROCESS_ID")
    if names[0] in os.environ:
        try:
            coordinator, count, index = (os.environ[name] for name in names)
            found = Place(coordinator, int(count), int(index))
            int(coordinator.rpartition(":")[2])
        except (KeyError, ValueError):
            raise UserError(f"{', '.join(names)}: all three, as host:port and numbers") from None
        if not 0 <= found.index < found.count:
            raise UserError(f"JAXSOUND_PROCESS_ID={index}: must be from 0 to {found.count - 1}")
        return found
    nodes, tasks = os.environ.get("SLURM_STEP_NODELIST"), int(os.environ.get("SLURM_NTASKS", "1"))
    if nodes is None or tasks == 1:
        return None
    # The first of "node[003-007,9],other", and a port of the range that nobody registers.
    first = re.sub(r"\[([^,\-\]]+).*", r"\1", nodes.partition(",")[0])
    port = 61440 + int(os.environ["SLURM_JOB_ID"]) % 4096
    return Place(f"{first}:{port}", tasks, int(os.environ["SLURM_PROCID"]))


def _seconds(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{name}={text}: must be a whole number of seconds, 1 or more")
    return int(text)


class Watch:
    """Counts for this process in the service, and knows who has stopped counting.

    A process is lost if its count stood still for `lost_after` seconds while the service answered;
    process 0, which runs the service, if the service did not answer for so long.
    """

    def __init__(self, client: Any, place: Place, lost_after: float):
        """Begins with everybody just heard of.

        Args:
          client: JAX's, of the coordination service.
          place: this process's.
          lost_after: seconds.
        """
        self.client, self.place, self.lost_after = client, place, lost_after
        self.interval = min(1.0, lost_after / 10)
        self.host = socket.gethostname()
        self.status: int | None = None  # that this process leaves with, once it fails
        self.meetings = 0
        self._counts = 0
        self._answered = time.monotonic()
        self._heard = {i: (0, self._answered) for i in range(place.count)}
        self._others: dict[int, dict[str, Any]] = {}
        self._verdict: dict[str, Any] | None = None
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._threads = [
            threading.Thread(target=self._every_interval, args=(what,), daemon=True)
            for what in (self.count, self.judge)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _every_interval(self, what: Any) -> None:
        while not self._over.wait(self.interval):
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # no answer: `judge` will tell
                what()

    def count(self) -> None:
        """Once more: says that this process is there, and hears of the others."""
        self._counts += 1
        me = {"count": self._counts, "host": self.host, "status": self.status}
        self.client.key_value_set(f"{_MEMBERS}{self.place.index}", json.dumps(me), True)
        said = {key: json.loads(text) for key, text in self.client.key_value_dir_get(_MEMBERS)}
        now = time.monotonic()
        self._verdict = said.pop(_VERDICT, None)
        for key, other in said.items():
            i = int(key.removeprefix(_MEMBERS))
            if other["count"] != self._heard[i][0]:
                self._heard[i] = other["count"], now
            self._others[i] = other
        self._answered = now

    def judge(self) -> None:
        """Ends this process if another is lost or has failed."""
        if self._verdict:
            self.end(self._verdict["line"], self._verdict["status"])
        answered = self._answered
        if time.monotonic() - answered > self.lost_after:
            self._lost([0])
        silent = [i for i, (_, at) in self._heard.items() if answered - at > self.lost_after]
        if silent:
            self._lost(silent)
        for i, other in self._others.items():
            if other["status"] is not None and i != self.place.index:
                said = f"{self.name(i)} ended with status {other['status']}; its output says why"
                self.end(said, other["status"])

    def _lost(self, which: list[int]) -> None:
        names = " and ".join(map(self.name, which))
        are, them = ("is", "it") if len(which) == 1 else ("are", "them")
        silence = f"nothing was heard of {them} for {self.lost_after:g} s"
        self.end(f"{names} {are} lost: {silence}; {_GOES_ON}", REQUEUE)

    def name(self, i: int) -> str:
        """A process in words, with its host's name if that was heard."""
        host = self._others.get(i, {}).get("host")
        return f"process {i} of {self.place.count}" + (f" ({host})" if host else "")

    def end(self, line: str, status: int) -> None:
        """Says so, lets the others hear it, and ends this process, wherever else it may wait."""
        with self._ending:
            if self.status is None:
                print(f"\n{line}", file=sys.stderr, flush=True)
                self._tell(line, status)
            self.linger()
            os._exit(status if self.status is None else self.status)

    def _tell(self, line: str, status: int) -> None:
        verdict = json.dumps({"line": line, "status": status})
        # Not from here: where nobody answers, the call waits for minutes.
        tell = threading.Thread(target=self._set_verdict, args=(verdict,), daemon=True)
        tell.start()
        tell.join(self.interval)

    def _set_verdict(self, verdict: str) -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # another was first, or nobody is
            self.client.key_value_set(_VERDICT, verdict)

    def linger(self) -> None:
        """Process 0 takes the service with it, and the others need it to hear why."""
        if self.place.index == 0:
            time.sleep(4 * self.interval)

    def failed(self, error: BaseException) -> None:
        """Something went wrong here, or a collective failed because another process is lost."""
        if _of_jax(error):
            time.sleep(self.lost_after + 5 * self.interval)  # in which `judge` ends this process
        code = error.code if isinstance(error, SystemExit) else None
        self.status = code if isinstance(code, int) else 2 if isinstance(error, UserError) else 1
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self.count()
        # The ordinary way out would wait for the others, and then abort all of them.
        atexit.register(self._leave)

    def _leave(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.linger()
        os._exit(self.status or 0)


def _of_jax(error: BaseException | None) -> bool:
    """Whether JAX's runtime failed, there or in what led to this error."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        error = error.__cause__ or error.__context__
    return False


_job: Watch | None = None


@contextlib.contextmanager
def together(crossval: str) -> Iterator[None]:
    """Joins the other processes of the run, if `launch/` or Slurm started several, and watches.

    When one of them is lost, this process ends with a line that names it and status 75. It ends
    with the other's status if another fails. The last lines are left to all processes together.

    Args:
      crossval: with "process" every process trains folds of its own, and none is joined.

    Raises:
      UserError: the environment does not say where this process belongs.
    """
    global _job
    where = None if crossval == "process" else place()
    if where is None:
        yield
        return
    _job = _join(where)
    try:
        yield
    except Stopped:  # all processes stop, at one step
        _together_to_the_end(_job)
        raise
    except BaseException as error:
        _job.failed(error)
        raise
    _together_to_the_end(_job)


def _join(where: Place) -> Watch:
    lost_after = _seconds("JAXSOUND_LOST_SECONDS", LOST_SECONDS)
    patience = _seconds("JAXSOUND_JOIN_SECONDS", JOIN_SECONDS)
    waiting = threading.Timer(patience, _not_together, (where, patience))
    waiting.daemon = True
    waiting.start()
    jax.distributed.initialize(
        relay.start(where.coordinator) if where.index else where.coordinator,
        where.count,
        where.index,
        initialization_timeout=patience + 60,  # at which it aborts
        heartbeat_timeout_seconds=3 * lost_after + 30,  # `Watch` is to be the first to know
        shutdown_timeout_seconds=60,
    )
    waiting.cancel()
    watch = Watch(distributed.global_state.client, where, lost_after)
    watch.start()
    return watch


def _not_together(where: Place, seconds: int) -> None:
    print(
        f"process {where.index}: the job's {where.count} processes have not all come to "
        f"{where.coordinator} within {seconds} s; the same command tries again",
        file=sys.stderr,
        flush=True,
    )
    os._exit(REQUEUE)


def _together_to_the_end(watch: Watch) -> None:
    """Waits until all processes are here, however long one takes to write the result."""
    global _job
    watch.client.wait_at_barrier("jaxsound/end", _WEEK)
    watch.stop()
    _job = None
    jax.distributed.shutdown()


def meet() -> None:
    """Returns when all processes of the job have called it as often as this one."""
    if _job is not None:
        _job.meetings += 1
        _job.client.wait_at_barrier(f"jaxsound/meeting/{_job.meetings}", _WEEK)


def agree(facts: Mapping[str, str]) -> None:
    """Checks that all processes of the job have the same of each, by name.

    Raises:
      UserError: with the first process that differs from process 0, and in what.
    """
    if _job is None:
        return
    client, where = _job.client, _job.place
    for what, mine in facts.items():
        client.key_value_set(f"{_FACTS}{what}/{where.index}", mine)
    for what in facts:
        first, *others = (
            client.blocking_key_value_get(f"{_FACTS}{what}/{i}", _WEEK) for i in range(where.count)
        )
        for i, other in enumerate(others, start=1):
            if other != first:
                raise UserError(
                    f"{_job.name(i)} and process 0 differ in {what}; start all with the same "
                    "command, on storage that all of them share"
                )
