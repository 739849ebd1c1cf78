"""Trains as several processes that share each batch, and takes some of them away.

    python -m tests.reliability.hosts --processes          # 1, 2 and 4 of two CPU devices each
    python -m tests.reliability.hosts --namespaces         # three hosts in network namespaces

The processes of one machine must have the losses of one process within 1e-5, write one checkpoint
and one set of curves together, read no more than their own part of a batch, and go on from what
another number of them has saved. Of the hosts one is cut off or killed at a random moment, so many
times (`--losses`): the others must end in time with status 75 and one line that names it, and a new
start must come to the SHA-256 of every array and prediction of a run that nothing disturbed. Prints
counts; the exit status is 1 if anything was lost, and 3 where no namespaces can be made.
"""

import argparse
import atexit
import collections
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.reliability.namespaces import Hosts

TOLERANCE = 1e-5
LOST_SECONDS = 8  # JAXSOUND_LOST_SECONDS of the runs in namespaces
SLACK_SECONDS = 8.0  # for the processes to look at the clock and to end, on a busy machine
STEP_SECONDS = 0.15  # added to each step, so that there is a middle to cut
NO_NAMESPACES = 3


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--namespaces", action="store_true")
    parser.add_argument("--counts", default="1,2,4", help="of processes, with --processes")
    parser.add_argument("--cases", type=int, default=2, help="of the 8 ways to train, the first")
    parser.add_argument("--losses", type=int, default=12, help="of hosts, with --namespaces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="kept afterwards; else a temporary folder")
    options = parser.parse_args(argv)
    if options.processes == options.namespaces:
        parser.error("give either --processes or --namespaces")
    return options


class Job:
    """The processes of one start of a run; what process i prints is added to `WORKDIR.i.log`."""

    def __init__(
        self,
        case: Any,
        workdir: Path,
        count: int,
        *more: str,
        hosts: Hosts | None = None,
        slow: bool = False,
    ):
        self.workdir, self.count = workdir, count
        self.before = [len(self._log(i)) for i in range(count)]
        coordinator = f"{hosts.address(0)}:7333" if hosts else f"127.0.0.1:{_free_port()}"
        self.statuses: list[int | None] = [None] * count
        self.ended = [0.0] * count  # of the monotonic clock
        from tests.reliability import runs

        def run(i: int) -> Callable[[], int]:
            def begin() -> int:
                if hosts:
                    hosts.enter(i)
                os.environ |= _environment(i, count, coordinator)
                observe(slow)
                sys.argv = [*case.argv(workdir), *more]
                status = runs.main.main(sys.argv)
                atexit._run_exitfuncs()  # as at the end of an interpreter
                return status

            return begin

        self.pids = [runs.fork(run(i), self._path(i)) for i in range(count)]

    def _path(self, i: int) -> str:
        return f"{self.workdir}.{i}.log"

    def _log(self, i: int) -> str:
        path = Path(self._path(i))
        return path.read_text(errors="replace") if path.exists() else ""

    def said(self, i: int) -> str:
        """What a process of this start has printed."""
        return self._log(i)[self.before[i] :]

    def running(self) -> bool:
        for i, pid in enumerate(self.pids):
            if self.statuses[i] is None:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self.statuses[i] = os.waitstatus_to_exitcode(status)
                    self.ended[i] = time.monotonic()
        return None in self.statuses

    def wait(self, seconds: float = 300.0, until: Callable[[], bool] = lambda: False) -> bool:
        """Until all have ended, or something is true; whether that came in time."""
        deadline = time.monotonic() + seconds
        while self.running() and not until():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def kill(self, i: int, number: int) -> None:
        os.kill(self.pids[i], number)

    def close(self) -> None:
        if self.running():
            for pid, status in zip(self.pids, self.statuses, strict=True):
                if status is None:
                    os.kill(pid, signal.SIGKILL)
            self.wait()

    def explain(self) -> str:
        tails = [f"process {i}: {self.said(i)[-700:]}" for i in range(self.count)]
        return f"statuses {self.statuses}\n" + "\n".join(tails)


def _environment(i: int, count: int, coordinator: str) -> dict[str, str]:
    if count == 1:
        return {}
    return {
        "JAXSOUND_COORDINATOR": coordinator,
        "JAXSOUND_NUM_PROCESSES": str(count),
        "JAXSOUND_PROCESS_ID": str(i),
        "JAXSOUND_LOST_SECONDS": str(LOST_SECONDS),
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def observe(slow: bool) -> None:
    """In a run's own process: prints how many rows a batch has here, and makes steps last."""
    from jaxsound.input.pipeline import Feed
    from jaxsound.training.progress import Progress

    fetch, stepped, seen = Feed._fetch, Progress.stepped, set()

    def fetched(self: Any, *args: Any, **more: Any) -> Any:
        batch = fetch(self, *args, **more)
        rows = len(batch["label"])
        if rows not in seen:
            seen.add(rows)
            print(f"rows {rows}", flush=True)
        return batch

    def waited(self: Any, *args: Any) -> None:
        stepped(self, *args)
        time.sleep(STEP_SECONDS)

    Feed._fetch = fetched  # type: ignore[method-assign]
    if slow:
        Progress.stepped = waited  # type: ignore[method-assign]


def curves(workdir: Path) -> dict[int, list[tuple[int, float]]]:
    """Step and training loss of each fold, as they were written."""
    found = {}
    for fold in (1, 2):
        path = workdir / f"fold_{fold}" / "metrics.jsonl"
        lines = map(json.loads, path.read_text().splitlines())
        found[fold] = [(x["step"], x["train/loss"]) for x in lines if "train/loss" in x]
    return found


def steps_saved(workdir: Path) -> list[int]:
    """Of all folds, those in place."""
    paths = workdir.glob("fold_*/checkpoints/*")
    return sorted(int(path.name) for path in paths if path.name.isdecimal())


class Checks:
    """What was tried, and what of it was lost."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.lost: list[str] = []
        self.farthest = self.slowest = 0.0
        self.began = time.monotonic()

    def expect(self, good: bool, what: str) -> bool:
        if not good:
            self.lost.append(what)
            print(f"LOST {what}", flush=True)
        return good

    def same_losses(self, workdir: Path, expected: dict[int, Any], what: str) -> None:
        for fold, points in curves(workdir).items():
            steps, values = zip(*points, strict=True)
            wanted, right = zip(*expected[fold], strict=True)
            if self.expect(steps == wanted, f"{what}: fold {fold} has the steps {steps}"):
                far = max(abs(a - b) for a, b in zip(values, right, strict=True))
                self.farthest = max(self.farthest, far)
                self.expect(far <= TOLERANCE, f"{what}: losses of fold {fold} differ by {far:.1e}")
                self.counts["losses"] += len(values)

    def one_of_each(self, workdir: Path, what: str) -> None:
        """One whole checkpoint of each step, and one file of curves."""
        from jaxsound.job import integrity

        for path in workdir.glob("fold_*/checkpoints/*"):
            fault = integrity.fault(path) if path.name.isdecimal() else "it is not a checkpoint"
            self.expect(not fault, f"{what}: {path}: {fault}")
            self.counts["checkpoints"] += 1
        for fold in (1, 2):
            written = list((workdir / f"fold_{fold}").glob("events.out.tfevents.*"))
            self.expect(len(written) == 1, f"{what}: {len(written)} event files of fold {fold}")


def processes(options: argparse.Namespace, scratch: Path, checks: Checks) -> str:
    """The same losses and one checkpoint with any number of processes, also when it changes."""
    from tests.reliability import runs

    numbers = [int(count) for count in options.counts.split(",")]
    for case in runs.CASES[: options.cases]:
        expected: dict[int, Any] = {}
        for count in numbers:
            workdir, what = scratch / f"{case.model}_{count}", f"{case.name}, {count} processes"
            with _job(case, workdir, count) as job:
                job.wait()
                if not checks.expect(not any(job.statuses), f"{what}: {job.explain()}"):
                    continue
                for i in range(count):
                    rows = re.findall(r"rows (\d+)", job.said(i))
                    checks.expect(rows == [str(160 // count)], f"{what}: {i} read {rows} rows")
            expected = expected or curves(workdir)
            checks.same_losses(workdir, expected, what)
            checks.one_of_each(workdir, what)
            checks.counts["runs"] += 1
            print(f"{what}: {checks.farthest:.1e}; {_clock(checks)}", flush=True)
        for first, then in itertools.permutations(numbers, 2):
            what = f"{case.name}, {first} and then {then} processes"
            workdir = scratch / f"{case.model}_{first}_{then}"
            done = _resumed(case, workdir, first, then, checks, what)
            if done and checks.expect(bool(expected), f"{what}: nothing to compare"):
                checks.same_losses(workdir, expected, what)
            print(f"{what}: {checks.farthest:.1e}; {_clock(checks)}", flush=True)
    return (
        f"{checks.counts['runs']} runs of {options.counts} processes, "
        f"{checks.counts['resumed']} resumed with another number; {checks.counts['losses']} losses "
        f"at most {checks.farthest:.1e} apart, {checks.counts['checkpoints']} checkpoints whole"
    )


def _resumed(case: Any, workdir: Path, first: int, then: int, checks: Checks, what: str) -> bool:
    with _job(case, workdir, first, slow=True) as job:
        job.wait(until=lambda: bool(steps_saved(workdir)))
        job.kill(0, signal.SIGTERM)
        job.wait(60)
        if not checks.expect(set(job.statuses) == {75}, f"{what}: {job.explain()}"):
            return False
    with _job(case, workdir, then) as job:
        job.wait()
        done = checks.expect(not any(job.statuses), f"{what}: {job.explain()}")
        checks.counts["resumed"] += done
    return done


def namespaces(options: argparse.Namespace, scratch: Path, checks: Checks) -> str:
    """Hosts that are cut off or killed: the others say so and end, and nothing is lost."""
    from tests.reliability import runs

    rng = random.Random(options.seed)
    more = ("--config.batch_size=156",)  # over three hosts with two devices each
    whole: dict[Any, dict[str, str]] = {}
    with Hosts(3) as hosts:
        for number in range(options.losses):
            case = runs.CASES[number % options.cases]
            if case not in whole:
                place = scratch / f"{case.model}_whole"
                with _job(case, place, 3, *more, hosts=hosts) as job:
                    job.wait()
                    if not checks.expect(not any(job.statuses), f"undisturbed: {job.explain()}"):
                        break
                whole[case] = _digests(place)
            victim, cut = number % 3, number // 3 % 2 == 0
            workdir = scratch / f"lost_{number}"
            event = "link down" if cut else "SIGKILL"
            what = f"{case.name}, process {victim}, {event}"
            with _job(case, workdir, 3, *more, hosts=hosts, slow=True) as job:
                _lose(job, victim, hosts if cut else None, rng, checks, what)
            hosts.mend(victim)
            with _job(case, workdir, 3, *more, hosts=hosts) as job:
                job.wait()
                if checks.expect(not any(job.statuses), f"{what}: {job.explain()}"):
                    found = _digests(workdir)
                    wrong = [k for k in whole[case] if found.get(k) != whole[case][k]]
                    checks.expect(not wrong, f"{what}: {len(wrong)} arrays differ: {wrong[:1]}")
                    checks.counts["arrays"] += len(found)
            checks.counts[event] += 1
            print(f"{what}: {len(checks.lost)} lost; {_clock(checks)}", flush=True)
    return (
        f"{checks.counts['link down']} hosts cut off and {checks.counts['SIGKILL']} killed, of 3; "
        f"the slowest of the others ended {checks.slowest:.1f} s later, {LOST_SECONDS} s "
        f"configured; {checks.counts['arrays']} arrays and predictions compared by SHA-256"
    )


def _lose(
    job: Job, victim: int, hosts: Hosts | None, rng: random.Random, checks: Checks, what: str
) -> None:
    """Takes a host away in the middle and looks at how the others end."""
    job.wait(until=lambda: bool(steps_saved(job.workdir)))
    time.sleep(rng.uniform(0, 10 * STEP_SECONDS))
    if hosts:
        hosts.cut(victim)
    else:
        job.kill(victim, signal.SIGKILL)
    at = time.monotonic()
    job.wait(LOST_SECONDS + SLACK_SECONDS)
    for i in range(3):
        killed = i == victim and hosts is None
        if not checks.expect(job.statuses[i] == (-9 if killed else 75), f"{what}: {job.explain()}"):
            return
        if killed:
            continue
        checks.slowest = max(checks.slowest, job.ended[i] - at)
        lines = [line for line in job.said(i).splitlines() if " lost: nothing " in line]
        noise = re.search(r"Traceback|stack trace|^F\d{4} ", job.said(i), re.MULTILINE)
        named = i == victim or (lines and f"process {victim} of 3 (" in lines[0])
        good = len(lines) == 1 and named and not noise
        checks.expect(good, f"{what}: process {i} said {job.said(i)[-700:]}")
        checks.counts["lines"] += good


def _digests(workdir: Path) -> dict[str, str]:
    """In a process of its own, since JAX must not have been used where others are forked."""
    from tests.reliability import runs

    assert runs.wait(runs.fork(lambda: runs.write_digests(workdir), f"{workdir}.log"), 120) == 0
    return json.loads((workdir / runs.DIGESTS).read_text())


@contextlib.contextmanager
def _job(*args: Any, **more: Any) -> Iterator[Job]:
    job = Job(*args, **more)
    try:
        yield job
    finally:
        job.close()


def _clock(checks: Checks) -> str:
    return f"{time.monotonic() - checks.began:.0f} s"


def main(argv: list[str]) -> int:
    options = parse(argv)
    scratch = options.scratch or Path(tempfile.mkdtemp(prefix="jobs-"))
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        "JAXSOUND_CACHE": os.environ.get("JAXSOUND_CACHE", str(scratch / "cache")),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Compiling takes most of such a run.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    checks = Checks()
    try:
        told = (processes if options.processes else namespaces)(options, scratch, checks)
    except OSError as error:
        if options.processes:
            raise
        print(f"no network namespaces here: {error}", file=sys.stderr)
        return NO_NAMESPACES
    print(f"\n{told}; {len(checks.lost)} lost; {_clock(checks)}")
    if not options.scratch and not checks.lost:
        shutil.rmtree(scratch)
    return int(bool(checks.lost))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
