"""Masked EfficientNet B0 to B2 (Tan and Le, 2019) with one input channel.

Widths, depths and epsilon are those of torchvision's `efficientnet`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import masking

Array = jax.Array

# B0's stages: expansion, kernel, stride, output width, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM_WIDTH = 32
LAST_EXPANSION = 4
VARIANTS = {"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2)}  # width, depth over B0's


def scale_width(width: int, factor: float) -> int:
    """`width * factor` to the nearest multiple of 8, and never more than a tenth below."""
    nearest = max(8, int(width * factor + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width * factor else nearest + 8


class ConvNorm(nnx.Module):
    """Convolution and batch norm, then SiLU where wanted."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        activate: bool = True,
        config: Any,
        rngs: nnx.Rngs,
    ):
        # What "same" padding comes to for a stride of 2 over an even size.
        ends = stride == 2 and config.padding == "end"
        self.conv = masking.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding=(kernel // 2 - 1, kernel // 2) if ends else None,
            groups=groups,
            dtype=jnp.dtype(config.dtype),
            rngs=rngs,
        )
        self.norm = masking.BatchNorm(outputs, epsilon=config.norm_epsilon)
        self.activate = activate

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """`[B, T, M, D]`, `[B]` -> the strided map and its lengths."""
        x, length = self.conv(x, length)
        x = self.norm(x, length, train=train)
        return (nnx.silu(x) if self.activate else x), length


class SqueezeExcite(nnx.Module):
    """Channels weighed by what their means over valid positions say (Hu et al., 2018)."""

    def __init__(self, width: int, squeezed: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.squeeze = nnx.Linear(width, squeezed, dtype=dtype, rngs=rngs)
        self.excite = nnx.Linear(squeezed, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, length: Array) -> Array:
        """`[B, T, M, D]`, `[B]` -> `[B, T, M, D]`."""
        pooled = masking.masked_mean(x.mean(2), length)
        gate = nnx.sigmoid(self.excite(nnx.silu(self.squeeze(pooled))))
        return x * gate[:, None, None].astype(x.dtype)


class MBConv(nnx.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation and projection, residual."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        expansion: int,
        kernel: int,
        stride: int,
        drop_path: float,
        *,
        config: Any,
        rngs: nnx.Rngs,
    ):
        width, dtype = inputs * expansion, jnp.dtype(config.dtype)
        part = functools.partial(ConvNorm, config=config, rngs=rngs)
        self.expand = part(inputs, width, 1) if expansion > 1 else None
        self.depthwise = part(width, width, kernel, stride, groups=width)
        self.excite = SqueezeExcite(width, max(1, inputs // 4), dtype=dtype, rngs=rngs)
        self.project = part(width, outputs, 1, activate=False)
        self.residual = stride == 1 and inputs == outputs
        self.drop_path = drop_path

    def __call__(
        self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None
    ) -> tuple[Array, Array]:
        """`[B, T, M, D]`, `[B]` -> the strided map, `outputs` wide, and its lengths."""
        y, valid = x, length
        if self.expand is not None:
            y, valid = self.expand(y, valid, train)
        y, valid = self.depthwise(y, valid, train)
        y = self.excite(y, valid)
        y, valid = self.project(y, valid, train)
        if self.residual:
            y = x + masking.drop_path(y, self.drop_path, train=train, rngs=rngs)
        return y, valid


class EfficientNet(nnx.Module):
    """Stem, stages of MBConv blocks, 1x1 convolution, masked mean, linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["efficientnet"]`).
          features: bins M, of any number: the classifier sees their mean.
          classes: C.
          rngs: source of initial values.
        """
        dtype = jnp.dtype(config.dtype)
        wider, deeper = VARIANTS[config.variant]
        inputs = scale_width(STEM_WIDTH, wider)
        self.stem = ConvNorm(1, inputs, 3, config.stem_stride, config=config, rngs=rngs)
        shapes = []
        for expansion, kernel, stride, width, count in STAGES:
            outputs = scale_width(width, wider)
            for i in range(math.ceil(count * deeper)):
                shapes.append((inputs, outputs, expansion, kernel, 1 if i else stride))
                inputs = outputs
        rates = np.linspace(0, config.drop_path, len(shapes))
        self.blocks = nnx.List(
            MBConv(*shape, float(rate), config=config, rngs=rngs)
            for shape, rate in zip(shapes, rates, strict=True)
        )
        self.last = ConvNorm(inputs, inputs * LAST_EXPANSION, 1, config=config, rngs=rngs)
        self.head = nnx.Linear(inputs * LAST_EXPANSION, classes, rngs=rngs)
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> logits `[B, C]` float32."""
        x = masking.zero_padding(x, length)[..., None].astype(self.dtype)
        x, length = self.stem(x, length, train)
        run = nnx.remat(MBConv.__call__, static_argnums=(3,)) if self.remat else MBConv.__call__
        for block in self.blocks:
            x, length = run(block, x, length, train, rngs)
        x, length = self.last(x, length, train)
        pooled = masking.masked_mean(x.mean(2), length)
        pooled = masking.dropout(pooled, self.dropout, train=train, rngs=rngs)
        return self.head(pooled)
