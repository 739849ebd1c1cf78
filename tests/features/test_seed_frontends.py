"""The frontends of the systems people tried before, by the few lines their authors meant."""

import warnings
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from jaxsound.data.audio import resample
from jaxsound.features.frontend import FrontendConfig, frontend

S3 = {"sample_rate": 44100, "n_fft": 2048, "hop_length": 512, "n_mels": 128, "fmin": 0.0}
S4 = {"n_fft": 1024, "hop_length": 512, "n_mels": 64, "fmin": 0.0, "pad": "zero"}
S0 = FrontendConfig(
    "stft",
    sample_rate=44100,
    n_fft=255,
    hop_length=128,
    power=1.0,
    seconds=100_000 / 44100,
    pad="zero",
    resize_frames=64,
    resize_bins=32,
    dtype="float32",
)
S1 = FrontendConfig(
    sample_rate=44100,
    n_fft=16384,
    win_length=3969,
    hop_length=308,
    n_mels=256,
    fmin=20.0,
    fmax=17000.0,
    seconds=5.0,
    pad="reflect",
    scale="minmax",
)
S2 = FrontendConfig(**S3, ref="max", seconds=1500 * 512 / 44100, pad="floor")
S4_M1 = FrontendConfig("mel", sample_rate=16000, **S4, seconds=10.0, dtype="float32")
S4_M2 = FrontendConfig(
    "mel", sample_rate=16000, **S4, seconds=2.0, excerpt="loudest", dtype="float32"
)
S4_M5 = FrontendConfig("mfcc", **S3, n_mfcc=15, seconds=2.0, excerpt="loudest", pad="zero")
S4_M6 = FrontendConfig(**S3, ref="max", resize_frames=128)


def s0(clip: np.ndarray) -> np.ndarray:
    clip = librosa.util.fix_length(clip, size=100_000)
    magnitude = np.abs(librosa.stft(clip, n_fft=255, hop_length=128))
    assert magnitude.shape == (128, 782)
    return resized(magnitude, 32, 64)


def s1(clip: np.ndarray) -> np.ndarray:
    short = 5 * 44100 - len(clip)
    clip = np.pad(clip, (max(0, short) // 2, max(0, short + 1) // 2), "reflect")[: 5 * 44100]
    mel = librosa.feature.melspectrogram(
        y=clip, sr=44100, n_fft=16384, win_length=3969, hop_length=308, n_mels=256, fmin=20,
        fmax=17000,
    )  # fmt: skip
    decibels = librosa.power_to_db(mel, top_db=80)
    standard = (decibels - decibels.mean()) / (decibels.std() + 1e-6)
    return (standard - standard.min()) / (standard.max() - standard.min())


def s2(clip: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(y=clip, sr=44100, n_fft=2048, hop_length=512, n_mels=128)
    decibels = librosa.power_to_db(mel, ref=np.max)[:, :1501]
    return np.pad(decibels, ((0, 0), (0, 1501 - decibels.shape[1])), constant_values=-80)


def s3(clip: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=clip, sr=44100, n_mels=128, fmin=0, fmax=8000, htk=True, norm=None
    )
    return librosa.power_to_db(mel, top_db=80)


def s4_m1(clip: np.ndarray) -> np.ndarray:
    clip = librosa.util.fix_length(clip, size=160_000)
    return librosa.feature.melspectrogram(y=clip, sr=16000, n_fft=1024, n_mels=64)


def s4_m2(clip: np.ndarray) -> np.ndarray:
    return librosa.feature.melspectrogram(y=loudest(clip, 32000), sr=16000, n_fft=1024, n_mels=64)


def s4_m5(clip: np.ndarray) -> np.ndarray:
    return librosa.feature.mfcc(y=loudest(clip, 88200), sr=44100, n_mfcc=15)


def s4_m6(clip: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(y=clip, sr=44100, n_mels=128)
    return resized(librosa.power_to_db(mel, ref=np.max), 128, 128)


def loudest(clip: np.ndarray, size: int) -> np.ndarray:
    start = max(0, min(int(np.abs(clip).argmax()) - size // 2, len(clip) - size))
    return librosa.util.fix_length(clip[start:], size=size)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    torch = pytest.importorskip("torch")
    image = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return torch.nn.functional.interpolate(image, size=(height, width), mode="bilinear")[0, 0]


SYSTEMS: dict[str, tuple[FrontendConfig, Callable[[np.ndarray], np.ndarray], tuple[int, int]]] = {
    "s0": (S0, s0, (32, 64)),
    "s1": (S1, s1, (256, 716)),
    "s2": (S2, s2, (128, 1501)),
    "s3": (FrontendConfig(**S3, fmax=8000.0, htk=True, norm=""), s3, (128, 431)),
    "s4_m1": (S4_M1, s4_m1, (64, 313)),
    "s4_m2": (S4_M2, s4_m2, (64, 63)),
    "s4_m5": (S4_M5, s4_m5, (15, 173)),
    "s4_m6": (S4_M6, s4_m6, (128, 128)),
}


@pytest.fixture(scope="module")
def clips(recordings: Path) -> list[tuple[np.ndarray, int]]:
    """Five seconds of ESC-50, and a shorter clip of UrbanSound8K."""
    long = sorted(recordings.glob("ESC-50-master/audio/*.wav"))[3]
    files = sorted(recordings.glob("UrbanSound8K/audio/fold*/*.wav"))
    short = next(file for file in files if soundfile.info(file).duration < 1.9)
    read = [soundfile.read(file, dtype="float32", always_2d=True) for file in (long, short)]
    return [(audio.mean(axis=1), rate) for audio, rate in read]


@pytest.mark.parametrize("name", SYSTEMS)
def test_frontends_are_what_the_authors_meant(
    name: str, clips: list[tuple[np.ndarray, int]]
) -> None:
    config, plain, shape = SYSTEMS[name]
    waveforms = [resample(audio, rate, config.sample_rate) for audio, rate in clips]
    batch = np.zeros((2, len(waveforms[0])), np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    samples = np.array([len(waveform) for waveform in waveforms], np.int32)
    features = np.asarray(frontend(config, batch, samples))
    assert features.shape[1:] == shape[::-1]
    for got, waveform in zip(features, waveforms, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # filters narrower than a bin
            expected = np.asarray(plain(waveform)).T
        frames = config.frames(len(waveform))
        assert expected.shape == (frames, config.features)
        unit = 1.0 if config.kind in ("log_mel", "mfcc") else expected.max()
        np.testing.assert_allclose(got[:frames] / unit, expected / unit, rtol=0, atol=1e-3)
