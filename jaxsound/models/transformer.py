"""A masked transformer encoder over log-mels."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import masking

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


def fuses(attention: str, dtype: jnp.dtype, head_width: int) -> bool:
    """Whether cuDNN's fused attention is wanted and, if that is left open, takes these shapes.

    It skips the padded keys and never writes the attention map. It needs a GPU of compute
    capability 8 or more and bfloat16. Elsewhere than on a GPU the same network uses XLA's.
    """
    if attention == "xla" or jax.default_backend() != "gpu":
        return False
    if attention == "cudnn":
        return True
    capability = getattr(jax.local_devices()[0], "compute_capability", "0")  # none on AMD's
    major = capability.partition(".")[0]
    able = major.isdecimal() and int(major) >= 8
    return able and dtype == jnp.bfloat16 and head_width % 8 == 0 and head_width <= 128


class ConvStem(nnx.Module):
    """Stride-2 convolutions with batch norm, then frequency and channels flattened to tokens."""

    def __init__(
        self,
        features: int,
        width: int,
        channels: tuple[int, ...],
        *,
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
        self.project = nnx.Linear(bins * channels[-1], width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """`[B, T, M]`, `[B]` -> tokens `[B, ceil(T / stride), D]` and how many are valid."""
        x = x[..., None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x, length = conv(x, length)
            x = nnx.relu(norm(x, length, train=train))
        batch, tokens = x.shape[:2]
        x = self.project(x.reshape(batch * tokens, -1)).reshape(batch, tokens, -1)
        return masking.zero_padding(x, length), length


class FrameStem(nnx.Module):
    """Linear projection of `frames` consecutive frames to a token."""

    def __init__(self, features: int, width: int, frames: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stride = frames
        self.project = nnx.Linear(features * frames, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """`[B, T, M]`, `[B]` -> tokens `[B, ceil(T / frames), D]` and how many are valid."""
        batch, frames, bins = x.shape
        tokens = -(-frames // self.stride)
        x = jnp.pad(x, ((0, 0), (0, tokens * self.stride - frames), (0, 0)))
        x = self.project(x.reshape(batch, tokens, self.stride * bins))
        length = masking.strided_length(length, self.stride)
        return masking.zero_padding(x, length), length


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

    def __call__(self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None) -> Array:
        """`[B, T, D]`, `[B]` valid tokens -> `[B, T, D]`, zero past `length`."""
        for branch, norm in ((self._attend, self.norm_1), (self._mlp, self.norm_2)):
            y = branch(x if self.post else norm(x), length)
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
        if self.fused:  # needs a key to attend to, even in a clip of nothing but padding
            valid = jnp.maximum(length, 1).astype(jnp.int32)
            y = jax.nn.dot_product_attention(
                q, k, v, key_value_seq_lengths=valid, implementation="cudnn"
            )
        else:
            keys = masking.length_mask(length, tokens)[:, None, None, :]
            y = jax.nn.dot_product_attention(q, k, v, mask=keys)
        return self.out(y.reshape(-1, width)).reshape(batch, tokens, width)

    def _mlp(self, x: Array, length: Array) -> Array:
        y = self.up(x.reshape(-1, x.shape[-1]))
        return self.down(self.activation(y)).reshape(x.shape)


class Transformer(nnx.Module):
    """Stem, positions, blocks, pooling over valid tokens, hidden layers, linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, frames: int, rngs: nnx.Rngs):
        """Builds the encoder.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["transformer"]`).
          features: mel bins M.
          classes: C.
          frames: the longest T the network will see; learned positions have that many tokens.
          rngs: source of initial values.
        """
        dtype, width = jnp.dtype(config.dtype), config.width
        stem: ConvStem | FrameStem
        if config.stem == "conv":
            stem = ConvStem(features, width, tuple(config.stem_channels), dtype=dtype, rngs=rngs)
        else:
            stem = FrameStem(features, width, config.stem_frames, dtype=dtype, rngs=rngs)
        self.stem = stem
        tokens = -(-frames // stem.stride)
        normal = nnx.initializers.normal(0.02)
        self.positions = config.positions
        if config.positions == "learned":
            self.table = nnx.Param(normal(rngs.params(), (tokens, width)))
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
        x = masking.zero_padding(x, length).astype(self.dtype)
        x, length = self.stem(x, length, train)
        x = self._add_positions(x)
        x = masking.zero_padding(nnx.relu(x) if self.stem_activation == "relu" else x, length)
        x = masking.dropout(x, self.dropout, train=train, rngs=rngs)
        if self.pool == "class_token":
            token = jnp.broadcast_to(self.class_token[...], (x.shape[0], 1, x.shape[2]))
            x, length = jnp.concatenate([token.astype(x.dtype), x], 1), length + 1
        run = nnx.remat(Block.__call__, static_argnums=(3,)) if self.remat else Block.__call__
        for block in self.blocks:
            x = run(block, x, length, train, rngs)
        x = self._pool(x if self.norm is None else self.norm(x), length)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.head(x)

    def _add_positions(self, x: Array) -> Array:
        tokens, width = x.shape[1:]
        if self.positions == "sinusoidal":
            return x + sinusoids(tokens, width).astype(x.dtype)
        if self.positions == "learned":
            if tokens > len(self.table):
                raise ValueError(f"{tokens} tokens, but learned positions for {len(self.table)}")
            return x + self.table[:tokens].astype(x.dtype)
        return x

    def _pool(self, x: Array, length: Array) -> Array:
        if self.pool == "class_token":
            return x[:, 0].astype(jnp.float32)
        if self.pool == "mean":
            return masking.masked_mean(x, length)
        mask = masking.length_mask(length, x.shape[1])
        score = jnp.where(mask, self.score(x)[..., 0].astype(jnp.float32), -1e30)
        weight = jnp.where(mask, jax.nn.softmax(score, -1), 0)
        return (weight[..., None] * x.astype(jnp.float32)).sum(1)
