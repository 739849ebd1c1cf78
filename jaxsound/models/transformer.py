"""A masked transformer encoder over log-mels or samples.

Made to be trained from scratch: convolutions before it (Xiao et al., 2021) and between its tokens
(Chu et al., 2021), scales of its branches that begin near zero (LayerScale; Touvron et al., 2021),
tokens left out in training (patchout; Koutini et al., 2022).
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import masking
from jaxsound.models.attention import attend, fuses
from jaxsound.models.tokens import drop_tokens
from jaxsound.models.waveform import WaveformStem

Array = jax.Array


def sinusoids(tokens: int, width: int) -> np.ndarray:
    """Fixed positions `[tokens, width]` (Vaswani et al., 2017): sines, then cosines."""
    rate = np.exp(-np.log(10000.0) * np.arange(width // 2) / (width // 2))
    angle = np.arange(tokens)[:, None] * rate[None]
    return np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32)


def rotate(x: Array, first: int) -> Array:
    """Rotary positions (Su et al., 2021) on `x [B, T, H, D]`; token `first` is at position 0."""
    half = x.shape[-1] // 2
    rate = np.exp(-np.log(10000.0) * np.arange(half) / half)
    angle = (np.arange(x.shape[1]) - first)[:, None, None] * rate
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


class ConvStem(nnx.Module):
    """Stride-2 convolutions with batch norm, then a projection to tokens.

    A token has all frequencies of its time, or with `grid` one: tokens of a time, low to high,
    come before those of the next.
    """

    def __init__(
        self,
        features: int,
        width: int,
        channels: tuple[int, ...],
        *,
        grid: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        inputs = (1, *channels[:-1])
        self.convs = nnx.List(
            masking.Conv2d(a, b, stride=2, dtype=dtype, rngs=rngs)
            for a, b in zip(inputs, channels, strict=True)
        )
        self.norms = nnx.List(masking.BatchNorm(c) for c in channels)
        self.stride = 2 ** len(channels)
        bins = -(-features // self.stride)
        self.bins = bins if grid else 1
        seen = channels[-1] * (1 if grid else bins)
        self.project = nnx.Linear(seen, width, dtype=dtype, rngs=rngs)

    def times(self, frames: int) -> int:
        """Times that tokens stand for, of so many frames."""
        return -(-frames // self.stride)

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """`[B, T, M]`, `[B]` -> tokens `[B, ceil(T / stride) * bins, D]`, how many are valid."""
        x = x[..., None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x, length = conv(x, length)
            x = nnx.relu(norm(x, length, train=train))
        batch, tokens = x.shape[0], x.shape[1] * self.bins
        x = self.project(x.reshape(batch * tokens, -1)).reshape(batch, tokens, -1)
        length = length * self.bins
        return masking.zero_padding(x, length), length


class FrameStem(nnx.Module):
    """Linear projection of `frames` consecutive frames to a token."""

    def __init__(self, features: int, width: int, frames: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stride = frames
        self.bins = 1
        self.project = nnx.Linear(features * frames, width, dtype=dtype, rngs=rngs)

    def times(self, frames: int) -> int:
        """Times that tokens stand for, of so many frames."""
        return -(-frames // self.stride)

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """`[B, T, M]`, `[B]` -> tokens `[B, ceil(T / frames), D]` and how many are valid."""
        batch, frames, bins = x.shape
        tokens = self.times(frames)
        x = jnp.pad(x, ((0, 0), (0, tokens * self.stride - frames), (0, 0)))
        x = self.project(x.reshape(batch, tokens, self.stride * bins))
        length = masking.strided_length(length, self.stride)
        return masking.zero_padding(x, length), length


def make_stem(config: Any, features: int, *, rngs: nnx.Rngs) -> ConvStem | FrameStem | WaveformStem:
    """What makes tokens of a network's input of `features` columns."""
    dtype, width, channels = jnp.dtype(config.dtype), config.width, tuple(config.stem_channels)
    if config.stem == "conv":
        return ConvStem(features, width, channels, grid=config.grid, dtype=dtype, rngs=rngs)
    if config.stem == "frames":
        return FrameStem(features, width, config.stem_frames, dtype=dtype, rngs=rngs)
    factors = tuple(config.stem_factors)
    return WaveformStem(
        features, width, channels, factors, config.stem_blocks, dtype=dtype, rngs=rngs
    )


