"""Who is lost is named in time by those who are left; who fails is not taken for lost."""

import json
import socket
import threading
from typing import Any

import jax
import pytest

from jaxsound.errors import UserError
from jaxsound.job import hosts, relay

NAMES = ("JAXSOUND_COORDINATOR", "JAXSOUND_NUM_PROCESSES", "JAXSOUND_PROCESS_ID")
SLURM = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_PROCID")
LOST_AFTER = 10.0


class Service:
    """Stands for the coordination service and JAX's client of it."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.answers = True

    def key_value_set(self, key: str, value: str, overwrite: bool = False) -> None:
        if not self.answers or (key in self.values and not overwrite):
            raise jax.errors.JaxRuntimeError("no")
        self.values[key] = value

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]:
        if not self.answers:
            raise jax.errors.JaxRuntimeError("no")
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]

    def blocking_key_value_get(self, key: str, _: int) -> str:
        return self.values[key]


class Ended(BaseException):
    """In place of the end of this process."""


class Job:
    """Three watches of one service, and a clock that is turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        monkeypatch.setattr(hosts.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(hosts.time, "sleep", lambda _: None)
        monkeypatch.setattr(hosts.os, "_exit", self.exit)
        self.service = Service()
        self.watches = [
            hosts.Watch(self.service, hosts.Place("first:1", 3, i), LOST_AFTER) for i in range(3)
        ]
        for i, watch in enumerate(self.watches):
            watch.host = f"host{i}"

    def exit(self, status: int) -> None:
        raise Ended(status)

    def second(self, *here: int) -> None:
        """A second passes in which these processes count and look."""
        self.now += 1
        for i in here:
            if self.service.answers:
                self.watches[i].count()
        for i in here:
            self.watches[i].judge()

    def until_one_ends(self, *here: int) -> tuple[float, int]:
        began = self.now
        try:
            while self.now < began + 100:
                self.second(*here)
        except Ended as ended:
            return self.now - began, ended.args[0]
        raise AssertionError("none ended")


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    job = Job(monkeypatch)
    for _ in range(30):
        job.second(0, 1, 2)
    return job


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_who_stops_counting_is_named_in_time_by_all_others(
    lost: int, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [i for i in range(3) if i != lost]
    seconds, status = job.until_one_ends(*left)
    assert status == 75
    assert LOST_AFTER < seconds <= LOST_AFTER + 2
    first = capsys.readouterr().err
    assert first.count("\n") == 2  # a progress bar's line ends before
    assert f"process {lost} of 3 (host{lost}) is lost: nothing was heard of it for 10 s" in first
    seconds, status = job.until_one_ends(left[1])
    assert (seconds, status) == (1, 75)
    assert capsys.readouterr().err == first


def test_a_service_that_does_not_answer_is_process_0(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job.service.answers = False
    seconds, status = job.until_one_ends(2)
    assert status == 75
    assert LOST_AFTER < seconds <= LOST_AFTER + 2
    said = capsys.readouterr().err
    assert "process 0 of 3 (host0) is lost" in said
    assert "process 1" not in said


def test_who_fails_takes_the_others_along_with_its_status(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []
    monkeypatch.setattr(hosts.atexit, "register", left.append)
    job.watches[1].failed(UserError("this disk is full"))
    seconds, status = job.until_one_ends(2)
    assert (seconds, status) == (1, 2)
    assert "process 1 of 3 (host1) ended with status 2; its output says why" in (
        capsys.readouterr().err
    )
    with pytest.raises(Ended, match="2"):
        left[0]()


def test_a_collective_that_fails_waits_for_the_name_of_who_is_lost(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(hosts.time, "sleep", slept.append)
    monkeypatch.setattr(hosts.atexit, "register", lambda _: None)
    evaluation = RuntimeError("evaluator failed")
    evaluation.__cause__ = jax.errors.JaxRuntimeError("Gloo: connection reset by peer")
    job.watches[1].failed(evaluation)
    assert slept[0] > LOST_AFTER + 2
    slept.clear()
    job.watches[2].failed(ValueError("our own"))
    assert not slept


def test_processes_that_differ_are_named_with_what_differs(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, watch in enumerate(job.watches):
        for what in ("clips", "configuration"):
            other = "else" if (i, what) == (2, "configuration") else "same"
            job.service.values.pop(f"jaxsound/facts/{what}/{i}", None)
            watch.client.key_value_set(f"jaxsound/facts/{what}/{i}", other)
    monkeypatch.setattr(job.service, "key_value_set", lambda *_: None)
    monkeypatch.setattr(hosts, "_job", job.watches[1])
    hosts.agree({"clips": "same"})
    with pytest.raises(UserError, match=r"process 2 of 3 \(host2\) and process 0 differ in config"):
        hosts.agree({"clips": "same", "configuration": "same"})
    monkeypatch.setattr(hosts, "_job", None)
    hosts.agree({"configuration": "alone"})


def test_a_place_is_read_from_launch_s_or_slurm_s_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def place(names: tuple[str, ...], *values: str) -> Any:
        for name in (*NAMES, *SLURM):
            monkeypatch.delenv(name, raising=False)
        for name, value in zip(names, values, strict=False):
            monkeypatch.setenv(name, value)
        return hosts.place()

    assert place(()) is None
    assert place(NAMES, "first:7", "2", "1") == hosts.Place("first:7", 2, 1)
    assert place(SLURM, "n[003-007,9],m1", "4", "4097", "3") == hosts.Place("n003:61441", 4, 3)
    assert place(SLURM, "n[3,9]", "4", "0", "0").coordinator == "n3:61440"
    assert place(SLURM, "a-b-1,n[3,9]", "4", "0", "0").coordinator == "a-b-1:61440"
    assert place(SLURM, "n1", "1", "0", "0") is None
    for wrong in (("first:7", "2", "2"), ("first:7", "2"), ("first", "2", "0"), ("a:1", "x", "0")):
        with pytest.raises(UserError, match="JAXSOUND_PROCESS_ID"):
            place(NAMES, *wrong)
    monkeypatch.setenv("JAXSOUND_LOST_SECONDS", "0")
    with pytest.raises(UserError, match="JAXSOUND_LOST_SECONDS=0: must be a whole number"):
        hosts._seconds("JAXSOUND_LOST_SECONDS", 60)


def test_a_relay_passes_everything_on_but_the_coordinator_s_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = relay.start(f"localhost:{server.getsockname()[1]}")
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            coordinator, _ = server.accept()
            sent = bytes(range(256)) * 4096
            threading.Thread(target=client.sendall, args=(sent,)).start()
            assert _read(coordinator, len(sent)) == sent
            coordinator.sendall(json.dumps("answer").encode())
            assert client.recv(100) == b'"answer"'
            coordinator.close()
            client.sendall(b"is anybody there?" * 1000)
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(100)


def _read(end: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        got += end.recv(count - len(got))
    return got
