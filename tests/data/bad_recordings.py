"""Kinds of bad recordings and of odd good ones, each with what must become of it.

    python -m tests.data.bad_recordings             # makes and reads them all, prints the counts
    python -m tests.data.bad_recordings --write     # and writes the table of docs/recordings.md
    python -m tests.data.bad_recordings --keep DIR  # and leaves them there

The status is 1 when one of them did not come out as documented, or took too much memory.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxsound.data import audio
from tests.data import bad_codings, bad_containers, bad_files
from tests.data.waves import Kind

PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"
MOST = 200e6  # bytes that reading any of them may add to the process
KINDS: tuple[Kind, ...] = (*bad_containers.KINDS, *bad_codings.KINDS, *bad_files.KINDS)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one: "used" or the error's reason, and the peak of memory in bytes."""

    words: str
    path: Path
    named: str  # the path of the error
    line: str  # the error as it is printed
    peak: int


def read(kind: Kind, folder: Path) -> Outcome:
    """Makes one in a folder of its own and reads it as the preparation does."""
    place = folder / kind.name
    place.mkdir()
    path = kind.make(place)
    with as_nobody() if kind.unreadable else contextlib.nullcontext():
        error = read_error(path)
        assert str(check_error(path)) == str(error)
    if error is None:
        return Outcome("used", path, "", "", peak_memory())
    return Outcome(error.reason, path, error.path, str(error), peak_memory())


def read_error(path: Path) -> audio.AudioError | None:
    """The error of `audio.read`; without one, what it returns is as promised."""
    try:
        samples, rate = audio.read(path)
    except audio.AudioError as error:
        return error
    assert samples.ndim == 1
    assert samples.dtype == np.int16
    assert samples.size
    assert audio.MIN_RATE <= rate <= audio.MAX_RATE
    return None


def check_error(path: Path) -> audio.AudioError | None:
    """The error of `audio.check`."""
    try:
        audio.check(path)
    except audio.AudioError as error:
        return error
    return None


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so it is somebody else meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def peak_memory() -> int:
    """The most that this process has held until now, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def plain(words: str) -> str:
    """A reason without its numbers, which follow from the file and the encoder."""
    return re.sub(r"\b\d+(\.\d+)?(e[+-]?\d+)?", "N", words)


def table() -> str:
    """The table of the page: what the recording is, and what becomes of it."""
    rows = ["| recording | outcome |", "|---|---|"]
    for kind in KINDS:
        used = kind.outcome == "used"
        rows.append(f"| {kind.what} | {'used' if used else f'refused: {kind.outcome}'} |")
    return "\n".join(rows) + "\n"


def write_page() -> None:
    """Puts the table into the page, between its first row and the next empty line."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("| recording |")
    _, _, after = rest.partition("\n\n")
    PAGE.write_text(f"{before}{table()}\n{after}".rstrip() + "\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    """Runs what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the page's table")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the recordings there")
    args = parser.parse_args(argv)
    if args.write:
        write_page()
    wrong = used = 0
    with contextlib.ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        before = peak_memory()
        for kind in KINDS:
            found = read(kind, folder)
            used += found.words == "used"
            if plain(found.words) != kind.outcome or (
                found.named and found.named != str(found.path)
            ):
                wrong += 1
                print(f"{kind.name}: {found.words!r} where {kind.outcome!r} is documented")
        added = peak_memory() - before
    refused = len(KINDS) - used
    print(f"{len(KINDS)} kinds: {used} used, {refused} refused, {wrong} not as documented")
    print(f"{added / 1e6:.0f} MB of memory added at most, {MOST / 1e6:.0f} allowed")
    return 1 if wrong or added > MOST else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
