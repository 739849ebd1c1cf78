"""launch/local.py: every process gets its place in the job, and none outlives a failure."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[1] / "launch" / "local.py"


def launch(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LAUNCHER), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


@pytest.mark.parametrize("count", [["2"], ["--processes", "2"], ["--processes=2"]])
def test_processes_get_one_coordinator_and_their_own_number(count: list[str]) -> None:
    names = "COORDINATOR", "NUM_PROCESSES", "PROCESS_ID"
    code = f"import os; print(*[os.environ['JAXSOUND_' + n] for n in {names}])"
    done = launch(*count, *python(code))
    assert (done.returncode, done.stderr) == (0, "")
    first, second = sorted(line.split() for line in done.stdout.splitlines())
    assert first[0] == "[0]"
    assert second[0] == "[1]"
    assert first[1] == second[1]  # host:port
    assert int(first[1].rpartition(":")[2]) > 0
    assert first[2:] == ["2", "0"]
    assert second[2:] == ["2", "1"]


def test_every_line_keeps_its_prefix() -> None:
    code = (
        "import sys\nfor i in range(3000): print(i, 'é', file=sys.stderr if i % 2 else sys.stdout)"
    )
    done = launch("3", *python(code))
    lines = done.stdout.splitlines()
    assert len(lines) == 9000
    for process in range(3):
        assert sum(line.startswith(f"[{process}] ") for line in lines) == 3000


def test_gpus_are_divided() -> None:
    done = launch(
        "2", "--gpus", "2", *python("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    )
    assert sorted(done.stdout.split("\n")) == ["", "[0] 0,1", "[1] 2,3"]


def is_running(pid: int) -> bool:
    """Whether the process exists; one that ended and waits for its parent does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # Linux alone: "pid (name) state ..."
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def end_soon(pids: str) -> bool:
    """Whether all of them are gone within 5 s: an orphan is collected by init, in its own time."""
    deadline = time.monotonic() + 5
    while any(is_running(int(pid)) for pid in pids.split()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# Process 0 waits for ever with a child of its own, whose pid it has written down.
SURVIVOR = """
import os, subprocess, sys, time, pathlib
pid_file = pathlib.Path(sys.argv[1])
if os.environ["JAXSOUND_PROCESS_ID"] == "0":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    pid_file.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    pid_file.with_suffix(".new").rename(pid_file)
    time.sleep(300)
while not pid_file.exists():
    time.sleep(0.01)
FAIL
"""


@pytest.mark.parametrize(
    ("failure", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_a_failure_stops_the_others_and_is_passed_on(
    tmp_path: Path, failure: str, status: int
) -> None:
    pid_file = tmp_path / "pids"
    started = time.monotonic()
    done = launch("2", *python(SURVIVOR.replace("FAIL", failure)), str(pid_file))
    assert done.returncode == status
    assert f"process 1 failed with status {status}: stopping the others" in done.stdout
    assert time.monotonic() - started < 30
    assert end_soon(pid_file.read_text())


def test_a_terminated_launcher_leaves_nothing_behind(tmp_path: Path) -> None:
    pid_file = tmp_path / "pids"
    code = python(SURVIVOR.replace("FAIL", "time.sleep(300)"))
    launcher = subprocess.Popen([sys.executable, str(LAUNCHER), "2", *code, str(pid_file)])
    while not pid_file.exists():
        time.sleep(0.05)
    launcher.terminate()
    assert launcher.wait(timeout=30) == 128 + 15
    assert end_soon(pid_file.read_text())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["2"], "no program []: write the command after --"),
        (["0", "--", "true"], "N must be 1 or more"),
        (["--", "true"], "N must be 1 or more"),
        (["2", "--", "no-such-program"], "no program ['no-such-program']: write"),
    ],
)
def test_a_bad_call_says_what_is_wrong(args: list[str], message: str) -> None:
    done = launch(*args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
