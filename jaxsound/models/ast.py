"""The Audio Spectrogram Transformer (Gong et al., 2021), masked.

The arithmetic is that of the original and of transformers' `ASTModel`: overlapping patches, a class
and a distillation token, a table of positions, pre-norm blocks with exact GELU, and the mean of the
two tokens. Tokens run over time first, so that a clip's own come before those of its padding; the
table keeps the original's order.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import masking
from jaxsound.models.attention import attend, fuses
from jaxsound.models.lora import lora_pair

Array = jax.Array
EPSILON = 1e-12  # of every norm
TOKENS = 2  # of class and of distillation


def patches(size: int, patch: int, stride: int) -> int:
    """Patches along an axis of `size`; one where it is shorter than a patch."""
    return (max(size, patch) - patch) // stride + 1


def layer_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, dtype=dtype, rngs=rngs)


class Block(nnx.Module):
    """Attention and MLP, each after a norm, with dropout and stochastic depth."""

    def __init__(self, config: Any, drop_path: float, *, rngs: nnx.Rngs):
        dtype, width = jnp.dtype(config.dtype), config.width
        hidden = int(width * config.mlp_ratio)
        self.heads = config.heads
        self.fused = fuses(config.attention, dtype, width // config.heads)
        self.dropout = config.dropout
        self.drop_path = drop_path
        self.norm_1 = layer_norm(width, dtype, rngs)
        self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm_2 = layer_norm(width, dtype, rngs)
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        rank, alpha = config.lora_rank, config.lora_alpha
        self.lora_query, self.lora_value = lora_pair(width, rank, alpha, rngs)

    def __call__(self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None) -> Array:
        """`[B, N, D]`, `[B]` valid tokens -> `[B, N, D]`, zero past `length`."""
        for branch, norm in ((self._attend, self.norm_1), (self._mlp, self.norm_2)):
            y = branch(norm(x), length)
            y = masking.dropout(y, self.dropout, train=train, rngs=rngs)
            x = x + masking.drop_path(y, self.drop_path, train=train, rngs=rngs)
        return masking.zero_padding(x, length)

    def _attend(self, x: Array, length: Array) -> Array:
        # Flattened to [B * N, D], here and below: on CPU gradients take two thirds of the time.
        batch, tokens, width = x.shape
        flat = x.reshape(-1, width)
        q, k, v = jnp.split(self.qkv(flat), 3, -1)
        if self.lora_query is not None and self.lora_value is not None:
            q, v = q + self.lora_query(flat), v + self.lora_value(flat)
        q, k, v = (y.reshape(batch, tokens, self.heads, width // self.heads) for y in (q, k, v))
        y = attend(q, k, v, length, fused=self.fused)
        return self.out(y.reshape(-1, width)).reshape(batch, tokens, width)

    def _mlp(self, x: Array, length: Array) -> Array:
        y = self.up(x.reshape(-1, x.shape[-1]))
        return self.down(jax.nn.gelu(y, approximate=False)).reshape(x.shape)


class AST(nnx.Module):
    """Patches, positions, blocks, the mean of two tokens, a norm and a linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, frames: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["ast"]`).
          features: mel bins M.
          classes: C.
          frames: the longest T the network will see; there are positions for so many.
          rngs: source of initial values.
        """
        dtype, width = jnp.dtype(config.dtype), config.width
        size, strides = config.patch, (config.time_stride, config.frequency_stride)
        none = ((0, 0), (0, 0))
        self.patch = size
        self.project = masking.Conv(
            1, width, (size, size), strides, none, bias=True, dtype=dtype, rngs=rngs
        )
        self.grid = (  # positions over frequency and time
            patches(features, size, config.frequency_stride),
            patches(frames, size, config.time_stride),
        )
        normal = nnx.initializers.normal(0.02)
        self.class_token = nnx.Param(normal(rngs.params(), (width,)))
        self.distillation_token = nnx.Param(normal(rngs.params(), (width,)))
        places = TOKENS + self.grid[0] * self.grid[1]
        self.table = nnx.Param(normal(rngs.params(), (places, width)))
        rates = np.linspace(0, config.drop_path, config.depth)
        self.blocks = nnx.List(Block(config, float(rate), rngs=rngs) for rate in rates)
        self.norm = layer_norm(width, dtype, rngs)
        self.head_norm = layer_norm(width, jnp.dtype(jnp.float32), rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> logits `[B, C]` float32."""
        x, length = self.tokens(x, length)
        x = masking.dropout(x, self.dropout, train=train, rngs=rngs)
        run = nnx.remat(Block.__call__, static_argnums=(3,)) if self.remat else Block.__call__
        for block in self.blocks:
            x = run(block, x, length, train, rngs)
        return self.head(self.pooled(x))

    def tokens(self, x: Array, length: Array) -> tuple[Array, Array]:
        """`[B, T, M]`, `[B]` -> what the first block sees, `[B, N, D]`, and its valid tokens `[B]`.

        The class and the distillation token come first, then the patches of a moment, low to
        high, after those of another. A clip shorter than a patch has patches that end in zeros.
        """
        x = masking.zero_padding(x, length)[..., None].astype(self.dtype)
        short = [(0, max(0, self.patch - size)) for size in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *short, (0, 0)))
        length = jnp.where(length > 0, jnp.maximum(length, self.patch), 0)
        x, length = self.project(x, length)
        batch, times, bins, width = x.shape
        if times > self.grid[1]:
            raise ValueError(f"{times} patches in time, but positions for {self.grid[1]}")
        places = self.table[TOKENS:].reshape(*self.grid, width).swapaxes(0, 1)[:times]
        x = (x + places.astype(x.dtype)).reshape(batch, times * bins, width)
        first = jnp.stack([self.class_token[...], self.distillation_token[...]])
        first = (first + self.table[:TOKENS]).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (batch, TOKENS, width)), x], 1)
        length = length * bins + TOKENS
        return masking.zero_padding(x, length), length

    def pooled(self, x: Array) -> Array:
        """The last block's `[B, N, D]` -> `[B, D]` float32, which the classifier takes."""
        two = self.norm(x[:, :TOKENS]).astype(jnp.float32)
        return self.head_norm(two.mean(1))
