"""Waveforms to features, equal to librosa's: STFT, mel, decibels, MFCC, deltas.

Pure JAX: batched, jittable, importable with nothing but jax and numpy. Arrays hold time before
features (`[..., T, M]`), the transpose of librosa's `[..., M, T]`; names and defaults are its.
`jaxsound.features.frontend` puts the pieces together; raise its VERSION with any change of numbers.

B batch, N samples, T frames, F frequency bins, M feature columns.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_DELTA_WIDTH = 9
_PREEMPHASIS = 0.97  # Kaldi's
_BLOCK = 256  # frames transformed together on a CPU, at most
_BANDS = 8  # of mel filters, each multiplied with its own bins on a CPU
_ACCELERATOR_VALUES = 2**25  # windowed samples that an accelerator transforms together (256 MiB)


def frames(samples: int, n_fft: int, hop_length: int) -> int:
    """Frames of `samples` samples: librosa's count, and 1 where there are none."""
    return max(1, 1 + (samples - n_fft % 2) // hop_length)


def stft(
    waveform: jax.Array, n_fft: int = 2048, hop_length: int = 0, win_length: int = 0
) -> jax.Array:
    """Short-time Fourier transform, periodic Hann window, centred frames, zeros beyond the ends.

    Equal to `librosa.stft(waveform, n_fft=..., hop_length=..., win_length=...)`, transposed.

    Args:
      waveform: [B, N] float32.
      n_fft: samples per transform; odd lengths work too.
      hop_length: samples between frames; 0 is a quarter of the window.
      win_length: samples of the window, centred in n_fft; 0 is n_fft.

    Returns:
      [B, T, 1 + n_fft // 2] complex64.
    """
    window = _window(n_fft, win_length)
    hop = hop_length or len(window) // 4
    total = frames(waveform.shape[1], n_fft, hop)
    count = total - 1 + -(-len(window) // hop)
    lead = _lead(n_fft, len(window))

    def one(clip: jax.Array) -> jax.Array:
        return _spectrum(_hops(clip, lead=lead, count=count, hop=hop), total, window, n_fft)

    return jax.vmap(one)(waveform)


def energies(
    waveform: jax.Array,
    n_fft: int = 2048,
    hop_length: int = 0,
    win_length: int = 0,
    power: float = 2.0,
    filters: np.ndarray | None = None,
    kaldi: bool = False,
    response: jax.Array | None = None,
    mirrored: jax.Array | None = None,
) -> jax.Array:
    """|STFT|**power, through mel filters if they are given: [B, N] -> [B, T, F or n_mels] float32.

    Computed a block of frames after another: all frames of a batch at once would be n_fft / hop
    times the waveform, and several times slower on a CPU for the memory they touch.

    Args:
      waveform: [B, N] float32.
      n_fft: samples per transform, as in `stft`.
      hop_length: samples between frames; 0 is a quarter of the window.
      win_length: samples of the window; 0 is n_fft.
      power: 1 is magnitude, 2 is power.
      filters: [n_mels, F], as of `mel_filterbank`; None leaves the frequency bins.
      kaldi: frames as Kaldi's `compute-fbank-feats` has them: the first begins with the clip and
        the last ends within it; each loses its mean, is pre-emphasised by 0.97 and has a
        symmetric Hann window, then zeros up to n_fft.
      response: [B, F], factors of |STFT|**2; None for none.
      mirrored: [B], each clip's own samples, whose reflection lies beyond its ends, as in
        librosa's pad_mode="reflect"; None for zeros.
    """
    window = np.hanning(win_length or n_fft) if kaldi else _window(n_fft, win_length)
    hop = hop_length or len(window) // 4
    batch, lead = waveform.shape[0], 0 if kaldi else _lead(n_fft, len(window))
    first = len(window) if kaldi else n_fft % 2
    total = max(1, 1 + (waveform.shape[1] - first) // hop)
    if mirrored is not None:
        around = jnp.arange(-lead, waveform.shape[1] + len(window))[None, :]
        waveform, lead = reflected(waveform, mirrored, around), 0
    chunks = -(-len(window) // hop)
    blocks = -(-total // _BLOCK)
    block = -(-total // blocks)
    cut = functools.partial(_hops, count=blocks * block + chunks - 1, hop=hop)
    rows = jax.vmap(functools.partial(cut, lead=lead))(waveform)

    def one(where: tuple[jax.Array, jax.Array]) -> jax.Array:
        corner = (where[0], where[1], jnp.zeros_like(where[0]))
        piece = jax.lax.dynamic_slice(rows, corner, (1, block + chunks - 1, hop))[0]
        spectrum = _spectrum(piece, block, window, n_fft, kaldi)
        energy = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        if response is not None:
            energy = energy * response[where[0]]
        if power != 2.0:
            energy = jnp.power(energy, power / 2)
        return energy if filters is None else _filtered(energy, filters)

    clip, start = np.divmod(np.arange(batch * blocks, dtype=np.int32), blocks)
    together = max(1, _ACCELERATOR_VALUES // (block * n_fft))
    together = 1 if jax.default_backend() == "cpu" else min(together, batch * blocks)
    blockwise = jax.lax.map(
        one, (jnp.asarray(clip), jnp.asarray(start * block)), batch_size=together
    )
    return blockwise.reshape(batch, blocks * block, -1)[:, :total]


def reflected(waveform: jax.Array, samples: jax.Array, position: jax.Array) -> jax.Array:
    """Clips as they go on beyond their ends, there and back without the ends twice.

    Args:
      waveform: [B, N].
      samples: [B], each clip's own; what follows them is not looked at.
      position: [B, P] or [1, P] whole numbers, 0 being a clip's first sample.

    Returns:
      [B, P]; nothing goes on from an empty clip but its first sample in `waveform`.
    """
    last = jnp.maximum(0, samples - 1)[:, None]
    period = jnp.maximum(1, 2 * last)
    phase = position % period
    return jnp.take_along_axis(waveform, jnp.minimum(phase, period - phase), axis=1)


def _filtered(energy: jax.Array, filters: np.ndarray) -> jax.Array:
    """Energies `[T, F]` through filters `[n_mels, F]`: [T, n_mels].

    A filter reaches a few bins only. On a CPU the product is taken a band of filters after
    another, each with the bins that it reaches, which is a seventh of the arithmetic.
    """
    bands = min(_BANDS, len(filters)) if jax.default_backend() == "cpu" else 1
    parts = []
    for band in np.array_split(filters, bands):
        reached = np.flatnonzero(band.any(0))
        first, last = (reached[0], reached[-1]) if len(reached) else (0, 0)
        weights = jnp.asarray(band[:, first : last + 1].T)
        # A GPU's default of TF32 would cost 0.01 dB.
        part = jnp.matmul(energy[:, first : last + 1], weights, precision="highest")
        parts.append(part)
    return jnp.concatenate(parts, -1)


def _window(n_fft: int, win_length: int) -> np.ndarray:
    """Periodic Hann window, [win_length or n_fft] float64."""
    length = win_length or n_fft
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length) if length > 1 else np.ones(1)


def _lead(n_fft: int, win_length: int) -> int:
    """Samples before a clip's start at which the first frame's window begins."""
    return n_fft // 2 - (n_fft - win_length) // 2


def _hops(clip: jax.Array, lead: int, count: int, hop: int) -> jax.Array:
    """The clip after `lead` zeros, cut into `count` rows of one hop: [N] -> [count, hop]."""
    after = max(0, count * hop - lead - clip.shape[0])
    return jnp.pad(clip, (lead, after))[: count * hop].reshape(count, hop)


def _spectrum(
    rows: jax.Array, total: int, window: np.ndarray, n_fft: int, kaldi: bool = False
) -> jax.Array:
    """Transforms of `total` windows, each one hop on: [R, hop] -> [total, 1 + n_fft // 2].

    A window is a few neighbouring rows: gathering rows is far faster than gathering samples.
    In float32 the transform's rounding would be 0.02 dB wherever a sound is 90 dB below its peak,
    so it runs in float64, at hardly any cost, except on TPUs, which have none. That is not
    differentiable.
    """
    double = jax.default_backend() != "tpu"
    neighbours = np.arange(rows.shape[0] - total + 1)
    frames = rows[np.arange(total)[:, None] + neighbours[None, :]].reshape(total, -1)
    before = 0 if kaldi else (n_fft - len(window)) // 2
    with jax.enable_x64(double):
        dtype = jnp.float64 if double else jnp.float32
        frames = frames[:, : len(window)].astype(dtype)
        if kaldi:
            frames -= frames.mean(1, keepdims=True)
            frames -= _PREEMPHASIS * jnp.concatenate([frames[:, :1], frames[:, :-1]], 1)
        frames *= jnp.asarray(window, dtype)[None, :]
        frames = jnp.pad(frames, ((0, 0), (before, n_fft - len(window) - before)))
        return jnp.fft.rfft(frames, axis=-1).astype(jnp.complex64)


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    htk: bool = False,
    norm: str | None = "slaney",
) -> np.ndarray:
    """Triangular mel filters, [n_mels, 1 + n_fft // 2] float32, equal to `librosa.filters.mel`.

    Args:
      sample_rate: Hz.
      n_fft: samples per transform.
      n_mels: filters; those narrower than a bin may be all zero.
      fmin: lowest frequency in Hz.
      fmax: highest frequency in Hz; None is half the sample rate.
      htk: the HTK scale (2595 log10(1 + f/700)) instead of Slaney's (linear below 1 kHz).
      norm: "slaney" divides each filter by its width in Hz; None leaves its peak at 1.
    """
    fmax = fmax or sample_rate / 2
    bins = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(fmin, htk), _hz_to_mel(fmax, htk), n_mels + 2), htk)
    widths = np.diff(edges)
    rising = (bins[None, :] - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins[None, :]) / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


def kaldi_filterbank(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float = 20.0, fmax: float | None = None
) -> np.ndarray:
    """Kaldi's mel filters, [n_mels, 1 + n_fft // 2] float32: triangles over mels, not over Hz.

    Args:
      sample_rate: Hz.
      n_fft: samples per transform.
      n_mels: filters, of HTK's scale; those narrower than a bin may be all zero.
      fmin: lowest frequency in Hz.
      fmax: highest frequency in Hz; None is half the sample rate.
    """
    low, high = _hz_to_mel(fmin, True), _hz_to_mel(fmax or sample_rate / 2, True)
    bins = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    position = (2595 * np.log10(1 + bins / 700) - low) / (high - low) * (n_mels + 1)
    away = np.abs(position[None, :] - np.arange(1, n_mels + 1)[:, None])
    return np.maximum(0.0, 1 - away).astype(np.float32)


_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_BREAK = 1000.0  # Hz; linear below, logarithmic above
_SLANEY_LOG_STEP = math.log(6.4) / 27


def _hz_to_mel(hz: float, htk: bool) -> float:
    if htk:
        return 2595 * math.log10(1 + hz / 700)
    if hz < _SLANEY_BREAK:
        return hz / _SLANEY_HZ_PER_MEL
    return _SLANEY_BREAK / _SLANEY_HZ_PER_MEL + math.log(hz / _SLANEY_BREAK) / _SLANEY_LOG_STEP


def _mel_to_hz(mels: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700 * (10 ** (mels / 2595) - 1)
    excess = mels - _SLANEY_BREAK / _SLANEY_HZ_PER_MEL
    logarithmic = _SLANEY_BREAK * np.exp(_SLANEY_LOG_STEP * excess)
    return np.where(excess < 0, mels * _SLANEY_HZ_PER_MEL, logarithmic)


def power_to_db(
    power: jax.Array,
    ref: float | str = 1.0,
    amin: float = 1e-10,
    top_db: float | None = 80.0,
) -> jax.Array:
    """10 log10(power / ref), at most `top_db` below the clip's maximum; `librosa.power_to_db`.

    Args:
      power: [..., T, M] float32; the maxima are taken over the last two axes, so per clip.
      ref: the power of 0 dB; "max" is the clip's greatest value (librosa's `ref=np.max`).
      amin: the least power told apart.
      top_db: None keeps everything down to amin.
    """
    if not isinstance(ref, str):
        reference = jnp.abs(ref)
    elif ref == "max":
        reference = jnp.max(power, axis=(-2, -1), keepdims=True)
    else:
        raise ValueError(f'ref={ref}: must be a number or "max"')
    decibels = 10 * jnp.log10(jnp.maximum(amin, power))
    decibels -= 10 * jnp.log10(jnp.maximum(amin, reference))
    if top_db is None:
        return decibels
    return jnp.maximum(decibels, jnp.max(decibels, axis=(-2, -1), keepdims=True) - top_db)


def mfcc(log_mel: jax.Array, n_mfcc: int = 20) -> jax.Array:
    """First coefficients of the orthonormal DCT-II over mels: [..., T, n_mels] -> [..., T, n_mfcc].

    Equal to `librosa.feature.mfcc(S=log_mel)`, transposed.
    """
    n_mels = log_mel.shape[-1]
    angles = np.pi / n_mels * (np.arange(n_mels)[:, None] + 0.5) * np.arange(n_mfcc)[None, :]
    basis = np.cos(angles) * math.sqrt(2 / n_mels)
    basis[:, 0] /= math.sqrt(2)
    # Most of a quiet frame is at the floor. Summed apart, it costs no rounding.
    floor = jnp.min(log_mel, axis=-1, keepdims=True)
    cosines = jnp.matmul(log_mel - floor, jnp.asarray(basis, jnp.float32), precision="highest")
    return cosines.at[..., :1].add(floor * math.sqrt(n_mels))


def delta(features: jax.Array, lengths: jax.Array, order: int = 1) -> jax.Array:
    """Time derivative by a Savitzky-Golay filter over 9 frames: [B, T, M] -> [B, T, M].

    Equal to `librosa.feature.delta(..., width=9, order=order, mode="interp")` of each clip's own
    `lengths` [B] frames; clips shorter than 9 frames, which librosa refuses there, follow its
    mode="nearest" (the first and last frame repeated). Frames past the length hold no meaning.

    Source: Savitzky and Golay, "Smoothing and differentiation of data", 1964.
    """
    half = _DELTA_WIDTH // 2
    fit = np.linalg.pinv(np.vander(np.arange(-half, half + 1.0), order + 1, increasing=True))
    weights = fit[order] * math.factorial(order)

    def one(clip: jax.Array, length: jax.Array) -> jax.Array:
        # The polynomial has the filter's own order, so its derivative is constant over the nine
        # frames at an edge: "interp" repeats the outermost frame that has four on either side.
        frame = jnp.arange(clip.shape[0])
        inner = jnp.clip(frame, half, jnp.maximum(half, length - 1 - half))
        centre = jnp.where(length >= _DELTA_WIDTH, inner, frame)
        slope = jnp.zeros_like(clip)
        for offset, weight in zip(range(-half, half + 1), weights, strict=True):
            slope += float(weight) * clip[jnp.clip(centre + offset, 0, length - 1)]
        return slope

    return jax.vmap(one)(features, lengths)
