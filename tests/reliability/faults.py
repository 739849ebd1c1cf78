"""Breaks the storage of a training run in random ways and looks at what the next start does.

    python tests/reliability/faults.py --faults=200

A run is interrupted and leaves two checkpoints. Then something happens to them, or to the disk
while it goes on: a bit flips, a file is cut, emptied, lengthened or gone, a directory vanishes, the
disk is full or read-only. Either the run names it and goes on from the newest checkpoint that is
whole, to the same numbers as without the fault; or it stops with one line, and once the disk is
well again it goes on. Prints counts; the exit status is 1 if anything was lost or passed unseen.
"""

import argparse
import collections
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from absl import logging

from jaxsound import train
from jaxsound.config import default_config, validate
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.experiment import (
    Experiment,
    initial_state,
    make_experiment,
    train_iterator,
)
from jaxsound.job import workdir
from jaxsound.training import progress
from jaxsound.training.checkpoint import Checkpoints
from tests import tiny
from tests.reliability.disks import Disks

FOLD = 1
CHECKPOINTS = Path(f"fold_{FOLD}/checkpoints")
EPOCHS, INTERRUPTED = 6, 3.5
NOTES = ("_CHECKPOINT_METADATA", "commit_success.txt")  # nothing of them is used


class Interrupted(BaseException):
    """Stands for the end of a process."""


def make(path: Path) -> Experiment:
    """A small network with dropout and averaged weights that is saved every epoch."""
    config = default_config("stack")
    config.update_from_flattened_dict(
        {
            "epochs": EPOCHS,
            "batch_size": 8,
            "eval_every": 0,
            "checkpoint_every": 1,
            "log_every": 1,
            "frontend.n_mels": 8,
            "model.dims": 1,
            "model.layers": ("batch_norm", "mean", "linear 64", "relu", "dropout 0.2"),
            "optimizer.ema": 0.9,
        }
    )
    validate(config)
    store = tiny.store(path)
    splits = {FOLD: folds.split(store, FOLD, validation=0.0)}
    return make_experiment(config, store, splits, stacked=False)


@contextlib.contextmanager
def happening(step: int, event: Callable[[], None]) -> Iterator[None]:
    """Something happens right after a step is taken."""
    stepped = progress.Progress.stepped

    def then(self: Any, now: int, metrics: Any, count: int = 1) -> None:
        stepped(self, now, metrics, count)
        if now == step:
            event()

    progress.Progress.stepped = then  # type: ignore[method-assign]
    try:
        yield
    finally:
        progress.Progress.stepped = stepped  # type: ignore[method-assign]


def go_on(experiment: Experiment, directory: Path) -> tuple[str, str]:
    """Trains to the end. Returns the error's line, if there was one, and all that was said."""
    said = io.StringIO()
    line = ""
    with contextlib.redirect_stderr(said):
        try:
            with workdir.storage(directory):
                train.train_folds(experiment, [FOLD], directory)
        except UserError as error:
            line = str(error)
    return line, said.getvalue()


def numbers(experiment: Experiment, directory: Path) -> list[bytes]:
    """All that a finished run's checkpoint holds."""
    blank = experiment.placement.put_replicated(initial_state(experiment, FOLD))
    iterator = train_iterator(experiment, FOLD)
    with Checkpoints(directory / CHECKPOINTS) as checkpoints:
        state, step, _ = checkpoints.restore(blank, {FOLD: iterator})
    iterator.close()
    if step != experiment.steps:
        return []
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


# What happens to a checkpoint's folder between two starts.


