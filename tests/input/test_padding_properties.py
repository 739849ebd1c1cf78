"""Batches of any clips, lengths and sizes: every clip once, its own frames, zeros after them."""

import dataclasses

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxsound.features.store import Store
from jaxsound.input import pipeline
from jaxsound.training import sharding
from tests.properties import examples

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


def feed_of(tiny_store: Store, lengths: list[int], size: int) -> pipeline.Feed:
    """Clips whose labels are their numbers, of frames that are all different and never zero."""
    frames = np.arange(1, 2 * sum(lengths) + 1, dtype=np.float32).reshape(-1, 2)
    store = dataclasses.replace(
        tiny_store,
        frames=frames,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=np.arange(len(lengths), dtype=np.int32),
    )
    placement = sharding.Placement(sharding.make_mesh(size, jax.devices()[:1]), stacked=False)
    return pipeline.Feed(store, placement, batch_size=size, resident=False, threads=0)


def check(feed: pipeline.Feed, batch: pipeline.HostBatch, frames: int, middle: bool) -> None:
    lengths = feed.store.lengths[batch["label"]]
    np.testing.assert_array_equal(batch["length"], np.minimum(lengths, frames))
    for x, clip, length in zip(batch["features"], batch["label"], batch["length"], strict=True):
        own = feed.store.frames[feed.store.offsets[clip] : feed.store.offsets[clip + 1]]
        start = int((x[0, 0] - own[0, 0]) / 2)
        assert 0 <= start <= len(own) - length
        if middle:
            assert start == (len(own) - length) // 2
        np.testing.assert_array_equal(x[:length], own[start : start + length])
        assert (x[length:] == 0).all()


@examples(60)
@given(LENGTHS, st.integers(1, 16), st.integers(1, 60))
def test_evaluation_has_every_clip_once_with_its_middle(
    tiny_store: Store, lengths: list[int], size: int, frames: int
) -> None:
    feed = feed_of(tiny_store, lengths, size)
    batch = feed.eval_batches(np.arange(len(lengths)), frames)
    seen = []
    for i in range(-(-len(lengths) // size) + 1):  # one more than there are
        check(feed, batch(i), frames, middle=True)
        seen += batch(i)["label"][batch(i)["mask"]].tolist()
    assert seen == list(range(len(lengths)))


@examples(25)
@given(LENGTHS, st.integers(1, 8), st.integers(1, 60), st.integers(0, 2**31 - 1), st.integers(0, 2))
def test_training_has_every_clip_equally_often_with_its_own_frames(
    tiny_store: Store, lengths: list[int], size: int, frames: int, seed: int, copies: int
) -> None:
    feed = feed_of(tiny_store, lengths, size)
    iterator = feed.train_iterator(np.arange(len(lengths)), frames, seed, copies)
    seen = []
    for _ in range(size):  # so many batches hold `len(lengths) * (1 + copies)` clips each time
        for _ in range(len(lengths)):
            batch = next(iterator)
            check(feed, batch, frames, middle=False)
            assert batch["mask"].all()
            seen += batch["label"].tolist()
        if len(seen) >= len(lengths) * (1 + copies):
            break
    iterator.close()
    epoch = seen[: len(lengths) * (1 + copies)]
    if len(epoch) == len(lengths) * (1 + copies):
        assert np.bincount(epoch).tolist() == [1 + copies] * len(lengths)
