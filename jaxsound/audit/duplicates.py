"""The same sound twice: by hash, and by fingerprint and then sample by sample."""

import concurrent.futures
import dataclasses
import functools
import os
from collections import defaultdict

import numpy as np
import scipy.fft

from jaxsound.audit import fingerprint
from jaxsound.audit.clips import NOTHING, Survey, listen
from jaxsound.bars import bar

BAND = (200.0, 7_200.0)  # Hz compared: above mains hum, which all recordings share
BLOCK = 1_600  # samples at 16 kHz: 0.1 s, compared one by one
# Correlation of a block of copies: above 0.9 after codecs and resampling, below 0.3 for others,
# but for tones of one pitch.
ALIKE = 0.5
FAINT = 1e-5  # blocks 50 dB below a clip's loudest are its silence, and not compared
# Cuts from one recording share this much. Shorter sounds must hold most of the energy, and agree.
ENOUGH = 1.0  # seconds
MOST = 0.8  # share of both clips' energy
AGREED = 0.8  # correlation
WHOLE = 0.8  # share of both clips' sound beyond which one is a copy of the other
TIME = 3 * fingerprint.HOP  # samples about the fingerprint's shift that are searched
DIFFERENT = ("", 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two clips, by their place in the survey, that share sound.

    kind: "exact" (all samples equal), "copy" (nearly all of both is alike) or "overlap".
    seconds: how much is alike. correlation: of what is alike, 1 for equal. shift: seconds; the
    second clip at time t sounds as the first at t + shift.
    """

    first: int
    second: int
    kind: str
    seconds: float
    correlation: float = 1.0
    shift: float = 0.0


def find(survey: Survey, threads: int | None = None) -> tuple[Pair, ...]:
    """All pairs, exact ones first. Of clips with equal samples only the first is compared on.

    Silent and constant clips are equal to each other without being the same recording: they are
    passed over here.
    """
    same = defaultdict(list)
    for place, clip in enumerate(survey.figures):
        if clip.digest and not clip.constant:
            same[clip.digest].append(place)
    pairs = [
        Pair(places[0], other, "exact", survey.figures[other].seconds)
        for places in same.values()
        for other in places[1:]
    ]
    firsts = {places[0] for places in same.values()}
    prints = [p if i in firsts else NOTHING for i, p in enumerate(survey.prints)]
    found = fingerprint.match(prints)
    return (*pairs, *_confirm(survey, found, threads or os.cpu_count() or 1))


def _confirm(survey: Survey, found: fingerprint.Candidates, threads: int) -> list[Pair]:
    @functools.lru_cache(maxsize=64)  # candidates come sorted by their first clip
    def sound(place: int) -> np.ndarray:
        return listen(*survey.catalogue.clips[place].read())

    def check(candidate: tuple[int, int, int]) -> Pair | None:
        first, second, shift = candidate
        kind, seconds, correlation, lag = compare(
            sound(first), sound(second), shift * fingerprint.HOP
        )
        return Pair(first, second, kind, seconds, correlation, lag) if kind else None

    candidates = list(
        zip(found.first.tolist(), found.second.tolist(), found.shift.tolist(), strict=True)
    )
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        checked = bar(
            pool.map(check, candidates),
            total=len(candidates),
            desc="comparing",
            unit="pair",
        )
        return [pair for pair in checked if pair]


def compare(first: np.ndarray, second: np.ndarray, shift: int) -> tuple[str, float, float, float]:
    """Compares two sounds sample by sample about a shift.

    Args:
      first, second: float32 `[n]` at 16 kHz.
      shift: samples; `second[t]` may be `first[t + shift]`, give or take 24 ms.

    Returns:
      `(kind, seconds, correlation, shift in seconds)` of a `Pair`; kind is "" for two sounds
      that differ. Polarity does not matter.
    """
    a, b, laid, lag, sign = _align(first, second, shift)
    start, end = max(0, round(lag)), min(len(first), len(second) + round(lag))
    x, y = _blocks(a[start:end]), _blocks(laid[start:end])
    power_x, power_y, both = (np.sum(u * v, axis=1) for u, v in ((x, x), (y, y), (x, y)))
    (length_x, all_x, faint_x), (length_y, all_y, faint_y) = _sounding(a), _sounding(b)
    heard = (power_x > faint_x) & (power_y > faint_y)
    alike = heard & (sign * both / np.sqrt(power_x * power_y + 1e-20) > ALIKE)
    if not alike.any():
        return DIFFERENT
    seconds = float(alike.sum()) * BLOCK / fingerprint.RATE
    energy_x, energy_y = float(power_x[alike].sum()), float(power_y[alike].sum())
    correlation = abs(float(both[alike].sum())) / np.sqrt(energy_x * energy_y)
    agreed = correlation >= AGREED and min(energy_x / all_x, energy_y / all_y) >= MOST
    if seconds < ENOUGH and not agreed:
        return DIFFERENT
    whole = agreed or seconds >= WHOLE * max(length_x, length_y)
    kind = "copy" if whole else "overlap"
    return kind, round(seconds, 2), round(float(correlation), 3), lag / fingerprint.RATE


def _align(
    first: np.ndarray, second: np.ndarray, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """`(first, second, second laid upon first, lag, sign)`, all within the band compared."""
    size = scipy.fft.next_fast_len(len(first) + len(second) + 2 * TIME, real=True)
    hertz = scipy.fft.rfftfreq(size, 1 / fingerprint.RATE)
    band = (hertz >= BAND[0]) & (hertz <= BAND[1])
    one, two = (scipy.fft.rfft(sound, size) * band for sound in (first, second))
    a = scipy.fft.irfft(one, size)[: len(first)]
    b = scipy.fft.irfft(two, size)[: len(second)]
    # Levelled, so that a loud stretch that differs does not hide the shift of one that agrees.
    cross = scipy.fft.rfft(_level(a), size) * scipy.fft.rfft(_level(b), size).conj()
    lags = np.arange(shift - TIME, shift + TIME + 1)
    near = scipy.fft.irfft(cross, size)[lags]
    best = int(np.argmax(np.abs(near)))
    lag = float(lags[best]) + _vertex(np.abs(near[max(best - 1, 0) : best + 2]))
    # A lag that is no whole number of samples is a slope of phase.
    slope = np.exp(-2j * np.pi * hertz / fingerprint.RATE * lag).astype(np.complex64)
    return a, b, scipy.fft.irfft(two * slope, size), lag, float(np.sign(near[best]))


def _blocks(sound: np.ndarray) -> np.ndarray:
    """`[n]` -> `[n / BLOCK, BLOCK]`; a sound shorter than a block is padded to one."""
    if len(sound) < BLOCK:
        sound = np.pad(sound, (0, BLOCK - len(sound)))
    return sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK)


def _level(sound: np.ndarray) -> np.ndarray:
    """Every block at the same level, but for those that are faint."""
    power = np.square(_blocks(sound)).mean(axis=1)
    power = np.append(power, power[-1:]) + max(float(power.max()) * FAINT, 1e-10)
    return sound / np.sqrt(np.repeat(power, BLOCK)[: len(sound)])


def _sounding(sound: np.ndarray) -> tuple[float, float, float]:
    """`(seconds that are not faint, energy, the energy of a block that is faint)`."""
    power = np.square(_blocks(sound)).sum(axis=1)
    faint = max(float(power.max()) * FAINT, 1e-7)
    seconds = float(np.sum(power > faint)) * BLOCK / fingerprint.RATE
    return seconds, float(power.sum()) + 1e-20, faint


def _vertex(three: np.ndarray) -> float:
    """Where between -0.5 and 0.5 the parabola through three values has its top."""
    if len(three) < 3:
        return 0.0
    left, middle, right = (float(value) for value in three)
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
