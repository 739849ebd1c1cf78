"""Excerpts, padding, resizing and scaling: each clip's own, equal to NumPy's and PyTorch's."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxsound.features.frontend import FrontendConfig, frontend
from tests.features.reference import assert_equal, by_librosa, ours

RATE, LIMIT = 8000, 4000
LENGTHS = (0, 1, 2, 3, 700, LIMIT - 1, LIMIT, LIMIT + 1, 9001)
SMALL = FrontendConfig(sample_rate=RATE, n_fft=256, hop_length=100, n_mels=20, n_mfcc=12)


def option(**changes: object) -> FrontendConfig:
    if changes.get("kind") in ("stft", "mel") and "scale" not in changes:
        changes["dtype"] = "float32"
    if {"excerpt", "pad"} & changes.keys():
        changes["seconds"] = LIMIT / RATE
    return dataclasses.replace(SMALL, **changes)


OPTIONS = {
    "first seconds": option(seconds=LIMIT / RATE, delta=1),
    "loudest": option(excerpt="loudest", ref="max"),
    "zeros": option(pad="zero", kind="stft", power=1.0, n_fft=255),
    "zeros, minmax": option(pad="zero", kind="mel", power=1.0, scale="minmax"),
    "reflect": option(pad="reflect"),
    "reflect, loudest, standardize": option(
        pad="reflect", excerpt="loudest", scale="standardize", kind="stft", power=1.0
    ),
    "repeat": option(pad="repeat"),
    "whole repetitions, reflected ends": option(pad="repeatpad", ends="reflect"),
    "shorter ones alone, repeated": option(excerpt="whole", pad="repeat"),
    "shorter ones alone, whole repetitions": option(
        excerpt="whole", pad="repeatpad", ends="reflect", top_db=0.0
    ),
    "shorter ones alone, reflected": option(excerpt="whole", pad="reflect", delta=1),
    "shorter ones alone, floor": option(excerpt="whole", pad="floor", kind="mfcc", delta=1),
    "reflected ends": option(ends="reflect", kind="stft", power=1.0),
    "reflected ends, an odd window": option(ends="reflect", n_fft=255, win_length=100, delta=1),
    "floor, mel": option(pad="floor", kind="mel"),
    "floor, mfcc, delta, standardize": option(
        pad="floor", kind="mfcc", delta=2, scale="standardize"
    ),
    "floor, fewer frames": option(pad="floor", resize_frames=13, resize_bins=31, top_db=0.0),
    "fewer": option(resize_frames=5, resize_bins=7, scale="standardize"),
    "more": option(resize_frames=99, resize_bins=50, kind="stft", scale="standardize"),
    "bins alone, mfcc, delta": option(resize_bins=9, kind="mfcc", delta=1),
    "frames alone, loudest, minmax": option(resize_frames=32, excerpt="loudest", scale="minmax"),
}


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Noise of `LENGTHS`, louder here than there; the loudest sample near either end or between."""
    rng = np.random.default_rng(0)
    clips = []
    for index, samples in enumerate(LENGTHS):
        clip = rng.normal(scale=0.1, size=samples) * np.linspace(0.1, 1, samples)
        if samples > LIMIT:
            clip[(samples * (1, 7, 4)[index % 3]) // 8] = 1.5
        clips.append(clip.astype(np.float32))
    return clips


def padded(clips: list[np.ndarray], longest: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch whose padding is nothing to be read, and the samples."""
    batch = np.full((len(clips), longest), np.nan, np.float32)
    batch[:, ::3] = np.inf
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, np.array([len(clip) for clip in clips], np.int32)


@pytest.mark.parametrize("name", OPTIONS)
def test_equals_the_plain_way_whatever_the_padding(name: str, clips: list[np.ndarray]) -> None:
    config = OPTIONS[name]
    longest = max(LENGTHS) + 500
    together = np.asarray(frontend(config, *padded(clips, longest)))
    assert together.shape == (len(clips), config.frames(longest), config.features)
    short = [clip for clip in clips if len(clip) <= 700]
    apart = np.asarray(frontend(config, *padded(short, 700)))
    for index, clip in enumerate(clips):
        frames = config.frames(len(clip))
        expected = by_librosa(config, clip)
        assert expected.shape == (frames, config.features)
        for batch in (together, apart) if index < len(short) else (together,):
            assert_equal(config, batch[index, :frames], expected)
            assert (batch[index, frames:] == 0).all()


@pytest.mark.parametrize("where", [0, 1, 1999, 2000, 5000, 8999])
def test_the_loudest_is_in_the_middle_where_the_clip_allows(where: int) -> None:
    clip = np.linspace(0.001, 0.4, 9000).astype(np.float32)
    clip[where] = -0.9
    start = min(max(0, where - LIMIT // 2), len(clip) - LIMIT)
    config = option(excerpt="loudest")
    np.testing.assert_allclose(
        ours(config, clip), ours(SMALL, clip[start : start + LIMIT]), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("size", [(5, 64), (200, 9)])
def test_resizing_is_torchs(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    clip = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    plain = ours(SMALL, clip)
    resized = ours(option(resize_frames=size[0], resize_bins=size[1]), clip)
    images = torch.from_numpy(plain.copy())[None, None]
    expected = torch.nn.functional.interpolate(
        images, size=size, mode="bilinear", align_corners=False, antialias=False
    )
    np.testing.assert_allclose(resized, expected[0, 0].numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", ["standardize", "minmax"])
@pytest.mark.parametrize("kind", ["log_mel", "stft"])
def test_scaled_clips_have_their_range_and_constant_ones_are_zero(scale: str, kind: str) -> None:
    config = option(scale=scale, kind=kind)
    noise = np.random.default_rng(2).normal(size=3000).astype(np.float32)
    batch, samples = padded([noise, np.zeros(2000, np.float32)], 5000)
    features = np.asarray(frontend(config, batch, samples))
    own = features[0, : config.frames(3000)]
    if scale == "minmax":
        assert (own.min(), own.max()) == (0, 1)
    else:
        np.testing.assert_allclose((own.mean(), own.std()), (0, 1), atol=1e-4)
    assert (features[1] == 0).all()


def test_no_more_is_transformed_than_the_excerpt() -> None:
    def transforms(config: FrontendConfig) -> str:
        shape = jax.ShapeDtypeStruct((1, 100 * LIMIT), np.float32)
        return frontend.lower(config, shape, jax.ShapeDtypeStruct((1,), np.int32)).as_text()

    frames = f"x{SMALL.frames(100 * LIMIT)}x"
    assert frames in transforms(SMALL)
    assert frames not in transforms(option(excerpt="loudest"))
    assert frames not in transforms(option(seconds=LIMIT / RATE))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"excerpt": "middle"}, "excerpt=middle: must be one of start, loudest, whole"),
        ({"excerpt": "loudest"}, "excerpt=loudest: must be start, or frontend.seconds above 0"),
        (
            {"excerpt": "whole", "seconds": 1.0},
            "excerpt=whole: must be start or loudest for pad=none",
        ),
        ({"seconds": -1.0}, r"seconds=-1.0: must be 0 \(the whole clip\) or at least a sample"),
        ({"seconds": 1e-9}, r"seconds=1e-09: must be 0 \(the whole clip\) or at least a sample"),
        (
            {"pad": "edge", "seconds": 1.0},
            "pad=edge: must be one of none, zero, reflect, repeat, repeatpad, floor, blank",
        ),
        ({"ends": "edge"}, "ends=edge: must be one of zero, reflect"),
        ({"ends": "reflect", "kind": "fbank"}, "ends=reflect: must be zero for kind=fbank"),
        ({"pad": "zero"}, "pad=zero: must be none, or frontend.seconds above 0"),
        ({"resize_frames": -1}, r"resize_frames=-1: must be 0 \(as they are\) or more"),
        ({"resize_bins": 1.5}, "resize_bins=1.5: must be a whole number"),
        ({"scale": "max"}, "scale=max: must be one of none, standardize, minmax"),
        ({"kind": "stft"}, "dtype=float16: must be float32 for kind=stft.*while scale=none"),
    ],
)
def test_refuses_in_one_line(changes: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=rf"^frontend\.{line}$"):
        FrontendConfig(**changes)


def test_scaled_features_of_any_kind_fit_float16() -> None:
    click = np.zeros(90_000, np.float32)
    click[5000] = 1.0
    for kind in ("stft", "mel"):
        config = option(kind=kind, scale="standardize")
        features = ours(config, 1000 * click)
        assert features.max() > 20
        np.testing.assert_allclose(features.astype(config.dtype), features, rtol=1e-3, atol=1e-4)
