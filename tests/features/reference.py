"""The frontend in the plainest way: one clip, librosa and NumPy, step after step."""

import warnings

import librosa
import numpy as np

from jaxsound.features.frontend import FrontendConfig, frontend

DECIBELS = 1e-3  # the agreement that is asked for
LINEAR_RANGE = 80.0  # dB below the loudest, within which linear features are compared in dB


def by_librosa(config: FrontendConfig, waveform: np.ndarray) -> np.ndarray:
    """[N] -> [T, M], from librosa's and NumPy's public functions alone."""
    features = _features(config, _cut_and_padded(config, waveform))
    if config.resize_bins:
        features = _resized(features.T, config.resize_bins).T
    if config.resize_frames:
        features = _resized(features, config.resize_frames)
    return _scaled(config, features)


def _cut_and_padded(config: FrontendConfig, waveform: np.ndarray) -> np.ndarray:
    limit = round(config.seconds * config.sample_rate)
    if config.excerpt == "whole":
        limit = max(limit, len(waveform))
    if limit and len(waveform) > limit:
        start = 0
        if config.excerpt == "loudest":
            start = int(np.argmax(np.abs(waveform))) - limit // 2
            start = min(max(0, start), len(waveform) - limit)
        waveform = waveform[start : start + limit]
    short = limit - len(waveform)
    if config.pad == "zero":
        return np.pad(waveform, (0, short))
    if config.pad == "reflect" and len(waveform):
        return np.pad(waveform, (short // 2, short - short // 2), mode="reflect")
    if config.pad in ("repeat", "repeatpad") and len(waveform):
        times = limit // len(waveform)  # as transformers' ClapFeatureExtractor has it
        if config.pad == "repeat":
            return np.tile(waveform, times + 1)[:limit]
        return np.pad(np.tile(waveform, times), (0, limit - times * len(waveform)))
    by_samples = config.pad in ("reflect", "repeat", "repeatpad")
    return np.zeros(limit, np.float32) if by_samples else waveform


def _features(config: FrontendConfig, waveform: np.ndarray) -> np.ndarray:
    c = config
    window = {"n_fft": c.n_fft, "hop_length": c.hop_length, "win_length": c.win_length or None}
    window["pad_mode"] = {"zero": "constant", "reflect": "reflect"}[c.ends]
    if not len(waveform):  # librosa refuses it
        waveform = np.zeros(1, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # empty filters; n_fft above a clip's samples
        if c.kind == "fbank":
            features = _fbank(c, waveform)
        elif c.kind == "stft":
            features = np.abs(librosa.stft(waveform, **window)) ** c.power
        else:
            features = librosa.feature.melspectrogram(
                y=waveform,
                sr=c.sample_rate,
                **window,
                power=c.power,
                n_mels=c.n_mels,
                fmin=c.fmin,
                fmax=c.fmax or None,
                htk=c.htk,
                norm=c.norm or None,
            )
    if c.kind in ("log_mel", "mfcc"):
        ref = np.max if c.ref == "max" else c.ref
        features = librosa.power_to_db(features, ref=ref, amin=c.amin, top_db=c.top_db or None)
    if c.pad in ("floor", "blank"):
        first = (c.win_length or c.n_fft) if c.kind == "fbank" else c.n_fft % 2
        whole = max(1, 1 + (round(c.seconds * c.sample_rate) - first) // c.hop_length)
        whole = max(whole, features.shape[1]) if c.excerpt == "whole" else whole
        short = ((0, 0), (0, whole - features.shape[1]))
        least = features.min() if c.pad == "floor" else 0
        features = np.pad(features, short, constant_values=least)
    if c.kind == "mfcc":
        features = librosa.feature.mfcc(S=features, n_mfcc=c.n_mfcc)
    mode = "interp" if features.shape[1] >= 9 else "nearest"  # librosa refuses the first there
    orders = [
        librosa.feature.delta(features, order=order, mode=mode) for order in range(1, c.delta + 1)
    ]
    return np.concatenate([features, *orders]).T


def _fbank(c: FrontendConfig, waveform: np.ndarray) -> np.ndarray:
    """[N] -> [n_mels, T], as Kaldi's: frame after frame, and filters that are lines over mels."""
    width = c.win_length or c.n_fft
    waveform = np.pad(waveform.astype(np.float64), (0, max(0, width - len(waveform))))
    frames = []
    for start in range(0, len(waveform) - width + 1, c.hop_length):
        frame = waveform[start : start + width]
        frame = frame - frame.mean()
        frame = np.append(frame[0] * 0.03, frame[1:] - 0.97 * frame[:-1]) * np.hanning(width)
        frames.append(np.abs(np.fft.rfft(frame, c.n_fft)) ** 2)
    ends = librosa.hz_to_mel([c.fmin, c.fmax or c.sample_rate / 2], htk=True)
    corners = np.linspace(*ends, c.n_mels + 2)
    bins = librosa.hz_to_mel(librosa.fft_frequencies(sr=c.sample_rate, n_fft=c.n_fft), htk=True)
    filters = [np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(c.n_mels)]
    return np.log(np.maximum(np.stack(filters) @ np.stack(frames).T, 2.0**-23))


def _resized(rows: np.ndarray, size: int) -> np.ndarray:
    """[R, C] -> [size, C]: each column is read off at the centres of `size` equal parts."""
    centres = (np.arange(size) + 0.5) * len(rows) / size - 0.5
    return np.stack([np.interp(centres, np.arange(len(rows)), column) for column in rows.T], 1)


def _scaled(config: FrontendConfig, features: np.ndarray) -> np.ndarray:
    if config.scale == "none":
        return features
    features = features.astype(np.float64)
    if np.ptp(features) == 0:
        return np.zeros_like(features)
    if config.scale == "minmax":
        return (features - features.min()) / np.ptp(features)
    return (features - features.mean()) / max(features.std(), 1e-6)


def ours(config: FrontendConfig, waveform: np.ndarray) -> np.ndarray:
    """[N] -> [T, M]."""
    samples = np.array([len(waveform)], np.int32)
    return np.asarray(frontend(config, waveform[None], samples))[0]


def assert_equal(config: FrontendConfig, got: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-3 dB, or 1e-3 of a scaled clip's unit."""
    assert got.shape == expected.shape
    if config.kind in ("stft", "mel") and config.scale == "none" and not config.delta:
        to_db = 20 / config.power if config.kind == "stft" else 10
        floor = max(expected.max(), 1e-10) * 10 ** (-LINEAR_RANGE / to_db)
        got, expected = (to_db * np.log10(np.maximum(x, floor)) for x in (got, expected))
    assert np.abs(got - expected).max() < DECIBELS
