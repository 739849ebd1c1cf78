"""A short pass of the fuzzer over the decode path; the long one is a command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import decode

CASES = 800


def test_the_corpus_is_small_and_has_every_format() -> None:
    sizes = [path.stat().st_size for path in decode.CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 100_000
    assert {path.name for path in decode.CORPUS.iterdir()} == set(decode.FORMATS)


@pytest.mark.parametrize("name", decode.FORMATS)
def test_the_corpus_is_read(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(decode.seeds(name)):
        assert decode.decode(seed, tmp_path / "case"), f"{name}/{number:02}"


def test_mutations_are_sounds_or_typed_errors_in_bounded_memory() -> None:
    """In a process of its own, which a fault in a decoder would end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.decode", "--plain", f"--cases={CASES}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = dict(re.findall(r"^(\w+): (\d+) cases", done.stdout, re.MULTILINE))
    assert ran == {name: str(CASES + len(decode.seeds(name))) for name in decode.FORMATS}


def test_ogg_checksums_are_put_right() -> None:
    for seed in decode.seeds("ogg"):
        assert decode.repaired(seed) == seed
        broken = seed[:22] + bytes(4) + seed[26:]
        assert decode.repaired(broken) == seed != broken
