"""Augmentation against plain NumPy, and exact about length."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxsound.keys import AUGMENT
from jaxsound.training import augment

LENGTH = jnp.array([0, 1, 7, 30, 40])


def features(frames: int = 40) -> jax.Array:
    x = np.random.default_rng(0).normal(size=(5, frames, 12)).astype(np.float32)
    return jnp.where(np.arange(frames)[None, :, None] < LENGTH[:, None, None], x + 5, 0)


def test_time_roll_rotates_each_clip_within_its_length() -> None:
    x = features()
    y = np.asarray(augment.time_roll(jax.random.key(1), x, LENGTH))
    turned = False
    for before, after, length in zip(np.asarray(x), y, LENGTH.tolist(), strict=True):
        np.testing.assert_array_equal(after[length:], 0)
        turns = [np.roll(before[:length], k, axis=0) for k in range(max(length, 1))]
        match = [k for k, turn in enumerate(turns) if np.array_equal(turn, after[:length])]
        assert match
        turned |= match[0] > 0
    assert turned


def test_gain_moves_valid_frames_by_one_offset_a_clip() -> None:
    scale = jnp.linspace(1, 3, 12)
    x = features()
    change = np.asarray((augment.gain(jax.random.key(2), x, LENGTH, scale, 6.0) - x) * scale)
    for row, length in zip(change, LENGTH.tolist(), strict=True):
        np.testing.assert_array_equal(row[length:], 0)
        if length:
            np.testing.assert_allclose(row[:length], row[0, 0], atol=1e-4)
            assert 0 < abs(row[0, 0]) <= 6


def test_mixup_mixes_pairs_labels_and_lengths_alike() -> None:
    x, label = features(), jnp.eye(5)
    y, length, mixed = augment.mixup(jax.random.key(3), x, LENGTH, label, 0.4)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(y, np.einsum("ij,jtm->itm", mixed, x), atol=1e-4)
    expected = [max(LENGTH[np.asarray(row) > 0]) for row in mixed]
    np.testing.assert_array_equal(length, expected)
    assert ((mixed > 0).sum(1) == 2).any()


def test_spec_augment_masks_bands_within_length_and_share() -> None:
    x = jnp.ones((200, 40, 20))
    length = jnp.full(200, 30)
    y = augment.spec_augment(
        jax.random.key(4), x, length, time_masks=1, time_share=0.2, freq_masks=1, freq_share=0.3
    )
    zero = np.asarray(y == 0)
    time, freq = zero.all(2).sum(1), zero.all(1).sum(1)
    assert time.max() == 6
    assert time.min() == 0
    assert freq.max() == 6
    assert not zero.all(2)[:, 30:].any()
    # Nothing but whole bands is masked, and a band has no holes.
    np.testing.assert_array_equal(zero, zero.all(2)[:, :, None] | zero.all(1)[:, None, :])
    assert (np.abs(np.diff(zero.all(2).astype(int), axis=1)).sum(1) <= 2).all()


def test_everything_together_is_finite_and_zero_past_the_length() -> None:
    keys = {name: key.default for name, key in AUGMENT.items()}
    config = SimpleNamespace(
        **keys | {"time_masks": 2, "freq_masks": 2, "time_roll": True, "gain_db": 6, "mixup": 0.3}
    )
    y, length, label = augment.augment(
        config, jax.random.key(5), features(), LENGTH, jnp.eye(5), jnp.ones(12)
    )
    assert np.isfinite(y).all()
    past = np.arange(40)[None] >= np.asarray(length)[:, None]
    assert (np.asarray(y)[past] == 0).all()
    np.testing.assert_allclose(label.sum(1), 1, atol=1e-6)


def test_off_means_untouched() -> None:
    config = SimpleNamespace(**{name: key.default for name, key in AUGMENT.items()})
    y, length, label = augment.augment(
        config, jax.random.key(6), features(), LENGTH, jnp.eye(5), jnp.ones(12)
    )
    np.testing.assert_array_equal(y, features())
    np.testing.assert_array_equal(length, LENGTH)
    np.testing.assert_array_equal(label, jnp.eye(5))
