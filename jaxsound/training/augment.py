"""Augmentation on the device: pure functions of a key and a batch, exact about length.

Shapes: features `[B, T, M]` float32, zero past `length [B]`; labels `[B, C]`.
"""

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
CROP_STREAM = 0x62696E73  # far from the small numbers that splitting a key uses
MIX_STREAM, JITTER_STREAM = CROP_STREAM + 1, CROP_STREAM + 2


def _bands(key: Array, count: int, size: Array, share: float, total: int) -> Array:
    """`[B, total]` mask of `count` random bands, each up to `share` of the `size [B]` positions."""
    batch = len(size)
    width_key, start_key = jax.random.split(key)
    size = size[:, None].astype(jnp.float32)
    width = jnp.floor(jax.random.uniform(width_key, (batch, count)) * (size * share + 1))
    start = jnp.floor(jax.random.uniform(start_key, (batch, count)) * (size - width + 1))
    position = jnp.arange(total)[None, None, :]
    inside = (position >= start[..., None]) & (position < (start + width)[..., None])
    return inside.any(1)


def spec_augment(
    key: Array,
    features: Array,
    length: Array,
    *,
    time_masks: int,
    time_share: float,
    freq_masks: int,
    freq_share: float,
) -> Array:
    """SpecAugment (Park et al., 2019): sets random bands of time and frequency to zero, the mean.

    Time bands lie within each clip's own length, and their greatest width is a share of it.
    """
    time_key, freq_key = jax.random.split(key)
    _, frames, bins = features.shape
    if time_masks:
        band = _bands(time_key, time_masks, length, time_share, frames)
        features = jnp.where(band[:, :, None], 0, features)
    if freq_masks:
        band = _bands(freq_key, freq_masks, jnp.full_like(length, bins), freq_share, bins)
        features = jnp.where(band[:, None, :], 0, features)
    return features


def time_roll(key: Array, features: Array, length: Array) -> Array:
    """Rotates each clip by a random number of frames within its own length."""
    frames = features.shape[1]
    turn = jnp.floor(jax.random.uniform(key, length.shape) * length).astype(jnp.int32)
    position = jnp.arange(frames)[None, :]
    rolled = (position - turn[:, None]) % jnp.maximum(length, 1)[:, None]
    source = jnp.where(position < length[:, None], rolled, position)
    return jnp.take_along_axis(features, source[..., None], axis=1)


def gain(key: Array, features: Array, length: Array, scale: Array, decibels: float) -> Array:
    """Adds up to `decibels` either way to each clip of normalised log-mels.

    Args:
      scale: `[M]`, or `[B, 1, M]`, decibels per unit of the normalised features.
    """
    offset = jax.random.uniform(key, length.shape, minval=-decibels, maxval=decibels)
    valid = jnp.arange(features.shape[1])[None, :] < length[:, None]
    return features + jnp.where(valid[..., None], offset[:, None, None] / scale, 0)


def mixup(
    key: Array, features: Array, length: Array, label: Array, alpha: float
) -> tuple[Array, Array, Array]:
    """Mixup (Zhang et al., 2018) of each clip with another one of the batch.

    The ratio is Beta(alpha, alpha), one for each pair; the mix is as long as the longer clip.
    """
    order_key, ratio_key = jax.random.split(key)
    other = jax.random.permutation(order_key, len(length))
    ratio = jax.random.beta(ratio_key, alpha, alpha, length.shape)
    by = ratio[:, None, None]
    features = by * features + (1 - by) * features[other]
    label = ratio[:, None] * label + (1 - ratio[:, None]) * label[other]
    return features, jnp.maximum(length, length[other]), label


def band_mix(
    key: Array, features: Array, length: Array, label: Array, chance: float, axis: int
) -> tuple[Array, Array]:
    """CutMix (Yun et al., 2019) along time or frequency: a band of a clip is another clip's.

    The band lies within the frames that both clips have, and is as wide as chance will have it, up
    to all of them; labels are mixed by the share of the clip's own values that it takes.

    Args:
      key: PRNG key.
      features: `[B, T, M]`.
      length: `[B]`, which stays.
      label: `[B, C]`.
      chance: of a clip to be mixed.
      axis: 1 for a stretch of time, 2 for a band of frequencies.

    Returns:
      features and labels.
    """
    order_key, choice_key, band_key = jax.random.split(key, 3)
    batch, frames, bins = features.shape
    other = jax.random.permutation(order_key, batch)
    common = jnp.minimum(length, length[other])
    size = common if axis == 1 else jnp.full_like(common, bins)
    mixes = jax.random.bernoulli(choice_key, chance, (batch,))
    band = _bands(band_key, 1, size, 1.0, features.shape[axis]) & mixes[:, None]
    inside = band[:, :, None] if axis == 1 else band[:, None, :]
    inside &= (jnp.arange(frames)[None, :] < common[:, None])[:, :, None]
    # As products of two sides: a stretch has all bins, a band all common frames.
    taken = band.sum(1) * (bins if axis == 1 else common)
    share = taken / jnp.maximum(length * bins, 1)
    label = (1 - share[:, None]) * label + share[:, None] * label[other]
    return jnp.where(inside, features[other], features), label


