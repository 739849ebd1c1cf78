"""Masked residual networks (He et al., 2016) with one input channel.

Widths, strides and epsilon are those of torchvision's `resnet`: a bottleneck's stride is on its
3x3 convolution ("v1.5").
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsound.models import masking

Array = jax.Array

STAGES = {  # depth -> blocks per stage
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_FROM = 50  # this depth and deeper: 1x1, 3x3 and 1x1 convolutions to a block
EXPANSION = 4  # a bottleneck's output width over its inner width


class Block(nnx.Module):
    """Convolutions with batch norm, added to the input or to its projection."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        bottleneck: bool,
        zero_init_residual: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.outputs = width * EXPANSION if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        widths = (inputs, *[width] * (len(kernels) - 1), self.outputs)
        self.convs = nnx.List(
            masking.Conv2d(a, b, kernel, step, dtype=dtype, rngs=rngs)
            for (a, b), kernel, step in zip(
                itertools.pairwise(widths), kernels, strides, strict=True
            )
        )
        self.norms = nnx.List(masking.BatchNorm(w) for w in widths[1:])
        if zero_init_residual:
            self.norms[-1].scale[...] = jnp.zeros(self.outputs)
        project = stride > 1 or inputs != self.outputs
        self.skip = (
            masking.Conv2d(inputs, self.outputs, 1, stride, dtype=dtype, rngs=rngs)
            if project
            else None
        )
        self.skip_norm = masking.BatchNorm(self.outputs) if project else None

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """`[B, T, M, D]`, `[B]` -> `[B, ceil(T / stride), ceil(M / stride), outputs]`, lengths."""
        y, valid = x, length
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = nnx.relu(y) if i else y
            y, valid = conv(y, valid)
            y = norm(y, valid, train=train)
        if self.skip is not None and self.skip_norm is not None:
            x, _ = self.skip(x, length)
            x = self.skip_norm(x, valid, train=train)
        return nnx.relu(x + y), valid


class ResNet(nnx.Module):
    """Stem, four stages of residual blocks, masked mean, linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["resnet"]`).
          features: bins M, of any number: the classifier sees their mean.
          classes: C.
          rngs: source of initial values.
        """
        dtype = jnp.dtype(config.dtype)
        width = config.width
        self.stem = masking.Conv2d(
            1, width, config.stem_kernel, config.stem_stride, dtype=dtype, rngs=rngs
        )
        self.stem_norm = masking.BatchNorm(width)
        bottleneck = config.depth >= BOTTLENECK_FROM
        blocks, inputs = [], width
        for stage, count in enumerate(STAGES[config.depth]):
            for i in range(count):
                stride = 2 if stage and not i else 1
                block = Block(
                    inputs,
                    width * 2**stage,
                    stride,
                    bottleneck=bottleneck,
                    zero_init_residual=config.zero_init_residual,
                    dtype=dtype,
                    rngs=rngs,
                )
                blocks.append(block)
                inputs = block.outputs
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)
        self.stem_pool = config.stem_pool
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> logits `[B, C]` float32."""
        x = masking.zero_padding(x, length)[..., None].astype(self.dtype)
        x, length = self.stem(x, length)
        x = nnx.relu(self.stem_norm(x, length, train=train))
        if self.stem_pool:
            x, length = masking.overlapping_max_pool(x, length)
        run = nnx.remat(Block.__call__, static_argnums=(3,)) if self.remat else Block.__call__
        for block in self.blocks:
            x, length = run(block, x, length, train)
        pooled = masking.masked_mean(x.mean(2), length)
        pooled = masking.dropout(pooled, self.dropout, train=train, rngs=rngs)
        return self.head(pooled)
