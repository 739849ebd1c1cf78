"""SIGTERM and SIGINT save and leave with a status that says so; a second one leaves at once."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A run whose every step waits a little, so that a signal finds it between two saves.
SLOW = """
import sys, time
from jaxsound import main, train
stepped = train.Progress.stepped
def slow(self, step, metrics, count):
    stepped(self, step, metrics, count)
    print("stepped", step, flush=True)
    time.sleep(0.3)
train.Progress.stepped = slow
sys.exit(main.main(sys.argv))
"""
RUN = [
    f"--config={ROOT}/tests/reliability/config.py:cnn",
    "--config.checkpoint_every=0",
    "--config.folds=(1,)",
]


@pytest.fixture(scope="module")
def environment(cache: Path) -> dict[str, str]:
    return os.environ | {
        "JAXSOUND_CACHE": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def begin(environment: dict[str, str], workdir: Path, *prefix: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, *RUN, f"--workdir={workdir}"]
    return subprocess.Popen(
        [*prefix, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(said)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_the_next_start_goes_on(
    number: signal.Signals, status: int, environment: dict[str, str], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    with begin(environment, workdir) as process:
        until(process, "stepped 3")
        asked = time.monotonic()
        process.send_signal(number)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == status, said
    assert time.monotonic() - asked < 30
    (line,) = [line for line in said.splitlines() if line.startswith("stopped by")]
    told = re.search(rf"stopped by {number.name}: step (\d+) of fold 1 is saved", line)
    assert told, line
    step = int(told[1])
    assert step >= 3
    assert (workdir / "fold_1" / "checkpoints" / told[1] / "manifest.json").is_file()
    with begin(environment, workdir) as process:
        assert f"stepped {step + 1}\n" in until(process, "stepped ")
        process.send_signal(number)
        time.sleep(1.2)
        process.send_signal(number)  # at once, or it had left in order by then
        said = process.communicate(timeout=60)[0]
    assert process.returncode in (status, -number, 128 + number), said


def test_two_processes_stop_at_one_step(environment: dict[str, str], tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    launcher = (sys.executable, "launch/local.py", "2", "--")
    with begin(environment, workdir, *launcher) as process:
        until(process, "stepped 3")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=90)[0]
    assert process.returncode == 75, said
    steps = re.findall(r"stopped by SIGTERM: step (\d+) of fold 1 is saved", said)
    assert len(steps) == 2, said
    assert steps[0] == steps[1]
    assert [p.name for p in (workdir / "fold_1/checkpoints").glob("[0-9]*")] == [steps[0]]
