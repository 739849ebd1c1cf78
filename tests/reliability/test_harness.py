"""A few kills, signals and faults of the many that the harness beside this file can make."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("script", "flags", "expected"),
    [
        ("kills.py", ["--kills=5", "--cases=2"], r"5 kills, \d+ of them during a save, .* 0 lost"),
        ("faults.py", ["--faults=12"], r"12 faults, 0 lost"),
    ],
)
def test_nothing_is_lost(script: str, flags: list[str], expected: str) -> None:
    command = [sys.executable, str(HERE / script), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(expected, done.stdout), done.stdout
