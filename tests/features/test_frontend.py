"""The frontend is librosa's, batched: equal numbers, whatever the padding and the neighbours."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from jaxsound.data.audio import resample
from jaxsound.features.frontend import FrontendConfig, frontend
from tests.features.reference import assert_equal, by_librosa, ours

_SYSTEM_44K = {"sample_rate": 44100, "n_fft": 2048, "hop_length": 512, "n_mels": 128, "fmin": 0.0}
CONFIGS = {
    "default": FrontendConfig(),
    "s0": FrontendConfig(
        "stft", sample_rate=44100, n_fft=255, hop_length=128, power=1.0, dtype="float32"
    ),
    "s1": FrontendConfig(
        sample_rate=44100,
        n_fft=16384,
        win_length=3969,
        hop_length=308,
        n_mels=256,
        fmin=20.0,
        fmax=17000.0,
    ),
    "s2_s4m6": FrontendConfig(**_SYSTEM_44K, ref="max"),
    "s3": FrontendConfig(**_SYSTEM_44K, fmax=8000.0, htk=True, norm=""),
    "s4m1": FrontendConfig(
        "mel",
        sample_rate=16000,
        hop_length=512,
        fmin=0.0,
        htk=True,
        norm="",
        dtype="float32",
    ),
    "s4m5": FrontendConfig("mfcc", **_SYSTEM_44K, n_mfcc=15),
    "mfcc_deltas": FrontendConfig("mfcc", delta=2, win_length=800, hop_length=300),
    "quiet_ref": FrontendConfig(ref=1e-4, amin=1e-8, top_db=40.0, n_mels=40, delta=1),
    "no_floor": FrontendConfig(top_db=0.0, hop_length=256),
    "long_hop": FrontendConfig(hop_length=1500, n_fft=512, norm="", ref="max"),
}
KINDS = ("s0", "s4m1", "default", "mfcc_deltas")  # one of each kind


@pytest.fixture(scope="module")
def clips(recordings: Path) -> list[tuple[np.ndarray, int]]:
    """Up to 2 s of a few real clips of each publisher, loud and quiet, short and long."""
    patterns = ("ESC-50-master/audio/*", "UrbanSound8K/audio/fold*/*", "*/audio_train/*")
    picked = []
    for pattern in patterns:
        files = sorted(recordings.glob(f"{pattern}.wav"))
        picked += files[:: len(files) // 4]
    read = [soundfile.read(path, dtype="float32", always_2d=True) for path in picked]
    return [(audio.mean(axis=1)[: 2 * rate], rate) for audio, rate in read]


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_librosa_on_recordings(name: str, clips: list[tuple[np.ndarray, int]]) -> None:
    config = CONFIGS[name]
    assert len(clips) >= 12
    longest = max(len(audio) * config.sample_rate // rate for audio, rate in clips) + 100
    batch = np.full((len(clips), longest), np.nan, np.float32)
    waveforms = [resample(audio, rate, config.sample_rate) for audio, rate in clips]
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    samples = np.array([len(waveform) for waveform in waveforms], np.int32)
    features = np.asarray(frontend(config, batch, samples))
    for waveform, got in zip(waveforms, features, strict=True):
        frames = config.frames(len(waveform))
        assert_equal(config, got[:frames], by_librosa(config, waveform))
        assert (got[frames:] == 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_librosa_on_noise(name: str) -> None:
    config = CONFIGS[name]
    noise = np.random.default_rng(0).normal(scale=0.1, size=30_011).astype(np.float32)
    assert_equal(config, ours(config, noise), by_librosa(config, noise))


@pytest.mark.parametrize("samples", [1, 2, 127, 128, 129, 255, 256, 1000])
@pytest.mark.parametrize("n_fft", [254, 255])
def test_frames_are_as_many_as_librosas(n_fft: int, samples: int) -> None:
    config = FrontendConfig("stft", n_fft=n_fft, hop_length=128, dtype="float32")
    noise = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    expected = by_librosa(config, noise)
    assert config.frames(samples) == len(expected)
    assert_equal(config, ours(config, noise), expected)


@pytest.mark.parametrize("name", [*KINDS, "s2_s4m6", "quiet_ref"])
def test_does_not_depend_on_padding_or_neighbours(name: str) -> None:
    config = CONFIGS[name]
    rng = np.random.default_rng(1)
    clip = rng.normal(scale=0.1, size=20_000).astype(np.float32)
    frames = config.frames(len(clip))
    alone = ours(config, clip)
    batch = rng.normal(scale=9.0, size=(3, 50_000)).astype(np.float32)
    batch[1, : len(clip)] = clip
    batch[2] = np.inf
    samples = np.array([50_000, len(clip), 0], np.int32)
    together = np.asarray(frontend(config, batch, samples))
    scale = np.abs(alone).max()
    np.testing.assert_allclose(together[1, :frames], alone, rtol=0, atol=1e-5 * scale)
    assert (together[1, frames:] == 0).all()
    assert np.isfinite(together[2]).all()


def test_the_loudest_is_sought_in_the_clips_own_frames() -> None:
    config = FrontendConfig(ref="max", top_db=20.0)
    click = np.zeros(2 * config.hop_length - 1, np.float32)
    click[-1] = 1.0  # nearer to the first frame past the clip's own than to its last
    padded = np.pad(click, (0, 5_000))[None]
    together = frontend(config, padded, np.array([len(click)], np.int32))
    frames = config.frames(len(click))
    np.testing.assert_allclose(together[0, :frames], by_librosa(config, click), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_empty_and_silent_clips_are_finite(name: str) -> None:
    config = CONFIGS[name]
    empty = ours(config, np.zeros(0, np.float32))
    assert empty.shape == (1, config.features) == (config.frames(0), config.features)
    assert np.isfinite(empty).all()
    silent = np.zeros(20_000, np.float32)
    np.testing.assert_allclose(
        ours(config, silent), by_librosa(config, silent), rtol=1e-6, atol=1e-4
    )


def test_may_be_jitted_again() -> None:
    config = FrontendConfig("mfcc", delta=1)
    noise = np.random.default_rng(2).normal(size=(2, 9_000)).astype(np.float32)
    samples = np.array([9_000, 7_000], np.int32)
    outer = jax.jit(functools.partial(frontend, config))
    np.testing.assert_allclose(outer(noise, samples), frontend(config, noise, samples), atol=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("kind", "logmel", "log_mel"),
        ("sample_rate", 0, "1 or more"),
        ("n_fft", 1024.5, "whole number"),
        ("n_fft", 1, "2 or more"),
        ("win_length", 1025, "n_fft=1024"),
        ("hop_length", 0, "1 or more"),
        ("hop_length", True, "whole number"),
        ("n_mels", 514, "1 to 513"),
        ("fmin", -1.0, "0 or more"),
        ("fmin", 16000.0, "below 16000"),
        ("fmax", 16001.0, "16000"),
        ("htk", "yes", "true or false"),
        ("norm", "l2", "slaney"),
        ("power", 0.0, "above 0"),
        ("ref", "median", "max"),
        ("ref", 0.0, "above 0"),
        ("amin", 0.0, "1e-37"),
        ("top_db", -1.0, "no floor"),
        ("top_db", float("nan"), "a number"),
        ("delta", 3, "0, 1 or 2"),
        ("dtype", "int8", "float16, float32"),
    ],
)
def test_refuses_impossible_values_by_name(key: str, value: object, advice: str) -> None:
    with pytest.raises(ValueError, match=rf"^frontend\.{key}=.*: must be .*{advice}") as error:
        FrontendConfig(**{key: value})
    assert str(value) in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_what_does_not_fit_together() -> None:
    with pytest.raises(ValueError, match=r"n_mfcc=65: must be 1 to n_mels=64"):
        FrontendConfig("mfcc", n_mfcc=65)
    for kind in ("stft", "mel"):
        with pytest.raises(ValueError, match=rf"dtype=float16: must be float32 for kind={kind}"):
            FrontendConfig(kind)


def test_equal_settings_are_written_alike() -> None:
    written = [
        json.dumps(dataclasses.asdict(config))
        for config in (
            FrontendConfig(),
            FrontendConfig(fmin=50, n_fft=1024.0, ref=1, top_db=np.float64(80)),
        )
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize("name", KINDS)
def test_stored_dtype_holds_the_features(name: str) -> None:
    config = CONFIGS[name]
    loud = np.sign(np.sin(np.arange(30_000) / 20)).astype(np.float32)
    features = ours(config, loud)
    kept = features.astype(config.dtype)
    assert np.isfinite(kept).all()
    np.testing.assert_allclose(kept.astype(np.float32), features, rtol=1e-3, atol=0.05)
