"""The encoder of wav2vec 2.0 (Baevski et al., 2020) and HuBERT (Hsu et al., 2021), base, masked.

Raw sound in. The arithmetic is that of transformers' `Wav2Vec2Model` and `HubertModel` with their
base configurations, which are the same network. Each clip is given what the original gives it
alone: what a batch pads is in no statistic and under no window.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsound.models import masking
from jaxsound.models.attention import attend, fuses
from jaxsound.models.lora import lora_pair

Array = jax.Array
EPSILON = 1e-5  # of every norm
_LEAST_VARIANCE = 1e-7  # of a clip's samples
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
FIRST = 400  # samples under the first frame


def layer_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, dtype=dtype, rngs=rngs)


def standardised(x: Array, length: Array) -> Array:
    """Samples `[B, N]` with each clip's own at mean 0 and variance 1, as its original does."""
    count = jnp.maximum(length, 1)[:, None]
    centred = x - masking.zero_padding(x, length).sum(1, keepdims=True) / count
    centred = masking.zero_padding(centred, length)
    variance = jnp.square(centred).sum(1, keepdims=True) / count
    return centred / jnp.sqrt(variance + _LEAST_VARIANCE)


class TimeNorm(nnx.Module):
    """Each channel by its mean and deviation over a clip's own frames (a group to a channel)."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Array, length: Array) -> Array:
        """`[B, T, D]`, `[B]` -> `[B, T, D]`, zero past `length`."""
        y = x.astype(jnp.float32)
        y = masking.zero_padding(y - masking.masked_mean(y, length)[:, None], length)
        variance = masking.masked_mean(jnp.square(y), length)[:, None]
        y = y * jax.lax.rsqrt(variance + EPSILON) * self.scale[...] + self.bias[...]
        return masking.zero_padding(y.astype(x.dtype), length)


class Positions(nnx.Module):
    """Relative positions by a long grouped convolution, whose kernel is a direction and a gain."""

    def __init__(self, width: int, size: int, groups: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(2 / (size * width) ** 0.5)
        self.kernel = nnx.Param(normal(rngs.params(), (size, width // groups, width)))
        norm = jnp.sqrt(jnp.square(self.kernel[...]).sum((1, 2)))
        self.gain = nnx.Param(norm)
        self.bias = nnx.Param(jnp.zeros(width))
        self.groups = groups
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        """`[B, T, D]`, zero past each clip's length -> `[B, T, D]`, to be added."""
        kernel = self.kernel[...]
        size = kernel.shape[0]
        norm = jnp.sqrt(jnp.square(kernel).sum((1, 2), keepdims=True))
        kernel = (kernel * (self.gain[...][:, None, None] / norm)).astype(self.dtype)
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (1,),
            ((size // 2, (size - 1) // 2),),
            dimension_numbers=("NTC", "TIO", "NTC"),
            feature_group_count=self.groups,
        )
        return jax.nn.gelu(y + self.bias[...].astype(y.dtype), approximate=False)


class Block(nnx.Module):
    """Attention and MLP, each with dropout, added and then normalised."""

    def __init__(self, config: Any, *, rngs: nnx.Rngs):
        dtype, width = jnp.dtype(config.dtype), config.width
        hidden = int(width * config.mlp_ratio)
        self.heads = config.heads
        self.fused = fuses(config.attention, dtype, width // config.heads)
        self.dropout = config.dropout
        self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm_1 = layer_norm(width, dtype, rngs)
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        self.norm_2 = layer_norm(width, dtype, rngs)
        rank, alpha = config.lora_rank, config.lora_alpha
        self.lora_query, self.lora_value = lora_pair(width, rank, alpha, rngs)

    def __call__(self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None) -> Array:
        """`[B, T, D]`, `[B]` valid frames -> `[B, T, D]`, zero past `length`."""
        for branch, norm in ((self._attend, self.norm_1), (self._mlp, self.norm_2)):
            y = masking.dropout(branch(x, length), self.dropout, train=train, rngs=rngs)
            x = norm(x + y)
        return masking.zero_padding(x, length)

    def _attend(self, x: Array, length: Array) -> Array:
        batch, frames, width = x.shape
        flat = x.reshape(-1, width)
        q, k, v = jnp.split(self.qkv(flat), 3, -1)
        if self.lora_query is not None and self.lora_value is not None:
            q, v = q + self.lora_query(flat), v + self.lora_value(flat)
        q, k, v = (y.reshape(batch, frames, self.heads, width // self.heads) for y in (q, k, v))
        y = attend(q, k, v, length, fused=self.fused)
        return self.out(y.reshape(-1, width)).reshape(batch, frames, width)

    def _mlp(self, x: Array, length: Array) -> Array:
        y = self.up(x.reshape(-1, x.shape[-1]))
        return self.down(jax.nn.gelu(y, approximate=False)).reshape(x.shape)


class Wav2Vec2(nnx.Module):
    """Convolutions over samples, positions, blocks, mean over a clip's frames, classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["wav2vec2"]`).
          features: samples to a row of the input; rows follow one another in time.
          classes: C.
          rngs: source of initial values.
        """
        dtype, width = jnp.dtype(config.dtype), config.width
        widths = (1, *[config.channels] * len(KERNELS))
        self.convs = nnx.List(
            masking.Conv(a, b, (kernel,), (stride,), ((0, 0),), dtype=dtype, rngs=rngs)
            for (a, b), kernel, stride in zip(
                itertools.pairwise(widths), KERNELS, STRIDES, strict=True
            )
        )
        self.conv_norm = TimeNorm(config.channels)
        self.project_norm = layer_norm(config.channels, dtype, rngs)
        self.project = nnx.Linear(config.channels, width, dtype=dtype, rngs=rngs)
        self.positions = Positions(width, config.positions, config.position_groups, dtype, rngs)
        self.begin_norm = layer_norm(width, dtype, rngs)
        self.blocks = nnx.List(Block(config, rngs=rngs) for _ in range(config.depth))
        self.hidden = nnx.Linear(width, config.hidden, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(config.hidden, classes, rngs=rngs)
        self.samples = features
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Sound `[B, T, M]` in rows of M samples, valid rows `[B]` -> logits `[B, C]` float32."""
        x, length = self.begin(x, length)
        x = masking.dropout(x, self.dropout, train=train, rngs=rngs)
        run = nnx.remat(Block.__call__, static_argnums=(3,)) if self.remat else Block.__call__
        for block in self.blocks:
            x = run(block, x, length, train, rngs)
        return self.head(self.hidden(masking.masked_mean(x, length)).astype(jnp.float32))

    def begin(self, x: Array, length: Array) -> tuple[Array, Array]:
        """`[B, T, M]`, `[B]` -> what the first block sees, `[B, frames, D]`, and valid frames."""
        length = length * self.samples
        x = standardised(x.reshape(x.shape[0], -1).astype(jnp.float32), length)
        x = jnp.pad(x, ((0, 0), (0, max(0, FIRST - x.shape[1]))))[..., None].astype(self.dtype)
        for i, conv in enumerate(self.convs):
            x, length = conv(x, length)
            x = x if i else self.conv_norm(x, length)
            x = jax.nn.gelu(x, approximate=False)
        x = masking.zero_padding(self.project(self.project_norm(x)), length)
        return masking.zero_padding(self.begin_norm(x + self.positions(x)), length), length
