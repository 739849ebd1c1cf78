"""Throws broken files at the decode path: each must be a sound or one typed line.

    python -m tests.fuzz.decode wav                  # a million cases; also flac, ogg, mp3, aiff
    python -m tests.fuzz.decode wav --cases=20000 --keep=DIR
    python -m tests.fuzz.decode wav flac --plain     # without atheris: seeded mutations
    python -m tests.fuzz.decode --write              # makes the corpus anew

Guided by the coverage of jaxsound's own Python with atheris (`pip install atheris`); libsndfile is
the wheel's, without instruments, so it is reached by mutation alone. A crash, a hang, an untyped
error or memory beyond the limit ends with a status other than 0, and atheris leaves the case as
`crash-*` or `timeout-*` in the current directory; `--plain FILE...` reads such files again.
"""

import argparse
import contextlib
import os
import random
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxsound.data import audio

CORPUS = Path(__file__).parent / "corpus"
FORMATS = ("wav", "flac", "ogg", "mp3", "aiff")
LARGEST = 16_384  # bytes of a case
SMALL = 2**21  # bytes of sound that count as an expansion here, so that cases stay quick
MOST_MEMORY = 200e6  # bytes that all cases together may add to the process
SLOWEST = 10  # seconds of the processor; atheris knows the clock alone, and gets ten times that
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 2**32 - 1)


def decode(case: bytes, path: Path) -> bool:
    """Reads one case from `path`; True if it is a sound. Raises whatever must not happen."""
    path.write_bytes(case)
    try:
        samples, rate = audio.read(path)
    except audio.AudioError as error:
        if not str(error).startswith(f"{path}: {error.reason}") or not str(error).isprintable():
            raise AssertionError(f"not a line: {str(error)!r}") from error
        return False
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    assert samples.size
    assert audio.MIN_RATE <= rate <= audio.MAX_RATE
    assert samples.nbytes <= max(SMALL, len(case) * audio.MAX_EXPANSION)
    return True


def seeds(name: str) -> list[bytes]:
    """The corpus of a format."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutate(case: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to eight small changes, as fuzzers make them, and mostly the checksums put right."""
    found = bytearray(case)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(found) + 1) if rng.random() < 0.5 else rng.randrange(64)
        at = min(at, len(found))
        kind = rng.randrange(7)
        if kind == 0:
            found[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            size = rng.choice((1, 2, 4, 8))
            order = rng.choice(("little", "big"))
            number = rng.choice(_NUMBERS) % 2 ** (8 * size)
            found[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 3:
            del found[at : at + rng.choice((1, 2, 4, 100))]
        elif kind == 4:
            found[at:at] = found[at : at + rng.choice((1, 4, 8, 200))]
        elif kind == 5:
            other = rng.choice(others)
            begin = rng.randrange(len(other))
            found[at : at + rng.choice((0, 16))] = other[begin : begin + rng.choice((4, 16, 300))]
        elif rng.random() < 0.2:
            del found[at:]
    return repaired(bytes(found[:LARGEST])) if rng.random() < 0.8 else bytes(found[:LARGEST])


def repaired(case: bytes) -> bytes:
    """Ogg pages with their checksums right, without which a decoder looks no further."""
    found, at = bytearray(case), case.find(b"OggS")
    while 0 <= at <= len(found) - 27:
        segments = found[at + 27 : at + 27 + found[at + 26]]
        end = at + 27 + len(segments) + sum(segments)
        found[at + 22 : at + 26] = bytes(4)
        mirrored = zlib.crc32(bytes(found[at:end]).translate(_REVERSED), 2**32 - 1) ^ (2**32 - 1)
        found[at + 22 : at + 26] = mirrored.to_bytes(4, "big").translate(_REVERSED)
        at = found.find(b"OggS", at + 27)
    return bytes(found)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A file to write cases to, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "case"


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keeps what decoders print by themselves off the terminal."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def plain(name: str, cases: int, seconds: float) -> int:
    """The corpus and seeded mutations of it; prints the counts and returns how many ran.

    A case that ends the process is found by `--cases` of fewer: each depends on its number alone.
    """
    corpus, until = seeds(name), time.monotonic() + seconds
    sounds = ran = 0
    with scratch() as path:
        for number in range(-len(corpus), cases):
            case = corpus[number] if number < 0 else seeded(name, corpus, number)
            began = time.process_time()
            try:
                with muted():
                    sounds += decode(case, path)
            except BaseException:
                print(f"{name}: case {number} is neither a sound nor a typed error", flush=True)
                raise
            if time.process_time() - began > SLOWEST:
                raise AssertionError(f"{name}: case {number} took more than {SLOWEST} s")
            ran += 1
            if time.monotonic() > until:
                break
    print(f"{name}: {ran} cases, {len(corpus)} of them the corpus, {sounds} were sounds")
    return ran


def seeded(name: str, corpus: list[bytes], number: int) -> bytes:
    """Mutation number so and so."""
    rng = random.Random(f"{name} {number}")
    return mutate(rng.choice(corpus), corpus, rng)


def guided(name: str, cases: int, keep: Path | None) -> None:
    """Hands over to atheris; does not return."""
    import atheris

    atheris.instrument_func(decode)
    for module in (audio, audio.container):
        for key, value in vars(module).items():
            if getattr(value, "__module__", "") == module.__name__ and hasattr(value, "__code__"):
                setattr(module, key, atheris.instrument_func(value))
    others = seeds(name)
    place = scratch()
    path = place.__enter__()
    folder = keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)

    def change(case: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5 or not case:
            return repaired(atheris.Mutate(case, most))
        return mutate(case, others, rng)[:most]

    flags = (
        f"-runs={cases}",
        f"-max_len={LARGEST}",
        f"-timeout={10 * SLOWEST}",
        "-rss_limit_mb=1024",
    )
    argv = [sys.argv[0], *flags, "-close_fd_mask=3", str(folder), str(CORPUS / name)]
    atheris.Setup(argv, lambda case: decode(case, path) and None, custom_mutator=change)
    atheris.Fuzz()


def write_corpus() -> None:
    """Short recordings of every coding of each format that is read."""
    from tests.fuzz.corpus_makers import MAKERS

    for name, makers in MAKERS.items():
        for number, make in enumerate(makers):
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            (CORPUS / name / f"{number:02}").write_bytes(make())


def main(argv: list[str]) -> int:
    """Runs what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", help=f"{', '.join(FORMATS)}; with --plain also files")
    parser.add_argument("--cases", type=int, default=1_000_000, help="of each format")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="--plain: at most")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="what atheris finds, to go on with"
    )
    parser.add_argument("--plain", action="store_true", help="seeded mutations, without atheris")
    parser.add_argument("--write", action="store_true", help="make the corpus anew")
    args = parser.parse_args(argv)
    if args.write:
        write_corpus()
        return 0
    audio.FREE_EXPANSION = SMALL
    if not args.plain:
        (name,) = args.what
        guided(name, args.cases, args.keep)
    before = _peak()
    for name in args.what or FORMATS:
        if name in FORMATS:
            plain(name, args.cases, args.seconds)
        else:
            with scratch() as path:
                print(
                    f"{name}: {'a sound' if decode(Path(name).read_bytes(), path) else 'refused'}"
                )
    added = _peak() - before
    print(f"{added / 1e6:.0f} MB of memory added, {MOST_MEMORY / 1e6:.0f} allowed")
    return int(added > MOST_MEMORY)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
