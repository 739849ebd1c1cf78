"""From the feature store to batches, in an order that Grain decides.

Both ways of feeding the device read the same index batches `{clip, start}`, with augmented copies
`{clip, start, plain}`. In `stream` mode the
host cuts and pads the crops and sends them; in `resident` mode all frames are on the device once
and only the rows where crops begin are sent. Shapes: B batch, T frames, M features. A store of
samples is fed alike, without the axis of features: its frames are samples.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from jaxsound.errors import UserError
from jaxsound.features.store import Store
from jaxsound.training.finite import name_clips
from jaxsound.training.sharding import Placement
from jaxsound.training.state import Batch

HostBatch = dict[str, np.ndarray]
Clips = Int[np.ndarray, " B"]
_CLIPS_READ = 32  # together, for statistics
_MOST_ROWS = 2**31 - 2**26  # that an int32 finds, and a crop beyond


class Order:
    """A source for Grain: shuffled epochs without end, an element for each whole batch.

    With an element for each clip, Grain's shuffling and batching took 80 microseconds a clip, five
    times as long as cutting, padding and copying it.
    """

    def __init__(self, count: int, batch_size: int, seed: int, labels: np.ndarray | None = None):
        """Shuffles `count` clips anew in every epoch; a batch may end one and begin the next.

        With `labels [count]` an epoch has `count` draws in which the classes come equally often, to
        within one, and so do the clips of a class.
        """
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.labels = labels
        self._epoch = functools.lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return sys.maxsize // self.batch_size

    def __getitem__(self, index: int) -> Clips:
        place = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        epoch, place = np.divmod(place, self.count)
        parts = [self._epoch(e)[place[epoch == e]] for e in range(epoch[0], epoch[-1] + 1)]
        return np.concatenate(parts)

    def _shuffled(self, epoch: int) -> Clips:
        rng = np.random.default_rng((self.seed, epoch))
        if self.labels is None:
            return rng.permutation(self.count)
        present, label = np.unique(self.labels, return_inverse=True)
        turns = _turns(rng, np.arange(len(present)), self.count)
        drawn = np.empty(self.count, np.int64)
        for number in range(len(present)):
            places = np.flatnonzero(turns == number)
            drawn[places] = _turns(rng, np.flatnonzero(label == number), len(places))
        return drawn


def _turns(rng: np.random.Generator, items: np.ndarray, count: int) -> np.ndarray:
    """So many of these items: all of them in an order by chance, then all in another, ..."""
    rounds = [rng.permutation(items) for _ in range(-(-count // len(items)))]
    return np.concatenate([items[:0], *rounds])[:count]


class Feed:
    """Makes index batches, host batches and device batches of one store."""

    def __init__(
        self,
        store: Store,
        placement: Placement,
        *,
        batch_size: int,
        resident: bool,
        threads: int = 2,
        longest: int = 0,
    ):
        """Puts all frames on the device if `resident`.

        Args:
          store: the features.
          placement: where batches go.
          batch_size: clips per step over all hosts.
          resident: keep frames on the device and send indices.
          threads: reading threads in stream mode.
          longest: for a store of samples that features are made of, rows that a crop may have: it
            may reach past the store's last, and batches have no axis of columns.
        """
        self.store = store
        self.placement = placement
        self.batch_size = batch_size
        self.threads = threads
        self.rows = np.asarray(store.frames)  # a view, as quick to index as an array
        self.frames = None
        if longest:
            self.rows = self.rows[:, 0]
        if resident:
            kept = np.pad(self.rows, (0, longest)) if longest else self.rows
            self.frames = placement.put_replicated(kept)
        self.local = placement.local_rows(batch_size)

    def train_iterator(
        self,
        clips: Clips,
        frames: int,
        seed: int,
        copies: int = 0,
        balanced: bool = False,
        weights: np.ndarray | None = None,
        targets: np.ndarray | None = None,
    ) -> grain.DatasetIterator:
        """Shuffled, endless batches of random crops of at most `frames` frames.

        With `copies` an epoch has every clip once plain, where the batch's `plain [B]` is True,
        and `copies` times for augmentation. With `balanced` its classes come equally
        often. With `weights`, one for each clip of the store, a batch has its own as `weight [B]`,
        and with `targets [N, C]` its labels are those, `[B, C]`. The order depends on `seed` and
        the clips alone, not on the mode, threads or hosts. The iterator's state goes into the
        checkpoint; `close` it at the end.
        """

        def fetch(index: HostBatch) -> HostBatch:
            batch = self._fetch(index, frames, real=self.batch_size)
            clip = index["clip"][self.local]
            if weights is not None:
                batch["weight"] = weights[clip].astype(np.float32)
            if targets is not None:
                batch["label"] = targets[clip].astype(np.float32)
            return batch

        order = self._order(clips, frames, seed, copies, balanced).map(fetch)
        threads = 0 if self.frames is not None else self.threads
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        return iter(order.to_iter_dataset(options))

    def clips_of(
        self,
        step: int,
        clips: Clips,
        frames: int,
        seed: int,
        copies: int = 0,
        balanced: bool = False,
    ) -> Clips:
        """The clips that the batch of this step is made of, counted from 1; else as above."""
        order = self._order(clips, frames, seed, copies, balanced)
        found: Clips = order[step - 1]["clip"]
        return found

    def _order(
        self, clips: Clips, frames: int, seed: int, copies: int, balanced: bool
    ) -> grain.MapDataset:
        clips = np.asarray(clips, np.int64)
        labels = np.tile(self.store.labels[clips], 1 + copies) if balanced else None

        def crop(element: Clips, rng: np.random.Generator) -> HostBatch:
            clip = clips[element % len(clips)]
            spare = np.maximum(self.store.lengths[clip] - frames, 0)
            index = {"clip": clip, "start": rng.integers(0, spare + 1)}
            return index | {"plain": element < len(clips)} if copies else index

        return (
            grain.MapDataset.source(Order(len(clips) * (1 + copies), self.batch_size, seed, labels))
            .seed(seed)
            .random_map(crop)
        )

    def eval_batches(self, clips: Clips, frames: int) -> Callable[[int], HostBatch]:
        """Batch number i of the clips in order, each cut to its middle `frames` frames.

        The last batch, and any after it, is filled up with clips whose `mask` is False.
        """

        def batch(i: int) -> HostBatch:
            part = clips[i * self.batch_size : (i + 1) * self.batch_size]
            filled = np.resize(part if len(part) else clips, self.batch_size)
            start = np.maximum(self.store.lengths[filled] - frames, 0) // 2
            return self._fetch({"clip": filled, "start": start}, frames, real=len(part))

        return batch

    def place(self, batches: Sequence[HostBatch]) -> Batch:
        """One host batch for each fold to a batch on the devices."""
        return self._with_frames(self.placement.put_batch(self._of_folds(batches)))

    def place_several(self, steps: Sequence[Sequence[HostBatch]]) -> Batch:
        """For each step one host batch for each fold, to the batches of a call."""
        host = _stack([self._of_folds(batches) for batches in steps])
        return self._with_frames(self.placement.put_batch(host, several=True))

    def _of_folds(self, batches: Sequence[HostBatch]) -> HostBatch:
        return _stack(batches) if self.placement.stacked else batches[0]

    def _with_frames(self, batch: Batch) -> Batch:
        return batch if self.frames is None else batch | {"frames": self.frames}

    def _fetch(self, index: HostBatch, frames: int, real: int) -> HostBatch:
        mask = np.arange(self.batch_size) < real
        clip, start, mask = (x[self.local] for x in (index["clip"], index["start"], mask))
        length = np.minimum(self.store.lengths[clip] - start, frames)
        row = self.store.offsets[clip] + start
        batch: HostBatch = {
            "length": length.astype(np.int32),
            "label": self.store.labels[clip].astype(np.int32),
            "mask": mask,
        }
        if "plain" in index:
            batch["plain"] = index["plain"][self.local]
        if self.frames is not None:
            return batch | {"row": row.astype(np.int32)}
        return batch | {"features": self._crops(row, length, frames)}

    def _crops(self, row: np.ndarray, length: np.ndarray, frames: int) -> np.ndarray:
        crops = np.empty((len(row), frames, *self.rows.shape[1:]), self.rows.dtype)
        for crop, first, valid in zip(crops, row, length, strict=True):
            crop[:valid] = self.rows[first : first + valid]
            crop[valid:] = 0
        return crops


def _stack(batches: Sequence[HostBatch]) -> HostBatch:
    return {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}


def fits(store: Store, config: Any) -> bool:
    """Whether `config.data.feed` asks for resident features, or "auto" finds them small enough.

    Raises:
      UserError: they are asked for, and are more than can be told apart on a device.
    """
    countable = len(store.frames) <= _MOST_ROWS
    if config.data.feed == "auto":
        return countable and store.frames.nbytes <= config.data.resident_gib * 2**30
    if config.data.feed == "resident" and not countable:
        raise UserError(
            f"config.data.feed='resident': {len(store.frames)} rows, and a device tells "
            f"{_MOST_ROWS} apart; use 'stream'"
        )
    return config.data.feed == "resident"


def normalisation(
    store: Store,
    clips: Clips,
    mode: str,
    fixed: tuple[float, float] = (0.0, 1.0),
    *,
    skip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[M]` float32 over the valid frames of these clips alone.

    Args:
      mode: "per_bin", "global" (one value for all bins), "fixed" or "none" (0 and 1).
      fixed: mean and standard deviation of all bins where the mode is "fixed".
      skip: leave clips with a NaN or infinity out, and say so.

    Raises:
      UserError: with the clips that hold a NaN or infinity, unless they are left out.
    """
    width = store.frames.shape[1]
    if mode in ("none", "fixed"):
        known = fixed if mode == "fixed" else (0.0, 1.0)
        return np.full(width, known[0], np.float32), np.full(width, known[1], np.float32)
    total, squares, count = np.zeros(width), np.zeros(width), 0
    for some in np.array_split(clips, -(-len(clips) // _CLIPS_READ)):
        spans = zip(store.offsets[some], store.offsets[some + 1], strict=True)
        frames = np.concatenate([store.frames[first:end] for first, end in spans], dtype=np.float64)
        if not np.isfinite(frames).all():
            frames = _without_wrong_numbers(store, some, skip)
        total += frames.sum(0)
        squares += (frames * frames).sum(0)
        count += len(frames)
    mean, square = total / max(count, 1), squares / max(count, 1)
    if mode == "global":
        mean, square = np.full(width, mean.mean()), np.full(width, square.mean())
    std = np.sqrt(np.maximum(square - mean * mean, 0))
    return mean.astype(np.float32), np.where(std > 1e-4, std, 1).astype(np.float32)


def _without_wrong_numbers(store: Store, clips: Clips, skip: bool) -> np.ndarray:
    """The frames of those clips that are finite throughout."""
    parts = [store.frames[store.offsets[i] : store.offsets[i + 1]] for i in clips]
    line = name_clips(store.clip_ids[clips], parts)
    if not skip:
        raise UserError(f"{store.path}: {line}; config.nonfinite='skip' leaves them out")
    tqdm.write(f"{line}; left out of the normalisation", file=sys.stderr)
    good = [part for part in parts if np.isfinite(part).all()]
    return np.concatenate([np.zeros((0, store.frames.shape[1])), *good], dtype=np.float64)
