"""Each corruption does what its name and level say, and the same each time."""

import librosa
import numpy as np
import pytest

from jaxsound.evaluation import corruptions
from jaxsound.evaluation.corruptions import CORRUPTIONS, Corruption, corrupt

RATE = 22050
BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def change(name: str, sound: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    return BY_NAME[name].change(sound, RATE, level, np.random.default_rng(seed))


def energy(sound: np.ndarray) -> float:
    return float(np.mean(np.square(sound, dtype=np.float64)))


def decibels(part: np.ndarray, whole: np.ndarray) -> float:
    return 10 * np.log10(energy(part) / energy(whole))


def loudest(sound: np.ndarray) -> float:
    """Hz of the strongest frequency."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.fft.rfftfreq(len(sound), 1 / RATE)[spectrum.argmax()])


def test_there_are_eight_in_five_levels_that_grow_worse() -> None:
    assert len(CORRUPTIONS) == 8
    rng = np.random.default_rng(0)
    sound = (np.convolve(rng.standard_normal(RATE), np.ones(3) / 3, "same") / 5).astype(np.float32)
    for corruption in CORRUPTIONS:
        assert len(corruption.levels) == len(set(corruption.levels)) == 5
        if corruption.name == "speed":  # a distance in time says nothing
            assert list(corruption.levels) == sorted(corruption.levels)
            continue
        changed = [change(corruption.name, sound, level, seed=1) for level in corruption.levels]
        distance = [energy(part - sound) for part in changed]
        assert distance == sorted(distance), corruption.name


@pytest.mark.parametrize("level", BY_NAME["noise"].levels)
def test_noise_has_its_ratio_to_the_sound(level: float) -> None:
    sound = tone(440, 2.0)
    added = change("noise", sound, level) - sound
    assert decibels(sound, added) == pytest.approx(level, abs=0.2)
    spectrum = np.square(np.abs(np.fft.rfft(added)))
    low, high = np.array_split(spectrum, 2)
    assert low.mean() / high.mean() == pytest.approx(1, abs=0.1)


def test_low_pass_takes_what_lies_above_and_moves_nothing() -> None:
    for hertz, expected in ((250, 0.0), (1000, -3.01), (2000, -24.1), (4000, -48.2)):
        sound = tone(hertz)
        passed = change("low-pass", sound, 1000.0)
        inside = slice(RATE // 4, -RATE // 4)
        assert decibels(passed[inside], sound[inside]) == pytest.approx(expected, abs=0.1)
    np.testing.assert_allclose(
        change("low-pass", tone(250), 1000.0)[inside], tone(250)[inside], atol=1e-3
    )


@pytest.mark.parametrize("share", BY_NAME["clipping"].levels)
def test_clipping_cuts_off_its_share_of_what_sounds(share: float) -> None:
    rng = np.random.default_rng(0)
    sound = np.concatenate([np.zeros(RATE), rng.standard_normal(RATE) / 8]).astype(np.float32)
    clipped = change("clipping", sound, share)
    changed = clipped != sound
    assert changed[RATE:].mean() == pytest.approx(share, abs=1e-3)
    assert not changed[:RATE].any()
    np.testing.assert_allclose(np.abs(clipped[changed]), np.abs(clipped).max(), rtol=1e-6)


def test_resampling_keeps_what_the_lower_rate_carries_and_folds_the_rest() -> None:
    low = tone(300)
    kept = change("resampling", low, 8000.0)
    assert len(kept) == len(low)
    assert decibels(kept - low, low) < -30
    assert loudest(change("resampling", tone(5000), 8000.0)) == pytest.approx(3000, abs=3)
    np.testing.assert_array_equal(change("resampling", low, RATE), low)


def test_gain_is_in_decibels() -> None:
    sound = tone(440)
    assert decibels(change("gain", sound, -20.0), sound) == pytest.approx(-20)


@pytest.mark.parametrize("factor", BY_NAME["speed"].levels)
def test_speed_moves_pitch_and_length_either_way_and_keeps_the_level(factor: float) -> None:
    sound, seen = tone(1000, 2.0), set()
    for seed in range(8):
        changed = change("speed", sound, factor, seed)
        ratio = len(sound) / len(changed)
        faster = ratio > 1
        seen.add(faster)
        assert ratio == pytest.approx(factor if faster else 1 / factor, rel=1e-3)
        assert loudest(changed) == pytest.approx(1000 * ratio, rel=2e-3)
        assert decibels(changed, sound) == pytest.approx(0, abs=0.1)
    assert seen == {True, False}


@pytest.mark.parametrize("bits", BY_NAME["mu-law"].levels)
def test_mu_law_equals_librosa_s_and_has_so_many_values(bits: int) -> None:
    above = np.geomspace(1e-5, 1, 3000)
    sound = np.concatenate([-above[::-1], [0], above])
    kept = change("mu-law", sound, bits)
    values = np.unique(kept)
    assert len(values) == 2**bits - 1
    np.testing.assert_allclose(values, -values[::-1], atol=1e-12)
    assert change("mu-law", np.zeros(5, np.float32), bits).tolist() == [0.0] * 5
    steps = 2 ** (bits - 1) - 1
    compressed = np.round(librosa.mu_compress(sound, mu=255, quantize=False) * steps) / steps
    expected = librosa.mu_expand(compressed, mu=255, quantize=False)
    np.testing.assert_allclose(kept, expected, atol=1e-6)


def test_silence_takes_its_share_of_one_edge_and_leaves_the_rest() -> None:
    sound, edges = tone(440) + 1, set()
    for seed in range(8):
        cut = change("silence at the edge", sound, 0.3, seed)
        gone = cut == 0
        assert gone.mean() == pytest.approx(0.3, abs=1e-4)
        assert np.count_nonzero(np.diff(gone)) == 1
        np.testing.assert_array_equal(cut[~gone], sound[~gone])
        edges.add(bool(gone[0]))
    assert edges == {True, False}


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_chance_is_the_seed_s_and_the_clip_s_alone(corruption: Corruption) -> None:
    audio = (tone(440, 0.2) * 20000).astype(np.int16)

    def of(seed: int, clip_id: str, severity: int = 3) -> list[int]:
        return corrupt(corruption, severity, audio, RATE, seed=seed, clip_id=clip_id).tolist()

    assert of(0, "a") == of(0, "a")
    if corruption.change in (corruptions.noise,):
        assert len({tuple(of(*which)) for which in ((0, "a"), (1, "a"), (0, "b"))}) == 3
    if corruption.change in (corruptions.speed, corruptions.silence):
        assert len({tuple(of(0, str(clip))) for clip in range(12)}) == 2


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 997])
@pytest.mark.parametrize("value", [0, 32767, -32768])
def test_any_recording_comes_out_as_16_bits(
    corruption: Corruption, samples: int, value: int
) -> None:
    audio = np.full(samples, value, np.int16)
    for severity in range(1, 6):
        changed = corrupt(corruption, severity, audio, RATE, seed=0, clip_id="x")
        assert changed.dtype == np.int16
        assert bool(len(changed)) == bool(samples)
        assert changed.any() <= bool(value)  # silence stays silent