def _a_file(folder: Path, rng: random.Random) -> Path:
    """Any file of a checkpoint, but for Orbax's two notes of when it was moved to its place."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    return rng.choice([p for p in files if p not in [folder / name for name in NOTES]])


def flip(folder: Path, rng: random.Random) -> None:
    path = _a_file(folder, rng)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(folder: Path, rng: random.Random) -> None:
    path = _a_file(folder, rng)
    os.truncate(path, rng.randrange(path.stat().st_size))


def lengthen(folder: Path, rng: random.Random) -> None:
    with _a_file(folder, rng).open("ab") as file:
        file.write(rng.randbytes(1 + rng.randrange(100)))


def remove_file(folder: Path, rng: random.Random) -> None:
    _a_file(folder, rng).unlink()


def remove_part(folder: Path, rng: random.Random) -> None:
    shutil.rmtree(rng.choice(sorted(p for p in folder.rglob("*") if p.is_dir())))


def zero(folder: Path, rng: random.Random) -> None:
    path = _a_file(folder, rng)
    path.write_bytes(bytes(path.stat().st_size))


def empty(folder: Path, rng: random.Random) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def remove(folder: Path, rng: random.Random) -> None:
    shutil.rmtree(folder)


DAMAGES = [flip, truncate, lengthen, remove_file, remove_part, zero, empty, remove]


class Trials:
    """Faults on copies of one interrupted run."""

    def __init__(self, scratch: Path, rng: random.Random):
        self.scratch, self.rng = scratch, rng
        self.experiment = make(scratch / "store")
        whole = scratch / "whole"
        assert go_on(self.experiment, whole)[0] == ""
        self.expected = numbers(self.experiment, whole)
        self.interrupted = scratch / "interrupted"
        with contextlib.suppress(Interrupted), happening(self._step(INTERRUPTED), _interrupt):
            go_on(self.experiment, self.interrupted)
        self.disks = Disks(scratch / "disk")

    def _step(self, epochs: float) -> int:
        return round(epochs * self.experiment.steps_per_epoch)

    def newest(self, directory: Path) -> list[Path]:
        """Checkpoints, the newest first."""
        steps = [p for p in (directory / CHECKPOINTS).glob("*") if p.name.isdecimal()]
        return sorted(steps, key=lambda p: -int(p.name))

    def finishes(self, directory: Path) -> str:
        """'' if the run goes on to the numbers of the undisturbed one."""
        line, _ = go_on(self.experiment, directory)
        if line:
            return f"it does not go on: {line}"
        return "" if numbers(self.experiment, directory) == self.expected else "other numbers"

    def damaged_newest(self, directory: Path) -> str:
        """One checkpoint is damaged: named, and the one before is used."""
        folder, older = self.newest(directory)[:2]
        kind = self.rng.choice(DAMAGES)
        kind(folder, self.rng)
        line, said = go_on(self.experiment, directory)
        if line:
            return f"{kind.__name__}: it stopped: {line}"
        if numbers(self.experiment, directory) != self.expected:
            return f"{kind.__name__}: other numbers"
        named = f"going on from step {older.name}" in said
        return "" if named else f"{kind.__name__}: not named"

    def damaged_all(self, directory: Path) -> str:
        """All checkpoints are damaged: the run stops with a line and changes nothing."""
        kinds = [self.rng.choice([remove_part, zero_data, empty]) for _ in self.newest(directory)]
        for kind, folder in zip(kinds, self.newest(directory), strict=True):
            kind(folder, self.rng)
        line, _ = go_on(self.experiment, directory)
        if "no checkpoint is whole" not in line or "\n" in line:
            return f"{[kind.__name__ for kind in kinds]}: {line or 'began again in silence'}"
        return ""

    def vanished(self, directory: Path) -> str:
        """All checkpoints are gone, with or without their folder: the run stops with a line."""
        place = self.rng.choice([directory / CHECKPOINTS, directory / CHECKPOINTS.parent])
        shutil.rmtree(place)
        line, _ = go_on(self.experiment, directory)
        good = "was saved here and is gone" in line and "\n" not in line
        return "" if good else f"{place.name}: {line or 'began again in silence'}"

    def vanishes(self, directory: Path) -> str:
        """The folder vanishes while the run goes on: it stops with a line, and the next one too."""
        place = self.rng.choice([directory / CHECKPOINTS, directory / CHECKPOINTS.parent])
        step = self._step(3) + self.rng.randrange(1, self._step(2))
        with happening(step, lambda: shutil.rmtree(place, ignore_errors=True)):
            line, _ = go_on(self.experiment, directory)
        if not line or "\n" in line:
            return f"{place.name} at step {step}: {line or 'nothing was said'}"
        line, _ = go_on(self.experiment, directory)
        return "" if line else f"{place.name} at step {step}: began again in silence"

    def too_large(self, directory: Path) -> str:
        """No file can be written past a size: the run stops with a line, and then goes on."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit = self.rng.choice([100, 1000, 4000])
        kept = [path.name for path in self.newest(directory)]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            line, _ = go_on(self.experiment, directory)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return self._stopped_well(directory, line, kept) or self.finishes(directory)

    def disk_full(self, directory: Path) -> str:
        """The disk is full after some more bytes."""
        with self.disks.small(directory, self.rng.randrange(4, 60)) as small:
            kept = [path.name for path in self.newest(small)]
            line, _ = go_on(self.experiment, small)
            problem = self._stopped_well(small, line, kept)
            self.disks.resize(small, "50m")
            return problem or self.finishes(small)

    def read_only(self, directory: Path) -> str:
        """The disk becomes read-only before the start, or during the run."""
        with self.disks.small(directory, 50_000) as small:
            kept = [path.name for path in self.newest(small)]
            if self.rng.random() < 0.5:
                self.disks.resize(small, "50m,ro")
                line, _ = go_on(self.experiment, small)
            else:
                step = self._step(3) + self.rng.randrange(1, self._step(2))
                with happening(step, lambda: self.disks.forbid(small / CHECKPOINTS)):
                    line, _ = go_on(self.experiment, small)
                self.disks.allow(small / CHECKPOINTS)
            problem = self._stopped_well(small, line, kept)
            self.disks.resize(small, "50m,rw")
            return problem or self.finishes(small)

    def _stopped_well(self, directory: Path, line: str, kept: list[str]) -> str:
        if not line or "\n" in line:
            return f"no line, or more than one: {line!r}"
        return "" if self.newest(directory) else f"no checkpoint is left of {kept}"

    def kinds(self) -> dict[str, Callable[[Path], str]]:
        found: dict[str, Callable[[Path], str]] = {
            "one checkpoint damaged": self.damaged_newest,
            "every checkpoint damaged": self.damaged_all,
            "checkpoints gone at the start": self.vanished,
            "checkpoints vanish during the run": self.vanishes,
            "files cannot grow": self.too_large,
        }
        if self.disks.work:
            found |= {"disk full": self.disk_full, "disk read-only": self.read_only}
        return found


def zero_data(folder: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(p for p in (folder / "state").rglob("*") if p.parent.name == "d"))
    path.write_bytes(bytes(path.stat().st_size))


def _interrupt() -> None:
    raise Interrupted


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.FATAL)
    progress.make_writer = tiny.make_writer
    began = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    bad: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        rng = random.Random(options.seed)
        trials = Trials(Path(name), rng)
        kinds = trials.kinds()
        for i in range(options.faults):
            # Half of the faults are of the kind with the most forms.
            kind = list(kinds)[0 if i % 2 else 1 + i // 2 % (len(kinds) - 1)]
            directory = trials.scratch / f"run_{i}"
            shutil.copytree(trials.interrupted, directory)
            if problem := kinds[kind](directory):
                bad[kind] += 1
                print(f"LOST {kind}: {problem}", flush=True)
            counts[kind] += 1
            shutil.rmtree(directory, ignore_errors=True)
        if not trials.disks.work:
            print("disk full and read-only: not run, as nothing may be mounted here")
    for kind, count in counts.items():
        print(f"{count:5}  {kind}: {bad[kind]} lost or unseen")
    print(
        f"{sum(counts.values())} faults, {sum(bad.values())} lost; {time.monotonic() - began:.0f} s"
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
