"""One pass over the recordings: each is decoded once, and only figures and keys are kept."""

import concurrent.futures
import dataclasses
import hashlib
import os
from typing import Any

import numpy as np
import scipy.fft
import soundfile

from jaxsound.audit import fingerprint
from jaxsound.audit.sources import Catalogue, Source, file_of
from jaxsound.bars import bar
from jaxsound.data import audio

QUIET = 33  # of 32768: -60 dBFS, below which a sample counts as silence before or after the sound
FULL_SCALE = 32_760  # of 32767: what a limiter or a converter at its stop gives
RUN = 4  # samples at full scale in a row; a clean wave that just reaches it stays for fewer
_WELCH = 2048  # samples of a window of the long-term spectrum
_SPECTRA = 256  # windows at most, evenly spread
_BAND = 16  # bins of the spectrum that are taken together: rate / 128 Hz
# Rounding to 16 bits leaves 1/12 LSB² of noise; ten times as much is sound.
_FLOOR = 10 / 12
CLIFF = 30.0  # how far sound must fall (15 dB) within two bands for its edge to be a filter's

Print = tuple[np.ndarray, np.ndarray]
NOTHING: Print = (np.zeros(0, np.uint32), np.zeros(0, np.uint16))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What is kept of a clip. Everything after `broken` is at its default for a broken one."""

    clip_id: str
    label: int
    group: str
    fold: int
    broken: str = ""  # why it cannot be used
    seconds: float = 0.0
    rate: int = 0  # Hz
    channels: int = 0  # 0: not known, the clip was decoded before
    codec: str = ""  # container and encoding, as in "WAV PCM_16"; "" where not known
    digest: str = ""  # of the decoded samples
    peak: float = 0.0  # share of full scale
    rms: float = 0.0  # share of full scale
    offset: float = 0.0  # mean, share of full scale
    constant: bool = False  # every sample is the same
    leading: float = 0.0  # seconds below -60 dBFS before the sound
    trailing: float = 0.0  # and after it
    zeros: float = 0.0  # share of the clip that is digital silence, in stretches of 10 ms
    clipped: float = 0.0  # share of samples at full scale in runs
    edge: float = 0.0  # Hz: where the sound ends, or half the rate
    cliff: bool = False  # it ends there as at a filter


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the pass found, clip by clip in the catalogue's order."""

    catalogue: Catalogue
    figures: tuple[Figures, ...]
    prints: tuple[Print, ...]


def survey(catalogue: Catalogue, threads: int | None = None) -> Survey:
    """Decodes every clip once, on `threads` threads (by default one per core)."""
    threads = threads or os.cpu_count() or 1
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
        bar(total=len(catalogue.clips), desc="reading", unit="clip") as read,
    ):
        measured = []
        for result in pool.map(measure, catalogue.clips):
            measured.append(result)
            read.update()
    figures, prints = zip(*measured, strict=True)
    return Survey(catalogue, figures, prints)


def measure(clip: Source) -> tuple[Figures, Print]:
    """The figures and the fingerprint of one clip; a broken one gives its reason."""
    figures = Figures(clip.clip_id, clip.label, clip.group, clip.fold)
    try:
        samples, rate = clip.read()
    except audio.AudioError as error:
        return dataclasses.replace(figures, broken=error.reason), NOTHING
    channels, codec = _container(clip)
    figures = dataclasses.replace(
        figures, rate=rate, channels=channels, codec=codec, **describe(samples, rate)
    )
    return figures, fingerprint.keys(listen(samples, rate))


def listen(samples: np.ndarray, rate: int) -> np.ndarray:
    """int16 `[n]` at `rate` -> float32 at 16 kHz, full scale 1: what is compared with others."""
    heard = samples[: int(fingerprint.SECONDS * rate)].astype(np.float32) / 32768
    return audio.resample(heard, rate, fingerprint.RATE)


def describe(samples: np.ndarray, rate: int) -> dict[str, Any]:
    """The fields of `Figures` that follow from int16 `[n]` samples at `rate` Hz."""
    sound = samples.astype(np.float32)
    level = np.abs(sound)
    peak = float(level.max())
    loud = np.flatnonzero(level >= QUIET)[[0, -1]] if peak >= QUIET else (len(sound), -1)
    edge, cliff = bandwidth(sound, rate)
    return {
        "seconds": len(sound) / rate,
        "digest": hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest(),
        "peak": peak / 32768,
        "rms": float(np.sqrt(np.mean(np.square(sound)))) / 32768,
        "offset": float(sound.mean()) / 32768,
        "constant": bool(sound.min() == sound.max()),
        "leading": float(loud[0]) / rate,
        "trailing": float(len(sound) - 1 - loud[1]) / rate,
        "zeros": _zeros(level, rate),
        "clipped": _clipped(level) if peak >= FULL_SCALE else 0.0,
        "edge": edge,
        "cliff": cliff,
    }


def bandwidth(sound: np.ndarray, rate: int) -> tuple[float, bool]:
    """Where the sound of float32 `[n]` (in units of 16-bit steps) ends, in Hz.

    Returns `(edge, cliff)`: the highest frequency that is above the rounding noise, and whether
    the sound falls there as it does at a filter. A quiet recording sinks into the noise slowly:
    that edge says nothing.
    """
    if len(sound) < _WELCH:
        sound = np.pad(sound, (0, _WELCH - len(sound)))
    windows = np.lib.stride_tricks.sliding_window_view(sound, _WELCH)[::_WELCH]
    windows = windows[:: -(-len(windows) // _SPECTRA)]
    shape = np.hanning(_WELCH).astype(np.float32)
    spectrum = scipy.fft.rfft(windows * shape)[:, :-1]
    density = np.mean(np.square(spectrum.real) + np.square(spectrum.imag), axis=0)
    bands = np.median(density.reshape(-1, _BAND), axis=1) / np.square(shape).sum()
    above = np.flatnonzero(bands > _FLOOR)
    if not len(above):
        return 0.0, False
    last = int(above[-1])
    if last >= len(bands) - 3:
        return rate / 2, False
    cliff = bands[max(last - 2, 0)] > CLIFF * max(float(bands[last + 1 :].max()), _FLOOR / 10)
    return (last + 1) * rate / (2 * len(bands)), bool(cliff)


def _container(clip: Source) -> tuple[int, str]:
    path = file_of(clip)
    if path is None:
        return 0, ""
    info = soundfile.info(path)
    return info.channels, f"{info.format} {info.subtype}"


def _zeros(level: np.ndarray, rate: int) -> float:
    step = max(rate // 100, 1)
    whole = len(level) // step * step
    if not whole:
        return float(not level.any())
    return float(np.mean(level[:whole].reshape(-1, step).max(axis=1) == 0))


def _clipped(level: np.ndarray) -> float:
    full = np.concatenate([[0], (level >= FULL_SCALE).view(np.int8), [0]])
    turns = np.flatnonzero(np.diff(full))
    lengths = turns[1::2] - turns[::2]
    return float(lengths[lengths >= RUN].sum()) / len(level)
