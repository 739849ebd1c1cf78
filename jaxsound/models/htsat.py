"""HTS-AT, CLAP's audio tower (Chen et al., 2022; Wu et al., 2023): a Swin transformer.

The arithmetic is that of transformers' `ClapAudioModel`. A clip's own frames are stretched to the
width of the picture that the network was made for, so its logits depend on no padding of the batch.
Time is folded into quarters, one above another, low to high in each. With `model.fusion` clips of
more than `model.chunk_frames` are a blend of four views (`jaxsound.models.fusion`).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import masking
from jaxsound.models.fusion import Fusion, views
from jaxsound.models.lora import lora_pair

Array = jax.Array
EPSILON = 1e-5  # of every norm
_CUBIC = -0.75  # PyTorch's parameter of bicubic interpolation
_APART = -100.0  # added between tokens that a shift has brought together


def layer_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, dtype=dtype, rngs=rngs)


def stretched(x: Array, length: Array, frames: int) -> Array:
    """Each clip's own frames as `frames` of them: `[B, T, M]`, `[B]` -> `[B, frames, M]`.

    Bicubic with its corners in the corners (`torch.nn.functional.interpolate(mode="bicubic",
    align_corners=True)`); a clip of length 0 becomes zeros.
    """
    last = jnp.maximum(length - 1, 0)[:, None]
    at = jnp.arange(frames)[None] * (last / max(frames - 1, 1))
    before = jnp.floor(at).astype(jnp.int32)
    share = (at - before)[..., None]

    def near(d: Array) -> Array:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC

    factors = (far(share + 1), near(share), near(1 - share), far(2 - share))
    pick = jax.vmap(lambda clip, index: clip[index])
    parts = [
        factor * pick(x, jnp.clip(before + offset, 0, last))
        for offset, factor in zip((-1, 0, 1, 2), factors, strict=True)
    ]
    return jnp.where(length[:, None, None] > 0, sum(parts[1:], parts[0]), 0)


def relative_positions(window: int) -> np.ndarray:
    """`[window ** 2, window ** 2]`: which row of the table is between two tokens of a window."""
    rows, columns = (part.reshape(-1) for part in np.mgrid[:window, :window])
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return down * (2 * window - 1) + right


def windows(x: Array, window: int) -> Array:
    """`[B, H, W, D]` -> `[B, windows, window ** 2, D]`."""
    batch, height, width, depth = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, depth)
    return x.swapaxes(2, 3).reshape(batch, -1, window * window, depth)


def unwindowed(x: Array, height: int, width: int) -> Array:
    """The way back: `[B, windows, window ** 2, D]` -> `[B, H, W, D]`."""
    batch, _, tokens, depth = x.shape
    window = math.isqrt(tokens)
    x = x.reshape(batch, height // window, width // window, window, window, depth)
    return x.swapaxes(2, 3).reshape(batch, height, width, depth)


def brought_together(size: int, window: int, shift: int) -> np.ndarray:
    """`[windows, window ** 2, window ** 2]` float32, added to scores after a shift."""
    place = np.arange(size)
    region = (place >= size - window).astype(int) + (place >= size - shift)
    region = region[:, None] * 3 + region[None]
    count = size // window
    region = region.reshape(count, window, count, window).swapaxes(1, 2).reshape(-1, window**2)
    return np.where(region[:, None] == region[:, :, None], 0, _APART).astype(np.float32)


class Merge(nnx.Module):
    """Squares of four tokens to one of twice their width."""

    def __init__(self, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = layer_norm(4 * width, dtype, rngs)
        self.reduce = nnx.Linear(4 * width, 2 * width, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """`[B, H, W, D]` -> `[B, H / 2, W / 2, 2 * D]`."""
        four = [x[:, row::2, column::2] for column in range(2) for row in range(2)]
        return self.reduce(self.norm(jnp.concatenate(four, -1)))


class Block(nnx.Module):
    """Attention within windows, every other time shifted ones, and an MLP, each after a norm.

    The last of a stage merges tokens for the next.
    """

    def __init__(
        self,
        config: Any,
        *,
        width: int,
        heads: int,
        size: int,
        shifted: bool,
        merges: bool,
        drop_path: float,
        rngs: nnx.Rngs,
    ):
        dtype, hidden = jnp.dtype(config.dtype), int(width * config.mlp_ratio)
        self.heads = heads
        self.window = config.window
        self.shift = config.window // 2 if shifted and size > config.window else 0
        self.size = size
        self.dropout = config.dropout
        self.drop_path = drop_path
        self.norm_1 = layer_norm(width, dtype, rngs)
        self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.table = nnx.Param(jnp.zeros(((2 * self.window - 1) ** 2, heads)))
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm_2 = layer_norm(width, dtype, rngs)
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        self.merge = Merge(width, dtype, rngs) if merges else None
        rank, alpha = config.lora_rank, config.lora_alpha
        self.lora_query, self.lora_value = lora_pair(width, rank, alpha, rngs)

    def __call__(self, x: Array, train: bool, rngs: nnx.Rngs | None) -> Array:
        """`[B, H, W, D]` -> the same shape, or half as high and wide and twice as deep."""
        for branch, norm in ((self._attend, self.norm_1), (self._mlp, self.norm_2)):
            y = masking.dropout(branch(norm(x)), self.dropout, train=train, rngs=rngs)
            x = x + masking.drop_path(y, self.drop_path, train=train, rngs=rngs)
        return x if self.merge is None else self.merge(x)

    def _attend(self, x: Array) -> Array:
        x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
        parts = windows(x, self.window)
        q, k, v = jnp.split(self.qkv(parts), 3, -1)
        if self.lora_query is not None and self.lora_value is not None:
            q, v = q + self.lora_query(parts), v + self.lora_value(parts)
        q, k, v = (y.reshape(*y.shape[:3], self.heads, -1) for y in (q, k, v))
        bias = self.table[...][relative_positions(self.window)].transpose(2, 0, 1)
        scores = jnp.einsum("bnqhd,bnkhd->bnhqk", q, k) * q.shape[-1] ** -0.5
        scores = scores.astype(jnp.float32) + bias
        if self.shift:
            scores += brought_together(self.size, self.window, self.shift)[:, None]
        shares = jax.nn.softmax(scores, -1).astype(v.dtype)
        y = jnp.einsum("bnhqk,bnkhd->bnqhd", shares, v).reshape(parts.shape)
        y = unwindowed(self.out(y), self.size, self.size)
        return jnp.roll(y, (self.shift, self.shift), (1, 2))

    def _mlp(self, x: Array) -> Array:
        return self.down(jax.nn.gelu(self.up(x), approximate=False))


class HTSAT(nnx.Module):
    """Norm of the bins, picture, patches, blocks with merges between stages, mean, classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["htsat"]`).
          features: mel bins M, of which `config.picture` is a multiple.
          classes: C.
          rngs: source of initial values.
        """
        dtype, width = jnp.dtype(config.dtype), config.width
        self.quarters = config.picture // features  # four of 64 bins
        self.frames = config.picture * self.quarters
        self.input_norm = masking.BatchNorm(features)
        self.project = nnx.Conv(
            1,
            width,
            (config.patch, config.patch),
            (config.patch, config.patch),
            padding="VALID",
            dtype=dtype,
            rngs=rngs,
        )
        self.fusion = Fusion(width, config.patch, dtype, rngs) if config.fusion else None
        self.chunk_frames = config.chunk_frames
        self.project_norm = layer_norm(width, dtype, rngs)
        rates = iter(np.linspace(0, config.drop_path, sum(config.depths)))
        blocks, size, last = [], config.picture // config.patch, len(config.depths) - 1
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            for i in range(depth):
                block = Block(
                    config,
                    width=width,
                    heads=heads,
                    size=size,
                    shifted=i % 2 == 1,
                    merges=i == depth - 1 and stage < last,
                    drop_path=float(next(rates)),
                    rngs=rngs,
                )
                blocks.append(block)
            if stage < last:
                width, size = 2 * width, size // 2
        self.blocks = nnx.List(blocks)
        self.norm = layer_norm(width, dtype, rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Features `[B, T, M]` in decibels, valid frames `[B]` -> logits `[B, C]` float32."""
        x = self.tokens(x, length, train, rngs)
        x = masking.dropout(x, self.dropout, train=train, rngs=rngs)
        run = nnx.remat(Block.__call__, static_argnums=(2,)) if self.remat else Block.__call__
        for block in self.blocks:
            x = run(block, x, train, rngs)
        return self.head(self.norm(x).astype(jnp.float32).mean((1, 2)))

    def tokens(self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None = None) -> Array:
        """`[B, T, M]`, `[B]` -> what the first block sees, `[B, H, W, D]`."""
        if self.fusion is None and x.shape[1] > self.frames:
            raise ValueError(f"{x.shape[1]} frames, but a picture of {self.frames}")
        x = self.input_norm(masking.zero_padding(x, length), length, train=train)
        most = self.chunk_frames
        if self.fusion is None or x.shape[1] <= most:
            return self.project_norm(self.project(self._folded(x, length)))
        assert rngs is not None or not train, "fusion in training needs rngs"
        whole, chunks = views(x, length, most, rngs.dropout() if train and rngs else None)
        chunks = chunks.reshape(-1, *chunks.shape[2:])
        x = self.project(self._folded(whole, jnp.minimum(length, most)))
        parts = self._folded(chunks, jnp.full(chunks.shape[0], most))
        return self.project_norm(self.fusion(x, parts, length > most, train))

    def _folded(self, x: Array, length: Array) -> Array:
        """`[B, T, M]`, `[B]` -> pictures `[B, picture, picture, 1]`."""
        x = stretched(x, length, self.frames)
        batch, frames, bins = x.shape
        x = x.reshape(batch, self.quarters, frames // self.quarters, bins).swapaxes(2, 3)
        return x.reshape(batch, self.quarters * bins, -1, 1).astype(self.dtype)
