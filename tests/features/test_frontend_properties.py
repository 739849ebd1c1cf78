"""The frontend at drawn parameters and lengths: finite, of the right size, equal to librosa."""

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxsound.features.frontend import (
    CENTRED,
    ENDS,
    EXCERPTS,
    KINDS,
    PADS,
    SCALES,
    FrontendConfig,
    frontend,
)
from tests.features.reference import assert_equal, by_librosa, ours
from tests.properties import examples


@st.composite
def configs(draw: st.DrawFn) -> FrontendConfig:
    """Any frontend within its ranges, of windows up to 300 samples and clips up to 0.3 s."""
    rate = draw(st.sampled_from([4000, 8000, 11_025, 16_000]))
    n_fft = draw(st.integers(16, 300))
    fmin = draw(st.sampled_from([0.0, 20.0, 300.0]))
    seconds = draw(st.sampled_from([0.0, 0.05, 0.123, 0.3]))
    kind = draw(st.sampled_from(KINDS))
    pad = draw(st.sampled_from(PADS if seconds else PADS[:1]))
    excerpts = EXCERPTS if pad != "none" else EXCERPTS[: 2 if seconds else 1]
    n_mels = draw(st.integers(1, min(40, 1 + n_fft // 2)))
    options: dict[str, Any] = {
        "kind": kind,
        "sample_rate": rate,
        "seconds": seconds,
        "excerpt": draw(st.sampled_from(excerpts)),
        "pad": pad,
        "ends": draw(st.sampled_from(ENDS if kind in CENTRED else ENDS[:1])),
        "n_fft": n_fft,
        "win_length": draw(st.sampled_from([0, n_fft, 1 + n_fft // 2])),
        "hop_length": draw(st.integers(1 + n_fft // 8, 2 * n_fft)),
        "n_mels": n_mels,
        "fmin": fmin,
        "fmax": draw(st.sampled_from([0.0, 1000.0, rate / 2])),
        "htk": draw(st.booleans()),
        "norm": draw(st.sampled_from(["slaney", ""])),
        "power": draw(st.sampled_from([1.0, 2.0])),
        "ref": draw(st.sampled_from([1.0, 0.01, "max"])),
        "top_db": draw(st.sampled_from([0.0, 20.0, 80.0])),
        "n_mfcc": draw(st.integers(1, n_mels)),
        "delta": draw(st.integers(0, 2)),
        "resize_frames": draw(st.sampled_from([0, 0, 17])),
        "resize_bins": draw(st.sampled_from([0, 0, 9])),
        "scale": draw(st.sampled_from(SCALES)),
        "dtype": "float32",
    }
    return FrontendConfig(**options)


def noise(samples: int, seed: int) -> np.ndarray:
    """Noise that swells: its loudest sample is one alone."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=samples) * np.linspace(0.01, 0.3, samples)).astype(np.float32)


@examples(6)
@given(configs(), st.integers(0, 5000), st.integers(0, 3000), st.integers(0, 2**31))
def test_any_clip_is_finite_of_its_own_frames_and_does_not_see_its_padding(
    config: FrontendConfig, samples: int, padding: int, seed: int
) -> None:
    clip = noise(samples, seed)
    alone = ours(config, clip)
    frames = config.frames(samples)
    assert alone.shape == (frames, config.features)
    assert np.isfinite(alone).all()
    batch = np.full((2, samples + padding), np.inf, np.float32)
    batch[0, :samples] = clip
    together = np.asarray(frontend(config, batch, np.array([samples, 0], np.int32)))
    assert np.isfinite(together).all()
    # Scaling a clip that hardly varies divides by its deviation, rounding and all.
    scale = max(np.abs(alone).max(initial=0.0), 1e-3)
    np.testing.assert_allclose(together[0, :frames], alone, rtol=0, atol=1e-4 * scale)
    assert (together[0, frames:] == 0).all()


@examples(6)
@given(configs(), st.integers(0, 5000), st.integers(0, 2**31))
def test_equals_librosa_at_any_parameters(config: FrontendConfig, samples: int, seed: int) -> None:
    clip = noise(samples, seed)
    expected = by_librosa(config, clip)
    assume(config.scale == "none" or np.ptp(expected) > 0)
    assert_equal(config, ours(config, clip), expected)
