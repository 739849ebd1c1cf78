"""Clips longer than a picture as fused CLAP hears them (Wu et al., 2023): a blend of four views.

The whole clip, shrunk to the length that is heard whole, and a chunk of that length from its
beginning, its middle and its end. The arithmetic is that of transformers' `ClapFeatureExtractor`
and `ClapAudioPatchEmbed`. Each clip's views are of its own frames alone.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsound.models import masking

Array = jax.Array
CHUNKS = 3
_SQUEEZE = 4  # by which attention is narrower than what it attends to


def shrunk(x: Array, length: Array, frames: int) -> Array:
    """Each clip's own frames as `frames` of them: `[B, T, M]`, `[B]` -> `[B, frames, M]`.

    Bilinear, frames being areas (`torch.nn.functional.interpolate(mode="bilinear",
    align_corners=False)`). Places are counted in float32 as PyTorch counts them, which is worth up
    to 4e-3 dB. What comes of clips that are no longer than `frames` is nothing to be read.
    """
    scale = length.astype(jnp.float32)[:, None] / frames
    place = (jnp.arange(frames) + 0.5) * scale - 0.5
    before = jnp.floor(place).astype(jnp.int32)
    share = (place - before)[..., None]
    return _picked(x, before) * (1 - share) + _picked(x, before + 1) * share


def places(length: Array, frames: int, key: Array | None = None) -> Array:
    """Where each clip's chunks begin: `[B]` -> `[B, 3]` int32.

    The places where a chunk fits are divided into thirds; of each it is the middle one or, with a
    key, any. Where there are but two, the last third is empty, and the chunk is the first.
    """
    fitting = jnp.maximum(length - frames + 1, 1)[:, None]
    third = jnp.arange(CHUNKS)
    share, more = fitting // CHUNKS, fitting % CHUNKS  # the first thirds have one more
    count = share + (third < more)
    first = jnp.where(count > 0, share * third + jnp.minimum(third, more), 0)
    count = jnp.maximum(count, 1)
    if key is None:
        return first + (count - 1) // 2
    return first + jax.random.randint(key, count.shape, 0, count)


def views(x: Array, length: Array, frames: int, key: Array | None = None) -> tuple[Array, Array]:
    """What is seen of clips of more than `frames` frames; shorter ones are left as they are.

    Args:
      x: `[B, T, M]`, T above `frames`.
      length: `[B]`, each clip's own frames.
      frames: of a view.
      key: draws the chunks' places; without one they are in the middle of their thirds.

    Returns:
      The whole clips `[B, frames, M]`, and their chunks `[B, 3, frames, M]`, which of shorter
      clips are nothing to be read.
    """
    longer = (length > frames)[:, None, None]
    whole = jnp.where(longer, shrunk(x, length, frames), x[:, :frames])
    return whole, _picked(x, places(length, frames, key)[..., None] + jnp.arange(frames))


def _picked(x: Array, index: Array) -> Array:
    """`[B, T, M]`, `[B, ...]` -> `[B, ..., M]`; an index beyond the ends is that of an end."""
    return jax.vmap(lambda clip, at: clip[at])(x, jnp.clip(index, 0, x.shape[1] - 1))


class Scores(nnx.Module):
    """Two pointwise layers, each with BatchNorm, which sees longer clips alone."""

    def __init__(self, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        narrow = max(width // _SQUEEZE, 1)
        self.down = nnx.Linear(width, narrow, dtype=dtype, rngs=rngs)
        self.norm_1 = masking.BatchNorm(narrow)
        self.up = nnx.Linear(narrow, width, dtype=dtype, rngs=rngs)
        self.norm_2 = masking.BatchNorm(width)

    def __call__(self, x: Array, longer: Array, train: bool) -> Array:
        """`[B, H, W, D]`, `[B]` bool -> the same shape, zero for other clips."""
        rows = longer * x.shape[1]
        x = self.norm_1(masking.zero_padding(self.down(x), rows), rows, train=train)
        x = masking.zero_padding(self.up(nnx.relu(x)), rows)
        return self.norm_2(x, rows, train=train)


class Fusion(nnx.Module):
    """Tokens of three chunks, and attentional feature fusion with the whole's (Dai et al., 2021).

    A chunk's token is as high as the whole's and three times as wide, so that side by side they
    are as wide as the whole; what is left over at the end is zero.
    """

    def __init__(self, width: int, patch: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        size = (patch, CHUNKS * patch)
        self.project = nnx.Conv(1, width, size, size, padding="VALID", dtype=dtype, rngs=rngs)
        self.local = Scores(width, dtype, rngs)
        self.overall = Scores(width, dtype, rngs)

    def __call__(self, whole: Array, chunks: Array, longer: Array, train: bool) -> Array:
        """Fuses the tokens of longer clips; the others' stay as they are.

        Args:
          whole: tokens `[B, H, W, D]`.
          chunks: pictures `[B * 3, height, width, 1]`, a clip's one after another.
          longer: `[B]` bool.
          train: whether BatchNorm takes the batch's statistics.
        """
        batch, height, width, depth = whole.shape
        parts = self.project(chunks).reshape(batch, CHUNKS, height, -1, depth)
        parts = parts.swapaxes(1, 2).reshape(batch, height, -1, depth)
        parts = jnp.pad(parts, ((0, 0), (0, 0), (0, width - parts.shape[2]), (0, 0)))
        both = whole + parts
        mean = both.astype(jnp.float32).mean((1, 2), keepdims=True).astype(both.dtype)
        share = self.local(both, longer, train) + self.overall(mean, longer, train)
        share = jax.nn.sigmoid(share)
        fused = 2 * whole * share + 2 * parts * (1 - share)
        return jnp.where(longer[:, None, None, None], fused, whole)
