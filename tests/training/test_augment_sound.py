"""Augmentation in sound against plain NumPy, and exact about length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound.training import augment_sound

N = 60
LENGTH = np.array([0, 1, 7, 45, 60, 60])
RATE = 8000


def clips() -> np.ndarray:
    """`[6, N]`: noise with silence at both ends of the longer ones, zero past each length."""
    sound = np.random.default_rng(0).normal(size=(6, N)).astype(np.float32) / 8
    sound[3:, :4] = 0
    sound[3:, 30:36] = 0  # silence inside stays
    sound[3:, 40:] = 0
    return np.where(np.arange(N) < LENGTH[:, None], sound, 0)


def keys(seed: int, count: int = 6) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def each(function, *args, **options):  # type: ignore[no-untyped-def]
    run = jax.jit(jax.vmap(lambda *a: function(*a, **options)))
    return jax.tree.map(np.asarray, run(*map(jnp.asarray, args)))


def test_shift_turns_each_clip_round_within_its_length() -> None:
    sound, turned = clips(), set()
    found = each(augment_sound.cycle, keys(1), sound, LENGTH, shift=True, loop=0.0)
    for before, after, length in zip(sound, found, LENGTH, strict=True):
        np.testing.assert_array_equal(after[length:], 0)
        turns = [np.roll(before[:length], -k) for k in range(max(length, 1))]
        match = [k for k, turn in enumerate(turns) if np.array_equal(turn, after[:length])]
        assert match
        turned.add(match[0])
    assert len(turned) >= 3  # each clip by its own draw


@pytest.mark.parametrize("shift", [False, True])
def test_loop_repeats_what_sounds_until_the_length_is_full(shift: bool) -> None:
    sound = clips()
    found = each(augment_sound.cycle, keys(2), sound, LENGTH, shift=shift, loop=1.0)
    for before, after, length in zip(sound, found, LENGTH, strict=True):
        np.testing.assert_array_equal(after[length:], 0)
        trimmed = np.trim_zeros(before[:length])
        turns = [np.roll(trimmed, -k) for k in range(max(len(trimmed), 1) if shift else 1)]
        looped = [np.resize(turn, length) for turn in turns]
        assert any(np.array_equal(after[:length], wanted) for wanted in looped)


def test_loop_happens_by_chance() -> None:
    sound = np.repeat(clips()[4:5], 400, 0)
    found = each(augment_sound.cycle, keys(3, 400), sound, np.full(400, N), shift=False, loop=0.3)
    untouched = (found == sound).all(1)
    assert 0.2 < 1 - untouched.mean() < 0.4


@pytest.mark.parametrize("size", [50, 90])
def test_speed_interpolates_every_sample_and_changes_the_length(size: int) -> None:
    sound, factor = clips(), 1.25
    found, new = each(augment_sound.speed, keys(4), sound, LENGTH, factor=factor, size=size)
    rates = np.arange(np.ceil(1024 / factor), 1024 * factor + 1) / 1024
    drawn = []
    for before, after, length, count in zip(sound, found, LENGTH, new, strict=True):
        np.testing.assert_array_equal(after[count:], 0)
        if length < 2:
            np.testing.assert_array_equal(after[:count], before[:length])
            continue
        matches = []
        for rate in rates:
            place = np.arange(np.floor((length - 1) / rate) + 1) * rate
            whole = np.interp(place, np.arange(length), before[:length])
            for start in range(max(len(whole) - size, 0) + 1):
                wanted = whole[start : start + size]
                if len(wanted) == count and np.abs(wanted - after[:count]).max() < 1e-6:
                    matches.append(rate)
        assert matches
        drawn.append(matches[0])
    assert len(set(drawn)) > 1


def test_positions_stay_exact_in_long_clips() -> None:
    length = 3_000_000  # a minute and more, where i * rate would overflow 32 bits
    for rate in (819, 1024, 1280, 2048):
        found = int(augment_sound.resampled(jnp.asarray(length), jnp.asarray(rate)))
        assert found == (length - 1) * 1024 // rate + 1
    ramp = np.arange(2**22, dtype=np.float32)[None]
    made, new = each(
        augment_sound.speed, keys(0, 1), ramp, np.array([2**22]), factor=2.0, size=2**21
    )
    steps = np.diff(made[0, : new[0]])
    assert np.ptp(steps) <= 1  # twice float32's spacing of the ramp's own values


def authors_loudness(sound: np.ndarray, rate: int, n_fft: int, kind: str) -> float:
    """`compute_gain` of Tokozume's code, as it stands there."""
    freq = np.linspace(0, rate // 2, n_fft // 2 + 1)
    square = freq**2
    square[0] = 1.0
    weight = 2.0 + 20.0 * (
        2 * np.log10(12194)
        + 2 * np.log10(square)
        - np.log10(square + 12194**2)
        - np.log10(square + 20.6**2)
        - 0.5 * np.log10(square + 107.7**2)
        - 0.5 * np.log10(square + 737.9**2)
    )
    weight = np.maximum(weight, -80)
    gain = []
    for i in range(0, len(sound) - n_fft + 1, n_fft // 2):
        if kind == "rms":
            gain.append(np.mean(sound[i : i + n_fft] ** 2))
        else:
            spectrum = np.fft.rfft(np.hanning(n_fft + 1)[:-1] * sound[i : i + n_fft])
            gain.append(np.sum(np.abs(spectrum) ** 2 * 10 ** (weight / 10)))
    return float(10 * np.log10(np.maximum(gain, 10 ** (-80 / 10)).max()))


@pytest.mark.parametrize("kind", ["a_weighted", "rms"])
@pytest.mark.parametrize(("rate", "n_fft"), [(16000, 2048), (44100, 4096)])
def test_loudness_is_the_paper_s(kind: str, rate: int, n_fft: int) -> None:
    rng = np.random.default_rng(1)
    sound = rng.normal(size=(3, 3 * n_fft)).astype(np.float32)
    sound *= np.linspace(0.01, 1, 3 * n_fft, dtype=np.float32)
    sound[1] *= 0.01
    sound[2] = 0
    found = each(augment_sound.loudness, sound, sample_rate=rate, kind=kind)
    wanted = [authors_loudness(x.astype(np.float64), rate, n_fft, kind) for x in sound]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_between_class_mixes_other_classes_as_the_paper_does() -> None:
    rng = np.random.default_rng(2)
    count, classes = 64, 5
    sound = rng.normal(size=(count, N)).astype(np.float32) * rng.uniform(0.01, 1, (count, 1))
    sound = sound.astype(np.float32)
    length = rng.integers(1, N + 1, count)
    number = rng.integers(0, classes, count)
    label = np.eye(classes, dtype=np.float32)[number]
    level = rng.uniform(-60, 0, count).astype(np.float32)
    mix = jax.jit(augment_sound.between_class, static_argnames="chance")
    arrays = map(jnp.asarray, (sound, length, label, level))
    made, new, mixed = map(np.asarray, mix(keys(5, count), *arrays, chance=0.7))
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
    is_mixed = (mixed > 0).sum(1) == 2
    assert 0.5 < is_mixed.mean() < 0.9
    np.testing.assert_array_equal(made[~is_mixed], sound[~is_mixed])
    np.testing.assert_array_equal(new[~is_mixed], length[~is_mixed])
    ratios = []
    for i in np.flatnonzero(is_mixed):
        r = mixed[i, number[i]].astype(np.float64)
        partners = []
        for j in np.flatnonzero((mixed[i] > 0)[number] & (number != number[i])):
            t = 1.0 / (1 + 10 ** ((level[i] - level[j]) / 20.0) * (1 - r) / r)
            wanted = (sound[i] * t + sound[j] * (1 - t)) / np.sqrt(t**2 + (1 - t) ** 2)
            if np.abs(wanted - made[i]).max() < 1e-4:
                partners.append(max(length[i], length[j]))
        assert new[i] in partners
        ratios.append(r)
    assert np.ptp(ratios) > 0.8


def test_a_batch_of_one_class_is_not_mixed() -> None:
    sound, label = jnp.asarray(clips()), jnp.ones((6, 1))
    arrays = (sound, jnp.asarray(LENGTH), label, jnp.zeros(6))
    made, new, mixed = augment_sound.between_class(keys(6), *arrays, chance=1.0)
    np.testing.assert_array_equal(made, sound)
    np.testing.assert_array_equal(new, LENGTH)
    np.testing.assert_array_equal(mixed, label)


def test_gain_and_polarity_are_one_factor_a_clip() -> None:
    sound = np.repeat(clips()[4:5], 200, 0)
    sounds = sound[0] != 0
    loud = each(augment_sound.level, keys(7, 200), sound, decibels=6.0)
    ratio = loud[:, sounds] / sound[:, sounds]
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones_like(ratio), rtol=1e-5)
    decibels = 20 * np.log10(ratio[:, 0])
    assert -6 <= decibels.min() < -5 < 5 < decibels.max() <= 6
    turned = each(augment_sound.polarity, keys(8, 200), sound)
    upside = (turned == -sound).all(1)
    assert ((turned == sound).all(1) ^ upside).all()
    assert 0.35 < upside.mean() < 0.65


def test_noise_is_white_and_as_loud_as_asked_for_within_the_clip() -> None:
    count, size = 40, 4001
    length = np.full(count, 3900)
    time = np.arange(size) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 440 * time)[None] * np.linspace(0.01, 1, count)[:, None]
    sound = np.where(np.arange(size) < length[:, None], sound, 0).astype(np.float32)
    made = each(augment_sound.noise, keys(9, count), sound, length, chance=0.8, low=10.0, high=40.0)
    added = (made - sound)[:, :3900].astype(np.float64)
    np.testing.assert_array_equal(made[:, 3900:], 0)
    is_noisy = (added != 0).any(1)
    assert 0.6 < is_noisy.mean() < 0.95
    energy = np.square(sound[:, :3900].astype(np.float64)).mean(1)
    ratio = 10 * np.log10(energy[is_noisy] / np.square(added[is_noisy]).mean(1))
    assert ratio.min() > 9.7
    assert ratio.max() < 40.3
    assert np.ptp(ratio) > 20
    spectrum = (np.abs(np.fft.rfft(added[is_noisy])) ** 2)[:, 1:]
    bands = spectrum[:, :1944].reshape(len(ratio), 8, -1).mean(2)
    np.testing.assert_allclose(bands.mean(0) / bands.mean(), 1, atol=0.6)
    bands /= bands.mean(1, keepdims=True)
    np.testing.assert_allclose(bands, 1, atol=0.3)  # 243 values each: 0.064 deviation
    assert abs(np.corrcoef(added[is_noisy][:2])[0, 1]) < 0.1  # to each clip its own


