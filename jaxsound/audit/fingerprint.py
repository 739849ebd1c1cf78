"""Finds recordings that share sound, without comparing all pairs.

A clip is described by its spectral peaks, as in Wang, "An industrial-strength audio search
algorithm" (ISMIR 2003). Here three peaks at a time make a key (their frequencies and the times
between them): gain, codec and resampling leave peaks where they are, a shift moves them together,
and unrelated clips hardly ever share a key. All keys are sorted once; clips that share several
keys at one and the same shift are candidates, which `jaxsound.audit.duplicates` then compares
sample by sample.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.fft

RATE = 16_000  # Hz; what a copy at this rate or above keeps
SECONDS = 120.0  # of each clip; longer ones are known by their beginning, in bounded memory
WINDOW, HOP = 1024, 128  # samples: 64 ms and 8 ms; with 16 ms a shifted bark kept a tenth of it
BINS = slice(8, 456)  # 125 Hz, above hum and rumble, to 7.1 kHz, below what resamplers cut
# A peak is the largest value within +-8 frames (64 ms) and +-10 bins (156 Hz): about 100 a second.
NEIGHBOURHOOD = (17, 21)
DEEPEST = 1e-7  # of the clip's largest power: peaks 70 dB down are the codec's or the noise's
SILENCE = 3e-7  # ten times the power that rounding to 16 bits leaves in a bin
REACH, SPAN = 31, 63  # frames (0.25 s) and bins (1 kHz) from a key's first peak to its others
LOOK_AHEAD = 48  # peaks after the first among which the others are sought
STRONGEST = 3  # of those are combined; the strongest outlast noise and codecs

# Every entry meets at most this many that follow it under the same key, so that the work grows
# with the number of keys and not with its square. Copies are found all the same: each copy meets
# some other copy, and so on.
MEETINGS = 6
# Unrelated clips share one or two keys at one shift by chance; measured in docs/audit.md.
MIN_HITS = 4

_HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Pairs of clips that share keys at one shift, each pair once, `first < second`.

    `shift` is in frames: the second clip's frame t sounds as the first's frame t + shift.
    """

    first: np.ndarray  # int64 [P]
    second: np.ndarray  # int64 [P]
    shift: np.ndarray  # int64 [P]
    hits: np.ndarray  # int64 [P]


def keys(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys of a clip and when they sound.

    Args:
      sound: float32 `[n]`, n <= 120 s, mono at 16 kHz, full scale 1.

    Returns:
      `(keys uint32 [k], frames uint16 [k])`; k is 0 for silence. About 250 keys a second.
    """
    time, frequency, power = peaks(sound)
    count = len(time)
    if count < STRONGEST:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint16)
    others = np.arange(count)[:, None] + np.arange(1, LOOK_AHEAD + 1)
    exists = others < count
    others = np.minimum(others, count - 1)
    later = time[others] - time[:, None]
    near = np.abs(frequency[others] - frequency[:, None]) <= SPAN
    fits = exists & near & (later >= 1) & (later <= REACH)
    strength = np.where(fits, power[others], -1.0)
    best = np.sort(np.argpartition(-strength, STRONGEST - 1, axis=1)[:, :STRONGEST], axis=1)
    made = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        ok = np.ones(count, bool)
        key = (frequency // 2).astype(np.uint64)
        for column in (a, b):
            place = best[:, column]
            ok &= np.take_along_axis(fits, place[:, None], 1)[:, 0]
            other = others[np.arange(count), place]
            key = key << np.uint64(8) | (frequency[other] // 2).astype(np.uint64)
            key = key << np.uint64(5) | ((time[other] - time) & 31).astype(np.uint64)
        made.append((key[ok], time[ok]))
    key, when = (np.concatenate(parts) for parts in zip(*made, strict=True))
    # 34 bits to 32, spread evenly: Knuth's multiplicative hashing.
    mixed = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return mixed.astype(np.uint32), when.astype(np.uint16)


def peaks(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local maxima of the spectrogram of float32 `[n]`: `(frame, bin, power)`, by time."""
    if len(sound) < WINDOW:
        sound = np.pad(sound, (0, WINDOW - len(sound)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    spectrum = scipy.fft.rfft(frames * _HANN)[:, BINS]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # Over frames, then over bins; a transposed view makes one function do for both.
    around = _largest_near(_largest_near(power, NEIGHBOURHOOD[0]).T, NEIGHBOURHOOD[1]).T
    floor = max(float(power.max()) * DEEPEST, SILENCE)
    time, frequency = np.nonzero((power == around) & (power > floor))
    return time, frequency, power[time, frequency]


def _largest_near(power: np.ndarray, size: int) -> np.ndarray:
    """Running maximum along the first axis over `size` (odd) values, by doubling.

    Five times as fast as `scipy.ndimage.maximum_filter1d` here.
    """
    edge = np.zeros((size // 2, power.shape[1]), power.dtype)
    largest, width = np.concatenate([edge, power, edge]), 1
    while width < size:
        step = min(width, size - width)
        largest = np.maximum(largest[:-step], largest[step:])
        width += step
    return largest


def match(prints: Sequence[tuple[np.ndarray, np.ndarray]]) -> Candidates:
    """The pairs of clips that share at least `MIN_HITS` keys at one shift.

    Args:
      prints: what `keys` gives, for each clip.
    """
    counts = [len(key) for key, _ in prints]
    clip = np.repeat(np.arange(len(prints), dtype=np.int32), counts)
    key = np.concatenate([k for k, _ in prints] or [np.zeros(0, np.uint32)])
    when = np.concatenate([t for _, t in prints] or [np.zeros(0, np.uint16)])
    order = np.argsort(key, kind="stable")  # within a key: by clip, then by time
    key, clip, when = key[order], clip[order], when[order]
    votes = [_meet(key, clip, when, step) for step in range(1, MEETINGS + 1)]
    code, hits = np.unique(np.concatenate(votes), return_counts=True)
    return _best(code, hits)


# A vote is one int64: first clip (23 bits), second clip (23 bits), shift + 2**16 (17 bits).
_SHIFT, _CLIP = 17, 23


def _meet(key: np.ndarray, clip: np.ndarray, when: np.ndarray, step: int) -> np.ndarray:
    same = np.flatnonzero((key[step:] == key[:-step]) & (clip[step:] != clip[:-step]))
    first, second = clip[same].astype(np.int64), clip[same + step].astype(np.int64)
    shift = when[same].astype(np.int64) - when[same + step] + (1 << _SHIFT - 1)
    return (first << _CLIP | second) << _SHIFT | shift


def _best(code: np.ndarray, hits: np.ndarray) -> Candidates:
    """Of each pair the shift with most hits, counted with the one beside it."""
    if len(code) > 1:
        beside = np.where(np.diff(code) == 1, hits[1:], 0)
        hits = hits + np.append(beside, 0)  # sounds that start between two frames hit both
    enough = hits >= MIN_HITS
    code, hits = code[enough], hits[enough]
    order = np.lexsort((-hits, code >> _SHIFT))
    code, hits = code[order], hits[order]
    pair = code >> _SHIFT
    leads = np.append(True, pair[1:] != pair[:-1]) if len(pair) else np.zeros(0, bool)
    pair, shift = pair[leads], (code[leads] & (1 << _SHIFT) - 1) - (1 << _SHIFT - 1)
    return Candidates(pair >> _CLIP, pair & (1 << _CLIP) - 1, shift, hits[leads])
