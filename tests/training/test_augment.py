"""Augmentation against plain NumPy, and exact about length."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize("axis", [1, 2])
def test_band_mix_takes_a_band_of_another_clip_within_both(axis: int) -> None:
    rng = np.random.default_rng(1)
    count, frames, bins = 200, 40, 12
    length = rng.integers(1, frames + 1, count)
    x = rng.normal(size=(count, frames, bins)).astype(np.float32)
    x = np.where(np.arange(frames)[None, :, None] < length[:, None, None], x, 0)
    label = np.eye(count, dtype=np.float32)
    mix = jax.jit(augment.band_mix, static_argnames=("chance", "axis"))
    made, mixed = mix(jax.random.key(7), x, jnp.asarray(length), label, chance=0.6, axis=axis)
    made, mixed = np.asarray(made), np.asarray(mixed)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
    changed = (made != x).any((1, 2))
    assert 0.4 < changed.mean() < 0.7
    np.testing.assert_array_equal(mixed[~changed].argmax(1), np.flatnonzero(~changed))
    shares = []
    for i in np.flatnonzero(changed):
        (j,) = set(np.flatnonzero(mixed[i])) - {i}
        common = min(length[i], length[j])
        differs = (made[i] != x[i]).any(2 - axis)
        first, last = np.flatnonzero(differs)[[0, -1]]
        wanted = x[i].copy()
        if axis == 1:
            assert last < common
            wanted[first : last + 1] = x[j, first : last + 1]
        else:
            wanted[:common, first : last + 1] = x[j, :common, first : last + 1]
        np.testing.assert_array_equal(made[i], wanted)
        taken = (last + 1 - first) * (bins if axis == 1 else common)
        shares.append(taken / (length[i] * bins))
        np.testing.assert_allclose(mixed[i, j], shares[-1], atol=1e-6)
    assert max(shares) > 0.8


def test_mel_jitter_spaces_bins_evenly_between_moved_ends() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 3, 24)).astype(np.float32)
    x[:, 0] = np.arange(24)  # a ramp shows where each bin was read
    y = np.asarray(jax.jit(augment.mel_jitter, static_argnums=2)(jax.random.key(8), x, 0.1))
    ends = []
    for before, after in zip(x, y, strict=True):
        place = after[0]
        inner = np.flatnonzero((place > 0) & (place < 23))
        step = np.polyfit(inner, place[inner], 1)
        ends.append(np.polyval(step, [0, 23]))
        line = np.clip(np.polyval(step, np.arange(24)), 0, 23)
        for row in (0, 1, 2):
            np.testing.assert_allclose(
                after[row], np.interp(line, np.arange(24), before[row]), atol=1e-3
            )
    moved = np.array(ends) - [0, 23]
    assert np.abs(moved).max() <= 2.301
    assert (moved.min(0) < -1.5).all()
    assert (moved.max(0) > 1.5).all()


def test_everything_together_is_finite_and_zero_past_the_length() -> None:
    keys = {name: key.default for name, key in AUGMENT.items()}
    keys |= {"time_masks": 2, "freq_masks": 2, "time_roll": True, "gain_db": 6, "mixup": 0.3}
    keys |= {"time_mix": 0.5, "freq_mix": 0.5, "mel_jitter": 0.1}
    config = SimpleNamespace(**keys)
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
