"""A few of the runs over several processes and hosts that the harness beside this file can make."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.hosts import NO_NAMESPACES

ROOT = Path(__file__).parents[2]


def harness(cache: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.reliability.hosts", "--cases=1", *flags],
        cwd=ROOT,
        env=os.environ | {"JAXSOUND_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_two_processes_have_the_losses_of_one_and_each_goes_on_from_the_other(cache: Path) -> None:
    done = harness(cache, "--processes", "--counts=1,2")
    assert done.returncode == 0, done.stdout + done.stderr
    told = r"2 runs of 1,2 processes, 2 resumed with another number; 128 losses .*; 0 lost"
    assert re.search(told, done.stdout), done.stdout


def test_a_host_that_is_cut_off_is_named_by_the_others_and_nothing_is_lost(cache: Path) -> None:
    done = harness(cache, "--namespaces", "--losses=1", "--seed=1")
    if done.returncode == NO_NAMESPACES:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 hosts cut off and 0 killed, of 3;" in done.stdout
    assert "; 0 lost;" in done.stdout