def between(
    width: int, kernel: int, grid: bool, *, dtype: jnp.dtype, rngs: nnx.Rngs
) -> masking.Conv:
    """A depthwise convolution of tokens `[B, times, bins, D]` that tells where they are.

    Its zeros outside a clip tell where that begins and ends (Islam et al., 2020).
    """
    size = (kernel, kernel if grid else 1)
    around = tuple(((k - 1) // 2, k // 2) for k in size)
    return masking.Conv(
        width, width, size, (1, 1), around, groups=width, bias=True, dtype=dtype, rngs=rngs
    )


class Block(nnx.Module):
    """Attention and MLP, each with dropout, stochastic depth and a norm before or after."""

    def __init__(self, config: Any, drop_path: float, *, rngs: nnx.Rngs):
        dtype, width = jnp.dtype(config.dtype), config.width
        hidden = int(width * config.mlp_ratio)
        self.heads = config.heads
        self.rotary = config.positions == "rotary"
        self.fused = fuses(config.attention, dtype, width // config.heads)
        self.first = int(config.pool == "class_token")
        self.post = config.norm == "post"
        self.activation = nnx.relu if config.activation == "relu" else nnx.gelu
        self.dropout = config.dropout
        self.drop_path = drop_path
        self.norm_1 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm_2 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        first = config.layer_scale
        self.scale_1 = nnx.Param(jnp.full(width, first, jnp.float32)) if first else None
        self.scale_2 = nnx.Param(jnp.full(width, first, jnp.float32)) if first else None

    def __call__(self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None) -> Array:
        """`[B, T, D]`, `[B]` valid tokens -> `[B, T, D]`, zero past `length`."""
        for branch, norm, scale in (
            (self._attend, self.norm_1, self.scale_1),
            (self._mlp, self.norm_2, self.scale_2),
        ):
            y = branch(x if self.post else norm(x), length)
            y = y if scale is None else y * scale[...].astype(y.dtype)
            y = masking.dropout(y, self.dropout, train=train, rngs=rngs)
            x = x + masking.drop_path(y, self.drop_path, train=train, rngs=rngs)
            x = norm(x) if self.post else x
        return masking.zero_padding(x, length)

    def _attend(self, x: Array, length: Array) -> Array:
        # Flattened to [B * T, D], here and below: on CPU gradients take two thirds of the time.
        batch, tokens, width = x.shape
        qkv = self.qkv(x.reshape(-1, width))
        qkv = qkv.reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if self.rotary:
            q, k = rotate(q, self.first), rotate(k, self.first)
        y = attend(q, k, v, length, fused=self.fused)
        return self.out(y.reshape(-1, width)).reshape(batch, tokens, width)

    def _mlp(self, x: Array, length: Array) -> Array:
        y = self.up(x.reshape(-1, x.shape[-1]))
        return self.down(self.activation(y)).reshape(x.shape)


class Transformer(nnx.Module):
    """Stem, positions, blocks, pooling over valid tokens, hidden layers, linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, frames: int, rngs: nnx.Rngs):
        """Builds the encoder.

        Args:
          config: the `model` section (see `jaxsound.model_keys.MODELS["transformer"]`).
          features: mel bins M.
          classes: C.
          frames: the longest T the network will see; learned positions have that many times.
          rngs: source of initial values.
        """
        dtype, width = jnp.dtype(config.dtype), config.width
        self.stem = make_stem(config, features, rngs=rngs)
        self.bins = self.stem.bins
        self.grid = config.grid
        normal = nnx.initializers.normal(0.02)
        self.positions = config.positions
        if config.positions == "learned":
            self.table = nnx.Param(normal(rngs.params(), (self.stem.times(frames), width)))
        if config.grid and config.positions != "none":
            self.bin_table = nnx.Param(normal(rngs.params(), (self.bins, width)))
        self.neighbours = (
            between(width, config.position_kernel, config.grid, dtype=dtype, rngs=rngs)
            if config.position_kernel
            else None
        )
        self.drops = (config.drop_tokens, config.drop_times, config.drop_bins)
        self.pool = config.pool
        if config.pool == "class_token":
            self.class_token = nnx.Param(normal(rngs.params(), (width,)))
        if config.pool == "attention":
            self.score = nnx.Linear(width, 1, rngs=rngs)
        rates = np.linspace(0, config.drop_path, config.depth)
        self.blocks = nnx.List(Block(config, float(rate), rngs=rngs) for rate in rates)
        self.norm = nnx.LayerNorm(width, rngs=rngs) if config.norm == "pre" else None
        widths = (width, *config.hidden)
        self.hidden = nnx.List(
            nnx.Linear(a, b, dtype=dtype, rngs=rngs) for a, b in itertools.pairwise(widths)
        )
        self.head = nnx.Linear(widths[-1], classes, rngs=rngs)
        self.stem_activation = config.stem_activation
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> logits `[B, C]` float32."""
        x = self._pool(*self.encode(x, length, train=train, rngs=rngs))
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.head(x)

    def encode(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> tuple[Array, Array]:
        """Features as in a call -> tokens `[B, N, D]`, a class token first, how many are valid."""
        x = masking.zero_padding(x, length).astype(self.dtype)
        x, length = self.stem(x, length, train)
        x = self._add_positions(x, length)
        x = masking.zero_padding(nnx.relu(x) if self.stem_activation == "relu" else x, length)
        x = masking.dropout(x, self.dropout, train=train, rngs=rngs)
        if train and any(self.drops):
            assert rngs is not None, "leaving tokens out needs rngs"
            x, length = drop_tokens(rngs.dropout(), x, length, self.bins, *self.drops)
        if self.pool == "class_token":
            token = jnp.broadcast_to(self.class_token[...], (x.shape[0], 1, x.shape[2]))
            x, length = jnp.concatenate([token.astype(x.dtype), x], 1), length + 1
        run = nnx.remat(Block.__call__, static_argnums=(3,)) if self.remat else Block.__call__
        for block in self.blocks:
            x = run(block, x, length, train, rngs)
        return x if self.norm is None else self.norm(x), length

    def _add_positions(self, x: Array, length: Array) -> Array:
        batch, tokens, width = x.shape
        times = tokens // self.bins
        x = x.reshape(batch, times, self.bins, width)
        if self.neighbours is not None:
            x = x + self.neighbours(x, length // self.bins)[0]
        if self.positions == "sinusoidal":
            x = x + sinusoids(times, width)[:, None].astype(x.dtype)
        if self.positions == "learned":
            if times > len(self.table):
                raise ValueError(f"{times} times, but learned positions for {len(self.table)}")
            x = x + self.table[:times][:, None].astype(x.dtype)
        if self.grid and self.positions != "none":
            x = x + self.bin_table[...].astype(x.dtype)
        return x.reshape(batch, tokens, width)

    def _pool(self, x: Array, length: Array) -> Array:
        if self.pool == "class_token":
            return x[:, 0].astype(jnp.float32)
        if self.pool == "mean":
            return masking.masked_mean(x, length)
        mask = masking.length_mask(length, x.shape[1])
        score = jnp.where(mask, self.score(x)[..., 0].astype(jnp.float32), -1e30)
        weight = jnp.where(mask, jax.nn.softmax(score, -1), 0)
        return (weight[..., None] * x.astype(jnp.float32)).sum(1)
