"""Batches of 32 from a memory-mapped store of 2000 clips of 500 frames and 64 bins, float16.

    python benchmarks/batches.py

jaxsound's Feed in stream mode with its default of threads; peers: torch's DataLoader with 2
workers over a data set of padded clips, and the fastest of several settings of it, tried in each
run. Batches are made and dropped: [32, 500, 64] with lengths and labels, in a random order.
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import Contestant, Row, main, note

CLIPS, FRAMES, BINS, BATCH = 2000, 500, 64, 32
SECONDS = 2.0  # of a run
# Number of workers, and whether an index stands for a whole batch.
SETTINGS = tuple(itertools.product((0, 1, 2), (False, True)))


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """One: jaxsound against the two loaders."""
    path = args.out / "frames.npy"
    if not path.exists():
        rng = np.random.default_rng(0)
        partial = path.with_name("frames.partial.npy")
        np.save(partial, rng.normal(-40, 15, (CLIPS * FRAMES, BINS)).astype(np.float16))
        partial.rename(path)
    return [
        Row(
            area=f"batches of {BATCH} from a memory map",
            unit="clips/s",
            contestants=[
                Contestant("jaxsound Feed", functools.partial(_feed, path)),
                Contestant("torch DataLoader, 2 workers", functools.partial(_loader, path)),
                Contestant("torch DataLoader, its best", functools.partial(_best, path)),
            ],
            goals=(5, 1),
        )
    ]


def _speed(batches: Iterator[Any], seconds: float = SECONDS) -> float:
    """Clips/s over so many seconds."""
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        next(batches)
        count += 1
    return count * BATCH / passed


def _feed(path: Path) -> Callable[[], float]:
    from jaxsound.config import default_config
    from jaxsound.features.frontend import FrontendConfig
    from jaxsound.features.store import Store
    from jaxsound.input.pipeline import Feed
    from jaxsound.training import sharding

    store = Store(
        path=path.parent,
        frames=np.load(path, mmap_mode="r"),
        offsets=np.arange(CLIPS + 1) * FRAMES,
        labels=np.zeros(CLIPS, np.int32),
        folds=np.ones(CLIPS, np.int32),
        groups=np.arange(CLIPS).astype(str),
        clip_ids=np.arange(CLIPS).astype(str),
        class_names=("a",),
        frontend=FrontendConfig(n_mels=BINS),
        publisher_folds=False,
        meta={},
    )
    threads = default_config("cnn").data.read_threads
    placement = sharding.Placement(sharding.make_mesh(BATCH), stacked=False)
    feed = Feed(store, placement, batch_size=BATCH, resident=False, threads=threads)
    note(f"jaxsound reads in {threads} threads")
    batches = feed.train_iterator(np.arange(CLIPS), FRAMES, seed=0)
    return functools.partial(_speed, batches)


class Clips:
    """A map-style data set of padded clips; a list of indices gives a whole batch."""

    def __init__(self, path: Path):
        self.path = path
        self.frames: np.ndarray | None = None  # opened in each worker
        self.offsets = np.arange(CLIPS + 1) * FRAMES
        self.labels = np.zeros(CLIPS, np.int64)

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, index: int | list[int]) -> Any:
        import torch

        if self.frames is None:
            self.frames = np.load(self.path, mmap_mode="r")
        many = [index] if isinstance(index, int) else index
        features = np.zeros((len(many), FRAMES, BINS), np.float16)
        lengths = np.zeros(len(many), np.int64)
        for i, clip in enumerate(many):
            part = self.frames[self.offsets[clip] : self.offsets[clip + 1]]
            features[i, : len(part)] = part
            lengths[i] = len(part)
        if isinstance(index, int):
            return torch.from_numpy(features[0]), lengths[0], self.labels[index]
        return torch.from_numpy(features), torch.from_numpy(lengths), self.labels[index]


def _batches(path: Path, workers: int, whole: bool) -> Iterator[Any]:
    """Endless batches of a loader that keeps its workers from epoch to epoch."""
    from torch.utils import data

    clips: Any = Clips(path)
    kept = {"num_workers": workers, "persistent_workers": workers > 0}
    if whole:
        sampler = data.BatchSampler(data.RandomSampler(clips), BATCH, drop_last=True)
        loader = data.DataLoader(clips, batch_size=None, sampler=sampler, **kept)
    else:
        loader = data.DataLoader(clips, batch_size=BATCH, shuffle=True, drop_last=True, **kept)
    while True:
        yield from loader


def _loader(path: Path) -> Callable[[], float]:
    return functools.partial(_speed, _batches(path, workers=2, whole=False))


def _best(path: Path) -> Callable[[], float]:
    speeds = {}
    for setting in SETTINGS:
        batches = _batches(path, *setting)
        _speed(batches, SECONDS / 2)  # workers start, pages are read
        speeds[setting] = _speed(batches, SECONDS / 2)
        batches.close()
    workers, whole = best = max(speeds, key=lambda setting: speeds[setting])
    what = "batch" if whole else "clip"
    note(f"torch's best setting: an index for every {what}, {workers} workers")
    return functools.partial(_speed, _batches(path, *best))


if __name__ == "__main__":
    main("batches", __file__, rows)
