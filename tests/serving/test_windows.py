"""Windows cover a recording, whatever blocks it comes in, and hold little of it."""

from collections.abc import Iterator

import numpy as np
import pytest
import soxr

from jaxsound.serving.windows import Cut, windows

CUT = Cut(rate=1000, size=100, hop=50)


@pytest.mark.parametrize("length", [1, 30, 100, 101, 102, 103, 149, 150, 152, 153, 400, 1234])
@pytest.mark.parametrize("block", [1, 7, 64, 5000])
def test_windows_cover_a_recording_in_any_blocks(length: int, block: int) -> None:
    samples = np.arange(length, dtype=np.float32)
    blocks = [samples[i : i + block] for i in range(0, length, block)]
    found = list(windows(blocks, CUT.rate, CUT))
    covered = np.zeros(length, bool)
    for start, window in found:
        assert 0 < len(window) <= CUT.size
        np.testing.assert_array_equal(window, samples[start : start + len(window)])
        covered[start : start + len(window)] = True
    assert covered[: length - round(0.02 * CUT.size)].all()
    starts = [start for start, _ in found]
    assert starts == sorted(set(starts))
    assert len(found) == 1 or all(len(window) == CUT.size for _, window in found)
    if length > CUT.size * 1.02:
        last, window = found[-1]
        assert length - (last + len(window)) <= round(0.02 * CUT.size)


def test_a_clip_as_long_as_a_window_is_one_window() -> None:
    for length in (98, 100, 102):
        ((start, window),) = windows([np.ones(length, np.float32)], CUT.rate, CUT)
        assert start == 0
        assert len(window) == min(length, 100)


def test_resampling_in_blocks_is_resampling_at_once() -> None:
    samples = np.random.default_rng(0).standard_normal(30_000).astype(np.float32)
    whole = soxr.resample(samples, 44_100, 1000, quality="HQ")
    cut = Cut(rate=1000, size=10**6, hop=1000)
    ((_, window),) = windows([samples[:10], samples[10:9000], samples[9000:]], 44_100, cut)
    assert len(window) == len(whole)
    np.testing.assert_allclose(window, whole, atol=1e-5)


def test_little_is_held() -> None:
    given, most = 0, 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal given
        for _ in range(1000):
            given += 100
            yield np.zeros(100, np.float32)

    for start, _ in windows(blocks(), CUT.rate, CUT):
        most = max(most, given - start)
    assert most <= CUT.size + 3 * 100
