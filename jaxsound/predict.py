"""What is heard in recordings of any length and rate, by a trained run.

python -m jaxsound.predict runs/quickstart recording.wav folder 'more/*.flac'
"""

import argparse
import contextlib
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import absl.logging
import numpy as np
from tqdm import tqdm

from jaxsound.bars import bar
from jaxsound.cache import cache_root, keep_programs
from jaxsound.data.audio import SUFFIXES, AudioError
from jaxsound.errors import UserError, command
from jaxsound.serving import output
from jaxsound.serving.classifier import Classifier, load
from jaxsound.serving.prediction import THRESHOLD, audacity_labels

LONG = 60.0  # seconds of a recording from which on its progress is shown
STANDARD_INPUT = "-"


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Classifies what the command line names.

    Returns:
      The exit status: 1 if some recording could not be used, 2 if the command line is wrong.
    """
    absl.logging.set_verbosity(absl.logging.ERROR)
    args = _parse(argv)
    try:
        paths = list(_expanded(args.path))
        for folder in filter(None, (args.plot, args.labels)):
            folder.mkdir(parents=True, exist_ok=True)
        keep_programs(cache_root())
        return _predict(load(args.checkpoint), paths, args)
    except BrokenPipeError:  # head has seen enough; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.predict",
        description="What is heard in recordings (wav, flac, ogg, mp3) of any length and rate.",
    )
    add = parser.add_argument
    add("checkpoint", help="a run (the mean over its folds), a fold, or several with commas")
    add("path", nargs="+", help="files, folders, globs in quotes, or - for standard input")
    add("--format", choices=output.FORMATS, default="table", help="of what is printed")
    add("--top", type=int, default=5, metavar="N", help="classes shown of a recording (5)")
    add("--timeline", action="store_true", help="also where in a recording each class is heard")
    add(
        "--threshold",
        type=float,
        default=THRESHOLD,
        metavar="P",
        help=f"probability from which on a class stands in the timeline ({THRESHOLD})",
    )
    add("--labels", type=Path, metavar="DIR", help="write the timelines as Audacity labels there")
    add("--plot", type=Path, metavar="DIR", help="write a PNG of each recording there")
    add("--embed", type=Path, metavar="FILE.npz", help="write embeddings and paths there")
    args = parser.parse_args(argv)
    if args.top < 1:
        parser.error("--top must be 1 or more")
    if not 0 <= args.threshold <= 1:
        parser.error("--threshold must be 0 to 1")
    return args


def _expanded(names: Sequence[str]) -> Iterator[str]:
    """Files, in order: those of folders (all below them) and globs sorted by name.

    Raises:
      UserError: a folder without a recording, or a glob without a match.
    """
    for name in names:
        if name == STANDARD_INPUT or Path(name).is_file():
            yield name
            continue
        if Path(name).is_dir():
            below = Path(name).rglob("*")
            found = sorted(str(p) for p in below if p.suffix.lower() in SUFFIXES and p.is_file())
            nothing = "no wav, flac, ogg or mp3 in this folder"
        elif glob.has_magic(name):
            found = sorted(p for p in glob.glob(name, recursive=True) if Path(p).is_file())
            nothing = "matches no file"
        else:
            found = [name]  # its own line says what is wrong with it
        if not found:
            raise UserError(f"{name}: {nothing}")
        yield from found


def _predict(classifier: Classifier, paths: Sequence[str], args: argparse.Namespace) -> int:
    writer = output.FORMATS[args.format](sys.stdout, args.top, args.timeline, args.threshold)
    failed, embedded, embeddings = 0, [], []
    names = _distinct([Path(path).stem if path != STANDARD_INPUT else "stdin" for path in paths])
    hidden = len(paths) < 3 or args.format == "table"
    for path, name in zip(bar(paths, unit="file", disable=hidden), names, strict=True):
        try:
            with _on_disk(path) as file:
                prediction = classifier.predict_file(file, _Heard(path))
                if args.plot:
                    from jaxsound.serving.plot import plot

                    plot(classifier, file, prediction, args.plot / f"{name}.png", title=path)
        except AudioError as error:
            failed += 1
            print(f"{path}: {error.reason}", file=sys.stderr)
            continue
        writer.write(path, prediction)
        if args.labels:
            labels = audacity_labels(prediction.timeline(args.threshold))
            (args.labels / f"{name}.txt").write_text(labels, encoding="utf-8")
        if args.embed:
            embedded.append(path)
            embeddings.append(prediction.embedding)
    writer.close()
    if args.embed and embeddings:
        np.savez(args.embed, embeddings=np.stack(embeddings), paths=np.array(embedded))
    return 1 if failed else 0


def _distinct(names: Sequence[str]) -> list[str]:
    """Names for files to be written: of equal ones the second becomes name_2."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        found.append(candidate)
    return found


@contextlib.contextmanager
def _on_disk(path: str) -> Iterator[str]:
    """A file's own path; standard input, in which decoders want to seek, as a temporary file."""
    if path != STANDARD_INPUT:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="jaxsound_") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield file.name


class _Heard:
    """A progress line for a long recording."""

    def __init__(self, path: str):
        self.path = path
        self.bar: tqdm | None = None

    def __call__(self, done: float, promised: float) -> None:
        if promised < LONG:
            return
        if self.bar is None:
            form = (
                "{desc}: {percentage:3.0f}%|{bar:20}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
            )
            self.bar = bar(total=promised, desc=self.path, bar_format=form)
        self.bar.update(min(done, promised) - self.bar.n)
        if done >= promised:
            self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
