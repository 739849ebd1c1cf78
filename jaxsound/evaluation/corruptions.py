"""What may be wrong with a recording: eight corruptions of sound, each in five severities.

Plain NumPy. `sound` is float32 `[n]` of full scale 1.0, `rate` is in Hz, and `rng` is what chance
a corruption leaves to. All but `speed` keep the length.
"""

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np

MU = 255.0  # of G.711's compression


def noise(sound: np.ndarray, rate: int, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """White noise at this signal-to-noise ratio over the clip; digital silence stays silent."""
    power = np.mean(np.square(sound, dtype=np.float64)) / 10 ** (decibels / 10)
    return sound + np.sqrt(power) * rng.standard_normal(len(sound))


def low_pass(sound: np.ndarray, rate: int, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """The magnitude of a Butterworth filter of fourth order (24 dB an octave), without delay."""
    size = 1 << (len(sound) + rate // 20).bit_length()  # the end must not ring into the start
    frequency = np.fft.rfftfreq(size, 1 / rate)
    passed = np.fft.rfft(sound, size) / np.sqrt(1 + (frequency / hertz) ** 8)
    return np.fft.irfft(passed, size)[: len(sound)]


def clipping(sound: np.ndarray, rate: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """The loudest `share` of the samples that are not zero, cut off at one level."""
    level = np.abs(sound[sound != 0])
    if not len(level):
        return sound
    most = np.quantile(level, 1 - share)
    return np.clip(sound, -most, most)


def resampling(sound: np.ndarray, rate: int, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """To a lower rate and back by straight lines, so with aliases; a low rate stays as it is."""
    if hertz >= rate:
        return sound
    time, step = np.arange(len(sound)), rate / hertz
    coarse = np.arange(0, len(sound), step)
    return np.interp(time, coarse, np.interp(coarse, time, sound))


def gain(sound: np.ndarray, rate: int, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """Another level; what is quiet is then kept in few of 16 bits."""
    return sound * 10 ** (decibels / 20)


def speed(sound: np.ndarray, rate: int, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Faster or slower by this factor, by chance, and higher or lower with it; band-limited."""
    factor = factor if rng.integers(2) else 1 / factor
    size = max(1, round(len(sound) / factor))
    return np.fft.irfft(np.fft.rfft(sound), size) * (size / len(sound))


def mu_law(sound: np.ndarray, rate: int, bits: float, rng: np.random.Generator) -> np.ndarray:
    """Compressed as G.711 does it and kept in so many bits; silence stays silent."""
    steps = 2 ** (round(bits) - 1) - 1
    compressed = np.sign(sound) * np.log1p(MU * np.minimum(np.abs(sound), 1)) / np.log1p(MU)
    kept = np.round(compressed * steps) / steps
    return np.sign(kept) * np.expm1(np.abs(kept) * np.log1p(MU)) / MU


def silence(sound: np.ndarray, rate: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Zeros in place of this share of the clip, at its start or its end by chance."""
    lost, cut = round(share * len(sound)), sound.copy()
    where = slice(0, lost) if rng.integers(2) else slice(len(sound) - lost, len(sound))
    cut[where] = 0
    return cut


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A corruption and its five levels, from severity 1 to 5."""

    name: str
    unit: str
    levels: tuple[float, ...]
    change: Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]


CORRUPTIONS = (
    Corruption("noise", "dB signal to noise", (30, 20, 10, 5, 0), noise),
    Corruption("low-pass", "Hz", (8000, 4000, 2000, 1000, 500), low_pass),
    Corruption("clipping", "of samples", (0.01, 0.05, 0.1, 0.25, 0.5), clipping),
    Corruption("resampling", "Hz", (16000, 11025, 8000, 6000, 4000), resampling),
    Corruption("gain", "dB", (-6, -12, -20, -30, -40), gain),
    Corruption("speed", "times", (1.05, 1.1, 1.2, 1.35, 1.5), speed),
    Corruption("mu-law", "bits", (8, 6, 5, 4, 3), mu_law),
    Corruption("silence at the edge", "of the clip", (0.1, 0.2, 0.3, 0.5, 0.7), silence),
)


def corrupt(
    corruption: Corruption, severity: int, audio: np.ndarray, rate: int, *, seed: int, clip_id: str
) -> np.ndarray:
    """A recording corrupted, and kept in 16 bits again as a recorder would keep it.

    Args:
      corruption: one of `CORRUPTIONS`.
      severity: 1 to 5.
      audio: int16 `[n]`.
      rate: of the audio, Hz.
      seed: with it, the corruption, the severity and the clip, chance gives the same each time.
      clip_id: the clip's, so that its result does not depend on which clips come before it.

    Returns:
      int16 `[m]`.
    """
    if not len(audio):
        return audio
    words = (zlib.crc32(corruption.name.encode()), zlib.crc32(clip_id.encode()))
    rng = np.random.default_rng((seed, severity, *words))
    sound = audio.astype(np.float32) / 32768
    changed = corruption.change(sound, rate, corruption.levels[severity - 1], rng)
    return np.clip(np.round(changed * 32768), -32768, 32767).astype(np.int16)
