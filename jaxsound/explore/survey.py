"""One pass over a data set's clips, and the few clips that are looked at closely."""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsound.bars import bar
from jaxsound.data import audio
from jaxsound.data.dataset import Dataset, Record
from jaxsound.features import spectral
from jaxsound.features.frontend import FrontendConfig, frontend

SILENT = -100.0  # dBFS, of a clip of zeros: 16 bits go down to -90
_CHUNK = 256  # clips read ahead


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the figures need to know of each of N clips."""

    class_names: tuple[str, ...]
    clip_ids: np.ndarray  # [N] str
    labels: np.ndarray  # [N] int
    folds: np.ndarray  # [N] int
    groups: np.ndarray  # [N] str
    seconds: np.ndarray  # [N]
    rates: np.ndarray  # [N] Hz
    loudness: np.ndarray  # [N] RMS in dBFS; a full-scale square wave has 0
    verified: np.ndarray | None  # [N] bool, where the publisher tells which labels he checked

    @property
    def equally_long(self) -> bool:
        """Whether all clips last the same, to 20 ms."""
        return bool(np.ptp(self.seconds) < 0.02)

    def of_class(self, label: int) -> np.ndarray:
        """Indices of a class's longer half of clips, at least, from quiet to loud."""
        clips = np.flatnonzero(self.labels == label)
        clips = clips[self.seconds[clips] >= np.median(self.seconds[clips])]
        return clips[np.argsort(self.loudness[clips], kind="stable")]


def survey(dataset: Dataset) -> Survey:
    """Reads every clip once, in threads; memory does not grow with the sound in them."""
    measured: list[tuple[Any, ...]] = []
    seen = bar(desc="clips", total=len(dataset.clips), unit="clip")
    with seen, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(dataset.clips), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(dataset.clips)))
            measured += pool.map(lambda i: _measure(dataset.clips[i]), chunk)
            seen.update(len(chunk))
    columns = dict(zip(_COLUMNS, map(np.array, zip(*measured, strict=True)), strict=True))
    verified = columns.pop("verified")
    return Survey(
        class_names=dataset.class_names,
        verified=verified.astype(bool) if (verified != -1).all() else None,
        **columns,
    )


_COLUMNS = ("clip_ids", "labels", "folds", "groups", "seconds", "rates", "loudness", "verified")


def _measure(record: Record) -> tuple[str, int, int, str, float, int, float, int]:
    samples, rate = np.asarray(record["audio"]), int(record["sample_rate"])
    power = np.mean(np.square(samples.astype(np.float32) / 32768)) if len(samples) else 0.0
    loudness = max(SILENT, 10 * math.log10(power)) if power > 0 else SILENT
    return (
        str(record["clip_id"]),
        int(record["label"]),
        int(record["fold"]),
        str(record["group"]),
        len(samples) / rate,
        rate,
        loudness,
        int(record.get("manually_verified", -1)),
    )


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip that is looked at closely."""

    clip_id: str
    label: int
    name: str  # of its class
    waveform: np.ndarray  # [n] float32 at its own rate
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.rate

    def at(self, rate: int) -> np.ndarray:
        """The waveform at another rate."""
        return audio.resample(self.waveform, self.rate, rate)


def load(dataset: Dataset, index: int) -> Clip:
    """Decodes clip number `index`."""
    record = dataset.clips[index]
    label = int(record["label"])
    return Clip(
        clip_id=str(record["clip_id"]),
        label=label,
        name=dataset.class_names[label],
        waveform=np.asarray(record["audio"]).astype(np.float32) / 32768,
        rate=int(record["sample_rate"]),
    )


def spread(items: Sequence[int], count: int) -> list[int]:
    """At most `count` of the items, evenly spread."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def features(clip: Clip, config: FrontendConfig) -> np.ndarray:
    """`[T, M]` float32 of a whole clip, as the feature store has it but for its rounding."""
    waveform = clip.at(config.sample_rate)
    out = frontend(config, jnp.asarray(_padded(waveform)), jnp.array([len(waveform)], jnp.int32))
    return np.asarray(out)[0, : config.frames(len(waveform))]


def seconds_of(frames: int, clip: Clip, config: FrontendConfig) -> float:
    """What so many frames of a clip's features span; resized ones span all that was used of it."""
    if not config.resize_frames:
        return frames * config.step / config.sample_rate
    return config.seconds if config.pad != "none" else min(clip.seconds, config.seconds or np.inf)


def linear_decibels(clip: Clip, config: FrontendConfig) -> np.ndarray:
    """`[T, F]` |STFT| in dB below the clip's own maximum, down to -80."""
    waveform = clip.at(config.sample_rate)
    spectrum = spectral.stft(
        jnp.asarray(_padded(waveform)), config.n_fft, config.hop_length, config.win_length
    )
    frames = spectral.frames(len(waveform), config.n_fft, config.hop_length)
    power = jnp.square(jnp.abs(spectrum[0, :frames]))
    return np.asarray(spectral.power_to_db(power, "max"))


def of_kind(config: FrontendConfig, kind: str) -> FrontendConfig:
    """The frontend's window, hop and mel filters, for features of another kind."""
    n_mels = min(config.n_mels, 1 + config.n_fft // 2)
    return FrontendConfig(
        kind=kind,
        sample_rate=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.win_length,
        hop_length=config.hop_length,
        n_mels=n_mels,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=config.htk,
        norm=config.norm,
        n_mfcc=min(max(config.n_mfcc, 2), n_mels),
    )


@functools.cache
def mel_centres(config: FrontendConfig) -> np.ndarray:
    """Centre frequencies `[n_mels]` in Hz, rising; filters too narrow to have one are filled in."""
    filters = spectral.mel_filterbank(
        config.sample_rate,
        config.n_fft,
        config.n_mels,
        config.fmin,
        config.fmax or None,
        config.htk,
        config.norm or None,
    )
    weight = filters.sum(1)
    hertz = np.arange(filters.shape[1]) * config.sample_rate / config.n_fft
    there = np.flatnonzero(weight)
    centres = filters[there] @ hertz / weight[there]
    return np.interp(np.arange(len(filters)), there, centres)


def _padded(waveform: np.ndarray) -> np.ndarray:
    """`[1, N]`: zeros up to a power of two, so that few lengths are compiled for."""
    total = 1 << max(12, (len(waveform) - 1).bit_length())
    return np.pad(waveform.astype(np.float32), (0, total - len(waveform)))[None]
