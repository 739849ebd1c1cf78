"""The frontend: what is computed from a waveform, and the whole way there.

Pure JAX, importable with nothing but jax and numpy: excerpt, padding, the pieces of
`jaxsound.features.spectral`, resizing and scaling, each by a clip's own samples and frames.

B batch, N samples, T frames, M feature columns.
"""

import dataclasses
import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsound.features import spectral

CENTRED = ("stft", "mel", "log_mel", "mfcc")  # whose windows reach beyond a clip's ends
KINDS = (*CENTRED, "fbank")
WAVEFORM = "waveform"  # the sound itself in rows, for networks that take samples
SAMPLES = "samples"  # no features: the sound itself
EXCERPTS = ("start", "loudest", "whole")
PADS = ("none", "zero", "reflect", "repeat", "repeatpad", "floor", "blank")
ENDS = ("zero", "reflect")
SCALES = ("none", "standardize", "minmax")
DTYPES = ("float16", "float32")
VERSION = 2  # raise it with any change that alters the numbers: prepared stores are then made anew
_LEAST_STD = 1e-6
_KALDI_LEAST = float(np.finfo(np.float32).eps)  # energy of a filter, before the logarithm


@dataclasses.dataclass(frozen=True)
class FrontendConfig:
    """What is computed from a waveform. Frequencies in Hz, lengths in samples at `sample_rate`.

    kind: "stft" (|STFT|**power), "mel", "log_mel" (power_to_db of mel), "mfcc" (DCT of log_mel) or
    "fbank": Kaldi's filterbank with a Hann window, as AST and others hear it. That one takes the
    natural logarithm of power and reads, of what follows n_mels, only fmin, fmax and delta on.
    "waveform" is the sound itself, from -1 to 1, in rows of hop_length samples one after another.
    "samples" is the sound as int16, a column with a row for each sample: for networks that hear it,
    and for training that computes features in its step. Of what follows, it is cut and padded.
    Mel filters narrower than a bin stay empty, as in librosa: their columns are constant. `stft`
    and `mel` are refused as float16, which overflows at 65504 and loses the quiet frames to zero,
    unless they are scaled.

    In order: the excerpt is cut out, padded, and becomes features of that kind; then come deltas,
    resizing (deltas and all, to `resize_bins` columns) and scaling.

    Raises:
      ValueError: one line naming the key, its value and what would do.
    """

    kind: str = "log_mel"
    sample_rate: int = 32000
    # "loudest" are the seconds around the first greatest |sample|; "whole" cuts nothing, and
    # `seconds` is what shorter clips are padded to.
    excerpt: str = "start"
    seconds: float = 0.0  # the most of a clip that is used; 0 = all of it
    # Shorter clips to `seconds`: by samples, "zero" at the end, "reflect", "repeat" or "repeatpad"
    # (whole repetitions, then zeros: CLAP's), or by frames after the last, of the clip's own
    # "floor" or "blank" (features of 0, before any normalisation).
    pad: str = "none"
    ends: str = "zero"  # what windows see beyond a clip's ends; or "reflect": the clip turned round
    n_fft: int = 1024
    win_length: int = 0  # 0 = n_fft
    hop_length: int = 320
    n_mels: int = 64
    fmin: float = 50.0
    fmax: float = 0.0  # 0 = half the sample rate
    htk: bool = False
    norm: str = "slaney"  # "" = none
    power: float = 2.0
    ref: float | str = 1.0  # or "max": the clip's own loudest value is 0 dB
    amin: float = 1e-10
    top_db: float = 80.0  # 0 = no floor
    n_mfcc: int = 20
    delta: int = 0  # orders of time derivative appended: 0, 1 or 2
    resize_frames: int = 0  # every clip to exactly so many, bilinearly; 0 = as they are
    resize_bins: int = 0
    scale: str = "none"  # by the clip's own values: "standardize", or "minmax" to [0, 1]
    dtype: str = "float16"  # of the stored frames

    def __post_init__(self) -> None:
        _check_types(self)
        _check_values(self)

    @property
    def features(self) -> int:
        """M, the number of feature columns."""
        bins = 1 + self.n_fft // 2
        widths = {"stft": bins, "mfcc": self.n_mfcc, SAMPLES: 1, WAVEFORM: self.hop_length}
        columns = widths.get(self.kind, self.n_mels)
        return self.resize_bins or columns * (1 + self.delta)

    @property
    def limit(self) -> int:
        """`seconds` in samples; 0 = the whole clip."""
        return round(self.seconds * self.sample_rate)

    @property
    def most(self) -> int:
        """Samples that are used of a longer clip; 0 = all of them."""
        return 0 if self.excerpt == "whole" else self.limit

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples: librosa's count, and 1 for an empty clip."""
        used = min(samples, self.most) if self.most else samples
        used = used if self.pad == "none" else max(used, self.limit)
        return self.resize_frames or max(1, 1 + (used - self.first) // self.step)

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return 1 if self.kind == SAMPLES else self.hop_length

    @property
    def first(self) -> int:
        """Samples that a clip's first frame needs; each further one takes `step` more.

        librosa's frames are centred and reach beyond the clip, Kaldi's lie within it, and rows of
        samples end with zeros.
        """
        if self.kind in (SAMPLES, WAVEFORM):
            return 1
        return (self.win_length or self.n_fft) if self.kind == "fbank" else self.n_fft % 2


def samples_of(config: FrontendConfig) -> FrontendConfig:
    """What keeps the sound that `config` makes features of."""
    return FrontendConfig(kind=SAMPLES, sample_rate=config.sample_rate, dtype="int16")


def _refuse(key: str, value: object, must: str) -> None:
    raise ValueError(f"frontend.{key}={value}: must be {must}")


def _check_types(config: FrontendConfig) -> None:
    """Refuses values of another type; numbers of float fields become float, so 50 equals 50.0."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        is_number = is_number and abs(value) <= sys.float_info.max  # nor NaN, nor infinite
        if field.name == "ref" and value == "max":
            continue
        if field.type is int:
            if not is_number or value != int(value):
                _refuse(field.name, value, "a whole number")
            object.__setattr__(config, field.name, int(value))
        elif field.type is bool or field.type is str:
            if not isinstance(value, field.type):
                _refuse(field.name, value, "true or false" if field.type is bool else "a word")
        else:
            if not is_number:
                _refuse(field.name, value, "a number" + ' or "max"' * (field.name == "ref"))
            object.__setattr__(config, field.name, float(value))


def _check_values(config: FrontendConfig) -> None:
    c = config
    nyquist = c.sample_rate / 2
    narrow = c.kind in ("log_mel", "mfcc", "fbank", WAVEFORM) or c.scale != "none"
    features, bins = c.kind != SAMPLES, c.kind not in (SAMPLES, WAVEFORM)
    rules: tuple[tuple[str, bool, str], ...] = (
        ("kind", c.kind in (*KINDS, WAVEFORM, SAMPLES), f"one of {', '.join((*KINDS, WAVEFORM))}"),
        ("sample_rate", c.sample_rate >= 1, "1 or more, in Hz"),
        ("excerpt", c.excerpt in EXCERPTS, f"one of {', '.join(EXCERPTS)}"),
        ("seconds", c.seconds == 0 or c.limit >= 1, "0 (the whole clip) or at least a sample"),
        ("excerpt", c.excerpt == "start" or c.limit > 0, "start, or frontend.seconds above 0"),
        ("excerpt", c.excerpt != "whole" or c.pad != "none", "start or loudest for pad=none"),
        ("pad", c.pad in PADS, f"one of {', '.join(PADS)}"),
        ("pad", c.pad == "none" or c.limit > 0, "none, or frontend.seconds above 0"),
        ("ends", c.ends in ENDS, f"one of {', '.join(ENDS)}"),
        ("ends", c.ends == "zero" or c.kind in CENTRED, f"zero for kind={c.kind}"),
        ("n_fft", c.n_fft >= 2, "2 or more, in samples"),
        ("win_length", 0 <= c.win_length <= c.n_fft, f"0 (= n_fft) to n_fft={c.n_fft}"),
        ("hop_length", c.hop_length >= 1, "1 or more, in samples"),
        ("n_mels", 1 <= c.n_mels <= 1 + c.n_fft // 2, f"1 to {1 + c.n_fft // 2} (1 + n_fft // 2)"),
        ("fmax", 0 <= c.fmax <= nyquist, f"0 (= half the sample rate) to {nyquist:g}"),
        ("fmin", 0 <= c.fmin < (c.fmax or nyquist), f"0 or more and below {c.fmax or nyquist:g}"),
        ("norm", c.norm in ("slaney", ""), 'slaney or "" (none)'),
        ("power", c.power > 0, "above 0; 1 is magnitude, 2 is power"),
        ("ref", c.ref == "max" or (c.ref != "max" and float(c.ref) > 0), 'above 0, or "max"'),
        ("amin", c.amin >= 1e-37, "1e-37 or more, the least power that float32 tells from 0"),
        ("top_db", c.top_db >= 0, "0 (no floor) or more, in dB"),
        ("n_mfcc", c.kind != "mfcc" or 1 <= c.n_mfcc <= c.n_mels, f"1 to n_mels={c.n_mels}"),
        ("delta", c.delta in (0, 1, 2), "0, 1 or 2"),
        ("resize_frames", c.resize_frames >= 0, "0 (as they are) or more"),
        ("resize_bins", c.resize_bins >= 0, "0 (as they are) or more"),
        ("scale", c.scale in SCALES, f"one of {', '.join(SCALES)}"),
        ("dtype", c.dtype in DTYPES or not features, f"one of {', '.join(DTYPES)}"),
        ("dtype", c.dtype == "int16" or features, "int16 for kind=samples"),
        ("pad", bins or c.pad not in ("floor", "blank"), f"of samples for kind={c.kind}"),
        ("delta", bins or not c.delta, f"0 for kind={c.kind}"),
        ("resize_frames", bins or not c.resize_frames, f"0 for kind={c.kind}"),
        ("resize_bins", bins or not c.resize_bins, f"0 for kind={c.kind}"),
        ("scale", features or c.scale == "none", "none for kind=samples"),
        (
            "dtype",
            c.dtype == "float32" or narrow or not features,
            f"float32 for kind={c.kind}, whose range is wider than float16's, while scale=none",
        ),
    )
    for key, holds, must in rules:
        if not holds:
            _refuse(key, getattr(c, key), must)


@functools.partial(jax.jit, static_argnames="config")
def frontend(
    config: FrontendConfig,
    waveform: jax.Array,
    samples: jax.Array,
    response: jax.Array | None = None,
) -> jax.Array:
    """Features of a padded batch; a clip's do not depend on the padding or on its neighbours.

    Samples past `samples` count as zero, whatever they hold; `ref="max"`, `top_db`, resizing and
    scaling look at each clip's own frames; features of frames past the clip's own are zero.

    Args:
      config: what to compute; static.
      waveform: [B, N] float32.
      samples: [B] int32, each clip's own samples.
      response: [B, 1 + n_fft // 2] float32, factors of the energy in each bin, as a filter that
        the sound has passed would have them; None for no filter. Rows of samples have no bins.

    Returns:
      [B, T, M] float32 with T = config.frames(N) and M = config.features.
    """
    if config.most:
        waveform, samples = _excerpt(config, waveform, samples)
    own = jnp.arange(waveform.shape[1])[None, :] < samples[:, None]
    waveform = jnp.where(own, waveform, 0.0)
    if config.pad not in ("none", "floor", "blank"):
        waveform, samples = _padded(config, waveform, samples)
    if config.kind == SAMPLES:
        return jnp.clip(jnp.round(waveform * 32768), -32768, 32767)[:, :, None]
    features, lengths = _features(config, waveform, samples, response)
    if config.resize_frames or config.resize_bins:
        features, lengths = _resized(config, features, lengths)
    if config.scale != "none":
        features = _scaled(config, features, lengths)
    return jnp.where(_valid(features, lengths), features, 0.0)


def own_frames(config: FrontendConfig, samples: jax.Array) -> jax.Array:
    """`[B]` int32, frames of clips of so many `samples [B]`, before any padding or resizing."""
    return jnp.maximum(1, 1 + (samples - config.first) // config.step)


def _excerpt(
    config: FrontendConfig, waveform: jax.Array, samples: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """At most `config.most` samples of each clip, and how many they are: [B, min(N, most)]."""
    limit, longest = config.most, waveform.shape[1]
    if longest > limit and config.excerpt == "loudest":
        own = jnp.arange(longest)[None, :] < samples[:, None]
        peak = jnp.argmax(jnp.where(own, jnp.abs(waveform), -1.0), axis=1)
        start = jnp.clip(peak - limit // 2, 0, jnp.maximum(0, samples - limit))
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, slice_size=limit)
        waveform = jax.vmap(cut)(waveform, start)
    return waveform[:, :limit], jnp.minimum(samples, limit)


def _padded(
    config: FrontendConfig, waveform: jax.Array, samples: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Shorter clips brought to `config.limit` samples; an empty one becomes silence.

    Reflection is `numpy.pad(clip, (short // 2, short - short // 2), mode="reflect")`.
    """
    limit, padded = config.limit, jnp.maximum(samples, config.limit)
    waveform = jnp.pad(waveform, ((0, 0), (0, max(0, limit - waveform.shape[1]))))
    position, count = jnp.arange(waveform.shape[1])[None, :], jnp.maximum(1, samples)[:, None]
    own = position < padded[:, None]
    if config.pad == "reflect":
        waveform = spectral.reflected(
            waveform, samples, position - (padded - samples)[:, None] // 2
        )
    if config.pad in ("repeat", "repeatpad"):
        waveform = jnp.take_along_axis(waveform, position % count, axis=1)
        if config.pad == "repeatpad":
            own = position < jnp.maximum(1, limit // count) * count
    return jnp.where(own, waveform, 0.0), padded


def _valid(features: jax.Array, lengths: jax.Array) -> jax.Array:
    """[B, T, 1] bool, whether a frame is the clip's own."""
    return (jnp.arange(features.shape[1])[None, :] < lengths[:, None])[:, :, None]


def _features(
    config: FrontendConfig, waveform: jax.Array, samples: jax.Array, response: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Features of the kind asked for, with deltas: [B, T, M], and each clip's valid frames."""
    c, lengths = config, own_frames(config, samples)
    kaldi = c.kind == "fbank"
    filters, power = None, 2.0 if kaldi else c.power
    if kaldi:
        filters = spectral.kaldi_filterbank(
            c.sample_rate, c.n_fft, c.n_mels, c.fmin, c.fmax or None
        )
    elif c.kind not in ("stft", WAVEFORM):
        filters = spectral.mel_filterbank(
            c.sample_rate, c.n_fft, c.n_mels, c.fmin, c.fmax or None, c.htk, c.norm or None
        )
    shape = (c.n_fft, c.hop_length, c.win_length)
    if c.kind == WAVEFORM:
        features = _rows(waveform, c.hop_length)
    else:
        mirrored = samples if c.ends == "reflect" else None
        features = spectral.energies(waveform, *shape, power, filters, kaldi, response, mirrored)
    # Silence is the least there is, so zeroed frames change neither the maximum nor the floor.
    features = jnp.where(_valid(features, lengths), features, 0.0)
    if kaldi:
        features = jnp.log(jnp.maximum(features, _KALDI_LEAST))
    if c.kind in ("log_mel", "mfcc"):
        features = spectral.power_to_db(features, c.ref, c.amin, c.top_db or None)
    if c.pad in ("floor", "blank"):
        whole = max(1, 1 + (c.limit - c.first) // c.hop_length)
        features, lengths = _filled(features, lengths, whole, blank=c.pad == "blank")
    if c.kind == "mfcc":
        features = spectral.mfcc(features, c.n_mfcc)
    orders = [spectral.delta(features, lengths, order=order) for order in range(1, c.delta + 1)]
    return jnp.concatenate([features, *orders], axis=-1), lengths


def _rows(waveform: jax.Array, hop: int) -> jax.Array:
    """[B, N] -> [B, ceil(N / hop), hop], the last row filled up with zeros; at least one."""
    batch, samples = waveform.shape
    rows = max(1, -(-samples // hop))
    return jnp.pad(waveform, ((0, 0), (0, rows * hop - samples))).reshape(batch, rows, hop)


def _filled(
    features: jax.Array, lengths: jax.Array, frames: int, *, blank: bool
) -> tuple[jax.Array, jax.Array]:
    """Frames of zeros, or the clip's own least value, after its last, up to `frames`, all valid."""
    features = jnp.pad(features, ((0, 0), (0, max(0, frames - features.shape[1])), (0, 0)))
    valid = _valid(features, lengths)
    least = jnp.min(features, axis=(1, 2), keepdims=True, where=valid, initial=jnp.inf)
    return jnp.where(valid, features, 0.0 if blank else least), jnp.maximum(lengths, frames)


def _resized(
    config: FrontendConfig, features: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Each clip's own [length, M] map, bilinearly, to the frames and columns asked for.

    The same as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` and
    `tf.image.resize(antialias=False)`: pixels are areas, edges repeat, shrinking does not average.
    """
    if config.resize_bins:
        columns = jnp.full_like(lengths, features.shape[2])
        swapped = features.swapaxes(1, 2)
        features = _interpolated(swapped, columns, config.resize_bins).swapaxes(1, 2)
    if config.resize_frames:
        features = _interpolated(features, lengths, config.resize_frames)
        lengths = jnp.full_like(lengths, config.resize_frames)
    return features, lengths


def _interpolated(rows: jax.Array, lengths: jax.Array, size: int) -> jax.Array:
    """The first `lengths` [B] rows of each map as `size` rows: [B, R, C] -> [B, size, C]."""
    scale = lengths.astype(jnp.float32) / size
    centre = (jnp.arange(size) + 0.5)[None, :] * scale[:, None] - 0.5
    centre = jnp.clip(centre, 0, lengths[:, None] - 1)
    before = jnp.floor(centre).astype(jnp.int32)
    after = jnp.minimum(before + 1, lengths[:, None] - 1)
    share = (centre - before)[:, :, None]
    pick = jax.vmap(lambda clip, index: clip[index])
    return pick(rows, before) * (1 - share) + pick(rows, after) * share


def _scaled(config: FrontendConfig, features: jax.Array, lengths: jax.Array) -> jax.Array:
    """Each clip by the mean and deviation, or the least and greatest, of its own values.

    A constant clip becomes zeros; a deviation below 1e-6 counts as 1e-6.
    """
    over: dict[str, Any] = {
        "axis": (1, 2),
        "keepdims": True,
        "where": _valid(features, lengths),
    }
    # Without its least value a constant clip is exactly zero, and its mean is free of rounding.
    features = features - jnp.min(features, initial=jnp.inf, **over)
    if config.scale == "minmax":
        greatest = jnp.max(features, initial=0.0, **over)
        return features / jnp.where(greatest > 0, greatest, 1.0)
    features = features - jnp.mean(features, **over)
    deviation = jnp.sqrt(jnp.mean(jnp.square(features), **over))
    return features / jnp.maximum(deviation, _LEAST_STD)
