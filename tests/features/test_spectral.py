"""The pieces are librosa's: equal numbers for each clip's own frames."""

import librosa
import numpy as np
import pytest

from jaxsound.features import spectral


@pytest.mark.parametrize(
    ("n_fft", "hop", "win"), [(255, 128, 0), (512, 100, 0), (512, 128, 300), (512, 77, 301)]
)
def test_stft_equals_librosas(n_fft: int, hop: int, win: int) -> None:
    noise = np.random.default_rng(3).normal(size=(2, 4_000)).astype(np.float32)
    expected = librosa.stft(noise, n_fft=n_fft, hop_length=hop, win_length=win or None)
    got = np.asarray(spectral.stft(noise, n_fft, hop, win))
    np.testing.assert_allclose(got, expected.swapaxes(1, 2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("edges", [(0.0, None), (500.0, 7000.0), (1500.0, None)])
def test_mel_filterbank_equals_librosas(
    edges: tuple[float, float | None], htk: bool, norm: str | None
) -> None:
    args = {"n_fft": 2048, "n_mels": 40, "fmin": edges[0], "fmax": edges[1], "htk": htk}
    expected = librosa.filters.mel(sr=22050, norm=norm, **args)
    got = spectral.mel_filterbank(22050, norm=norm, **args)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("top_db", [None, 80.0, 20.0])
@pytest.mark.parametrize("amin", [1e-10, 1e-3])
@pytest.mark.parametrize("ref", [1.0, 0.02, -3.0, 1e-12, "max"])
def test_power_to_db_equals_librosas(ref: float | str, amin: float, top_db: float | None) -> None:
    rng = np.random.default_rng(4)
    power = (10 ** rng.uniform(-14, 2, size=(2, 30, 8))).astype(np.float32)
    power[:, 3] = 0
    got = np.asarray(spectral.power_to_db(power, ref, amin, top_db))
    for clip, decibels in zip(power, got, strict=True):
        reference = np.max if ref == "max" else ref
        expected = librosa.power_to_db(clip, ref=reference, amin=amin, top_db=top_db)
        np.testing.assert_allclose(decibels, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_delta_equals_librosas_within_each_length(order: int) -> None:
    features = np.random.default_rng(5).normal(size=(4, 40, 3)).astype(np.float32)
    lengths = np.array([40, 9, 10, 23])
    got = np.asarray(spectral.delta(features, lengths, order))
    for clip, result, length in zip(features, got, lengths, strict=True):
        expected = librosa.feature.delta(clip[:length].T, order=order).T
        np.testing.assert_allclose(result[:length], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 8])
def test_delta_of_short_clips_repeats_the_end_frames(length: int) -> None:
    features = np.random.default_rng(6).normal(size=(1, 12, 3)).astype(np.float32)
    got = np.asarray(spectral.delta(features, np.array([length]), 1))[0, :length]
    expected = librosa.feature.delta(features[0, :length].T, mode="nearest").T
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