def mel_jitter(key: Array, features: Array, share: float) -> Array:
    """Moves the ends of each clip's bins, fmin and fmax, and spaces the bins evenly between them.

    A bin between two others is theirs, interpolated, as if the filters had been; beyond the ends
    the outermost bin is repeated.

    Args:
      key: PRNG key.
      features: `[B, T, M]`.
      share: of the M - 1 steps between bins, by which either end moves at most, inwards or
        outwards.
    """
    last = features.shape[2] - 1
    moves = jax.random.uniform(key, (2, len(features), 1), minval=-share, maxval=share)
    first, end = last * moves[0], last * (1 + moves[1])
    place = first + (end - first) * jnp.arange(last + 1) / max(last, 1)
    place = jnp.clip(place, 0, last)
    below = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, max(last - 1, 0))
    part = (place - below)[:, None, :]
    low = jnp.take_along_axis(features, below[:, None, :], axis=2)
    high = jnp.take_along_axis(features, jnp.minimum(below + 1, last)[:, None, :], axis=2)
    return low * (1 - part) + high * part


def crop_bins(key: Array, features: Array, scale: Array, bins: int) -> tuple[Array, Array]:
    """A random run of `bins` of the M bins, one for each example.

    It belongs to the `data` section: plain copies are cropped too, and evaluation takes the
    middle.

    Args:
      key: PRNG key, which `augment` may use as well.
      features: `[B, T, M]`.
      scale: `[M]`, what the features were divided by.
      bins: at most M.

    Returns:
      Features `[B, T, bins]` and their scale `[B, 1, bins]`.
    """
    batch, _, total = features.shape
    key = jax.random.fold_in(key, CROP_STREAM)
    start = jax.random.randint(key, (batch, 1, 1), 0, total - bins + 1)
    index = start + jnp.arange(bins)
    return jnp.take_along_axis(features, index, axis=2), scale[index]


def augment(
    config: Any,
    key: Array,
    features: Array,
    length: Array,
    label: Array,
    scale: Array,
    mixing: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Everything that the `augment` section asks for, in the order of this function.

    Args:
      config: the `augment` section of the configuration.
      key: PRNG key.
      features: normalised, `[B, T, M]` float32.
      length: `[B]` int32.
      label: `[B, C]` float32.
      scale: `[M]`, or `[B, 1, M]`, what the features were divided by.
      mixing: whether clips are mixed at this step; None for always.

    Returns:
      features, length, label.
    """
    roll_key, gain_key, mix_key, mask_key = jax.random.split(key, 4)
    if config.mel_jitter:
        features = mel_jitter(jax.random.fold_in(key, JITTER_STREAM), features, config.mel_jitter)
    if config.time_roll:
        features = time_roll(roll_key, features, length)
    if config.gain_db:
        features = gain(gain_key, features, length, scale, config.gain_db)
    alone = (features, length, label)
    if config.mixup:
        features, length, label = mixup(mix_key, features, length, label, config.mixup)
    for axis, chance in ((1, config.time_mix), (2, config.freq_mix)):
        if chance:
            band_key = jax.random.fold_in(jax.random.fold_in(key, MIX_STREAM), axis)
            features, label = band_mix(band_key, features, length, label, chance, axis)
    if mixing is not None:
        mixed = (features, length, label)
        features, length, label = (
            jnp.where(mixing, a, b) for a, b in zip(mixed, alone, strict=True)
        )
    features = spec_augment(
        mask_key,
        features,
        length,
        time_masks=config.time_masks,
        time_share=config.time_mask_share,
        freq_masks=config.freq_masks,
        freq_share=config.freq_mask_share,
    )
    return features, length, label
