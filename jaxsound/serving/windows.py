"""A recording of any length and rate to windows of one length, in bounded memory."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

SLACK = 0.02  # share of a window that may go without a window of its own at the end


@dataclasses.dataclass(frozen=True)
class Cut:
    """How recordings are cut: `size` samples, every `hop`, at `rate` Hz."""

    rate: int
    size: int
    hop: int


def windows(
    blocks: Iterable[np.ndarray], from_rate: int, cut: Cut
) -> Iterator[tuple[int, np.ndarray]]:
    """Resamples and cuts.

    A recording that is no longer than a window (or by a trifle) is one window of its own length.
    The last window of a longer one ends where the recording ends.

    Args:
      blocks: float32 `[n]` each, one after another.
      from_rate: of the blocks, in Hz.
      cut: what comes out.

    Yields:
      Where a window starts, in samples at `cut.rate`, and its samples, float32 `[<= size]`.
    """
    slack = round(cut.size * SLACK)
    held, first, following = np.zeros(0, np.float32), 0, 0  # `first` is where `held` begins
    for block in _resampled(blocks, from_rate, cut.rate):
        held = np.concatenate([held, block])
        while first + len(held) >= following + cut.size + slack:
            start = following - first
            yield following, held[start : start + cut.size]
            following += cut.hop
        # The last window may have to begin before the one that is due next.
        done = max(min(following - first, len(held) - cut.size), 0)
        held, first = held[done:], first + done
    end = first + len(held)
    if following == 0:
        yield 0, held[: cut.size]
    elif end > following - cut.hop + cut.size + slack:
        yield end - cut.size, held[end - cut.size - first :]


def _resampled(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