def test_the_equaliser_is_a_line_through_its_gains_over_the_octaves() -> None:
    frequency = np.arange(513) * (16000 / 1024)
    options = {"equaliser_db": 9.0, "low_pass": 0.0, "low_pass_hz": 2000.0}
    made = each(lambda key: augment_sound.response(key, frequency, **options), keys(10, 50))
    decibels = 10 * np.log10(made)
    assert -9.001 <= decibels.min() < -8
    assert 8 < decibels.max() <= 9.001
    # Seven pieces over the octaves from 62.5 Hz to 8 kHz: each is one octave.
    for low in 62.5 * 2.0 ** np.arange(3, 7):
        inside = (frequency >= low) & (frequency <= 2 * low)
        octave = np.log2(frequency[inside])
        ends = decibels[:, inside]
        for curve in ends:
            wanted = np.interp(octave, octave[[0, -1]], curve[[0, -1]])
            np.testing.assert_allclose(curve, wanted, atol=1e-3)
    assert (np.ptp(decibels[:, 100:], axis=0) > 5).all()


def test_the_low_pass_is_butterworth_s() -> None:
    frequency = np.arange(513) * (16000 / 1024)
    options = {"equaliser_db": 0.0, "low_pass": 0.5, "low_pass_hz": 1000.0}
    made = each(lambda key: augment_sound.response(key, frequency, **options), keys(11, 200))
    passed = (made < 1).any(1)
    assert 0.35 < passed.mean() < 0.65
    np.testing.assert_array_equal(made[~passed], 1)
    at = 300  # the cut-off, from one bin, is to give all others
    cuts = frequency[at] / (1 / made[passed, at].astype(np.float64) - 1) ** (1 / 8)
    assert cuts.min() >= 999
    assert cuts.max() <= 8001
    assert np.median(cuts) == pytest.approx(np.sqrt(8) * 1000, rel=0.25)
    wanted = 1 / (1 + (frequency[None] / cuts[:, None]) ** 8)
    np.testing.assert_allclose(made[passed], wanted, rtol=0.02, atol=1e-6)
