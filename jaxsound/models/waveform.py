"""From samples to tokens: the convolutions of EAT (Gazneli et al., 2022), masked.

Each convolution is followed by a low-pass filter before samples are left out, and by residual
blocks of a long depthwise and a pointwise convolution. Unlike the original, the first convolution
leaves samples out itself, which spares most of the work and memory, and what lies outside a clip is
zero instead of its reflection.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import convolution, masking

Array = jax.Array
SLOPE = 0.2  # of the leaky ReLUs below zero
KERNEL = 15  # of the blocks' convolutions over time


def _conv(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> masking.Conv:
    """Over time, centred: with stride 1 as long as its input."""
    reach = (kernel - 1) * dilation
    return masking.Conv(
        inputs,
        outputs,
        (kernel,),
        (stride,),
        ((reach // 2, reach - reach // 2),),
        dilation=dilation,
        groups=groups,
        bias=bias,
        dtype=dtype,
        rngs=rngs,
    )


def triangle(factor: int) -> np.ndarray:
    """The filter `[2 factor + 1]` before all but one in `factor` samples are left out."""
    rising = np.arange(1, factor + 2)
    weights = np.concatenate([rising, rising[-2::-1]])
    return (weights / weights.sum()).astype(np.float32)


def thinned(x: Array, length: Array, factor: int) -> tuple[Array, Array]:
    """`[B, N, D]`, `[B]` -> one in `factor` samples of the filtered map, and the lengths."""
    width = x.shape[2]
    kernel = jnp.broadcast_to(
        jnp.asarray(triangle(factor), x.dtype)[:, None, None], (2 * factor + 1, 1, width)
    )
    x = convolution.conv_general_dilated(
        x,
        kernel,
        (factor,),
        ((factor, factor),),
        dimension_numbers=("NTC", "TIO", "NTC"),
        feature_group_count=width,
    )
    length = masking.strided_length(length, factor)
    return masking.zero_padding(x, length), length


class Residual(nnx.Module):
    """A convolution in time and one across channels, side by side, added to a projection."""

    def __init__(self, width: int, dilation: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.time = _conv(
            width, width, KERNEL, dilation=dilation, groups=width, dtype=dtype, rngs=rngs
        )
        self.time_norm = masking.BatchNorm(width)
        self.channels = _conv(width, width, 1, dtype=dtype, rngs=rngs)
        self.channels_norm = masking.BatchNorm(width)
        self.skip = _conv(width, width, 1, bias=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, length: Array, train: bool) -> Array:
        """`[B, N, D]`, `[B]` -> `[B, N, D]`."""
        time = self.time_norm(self.time(x, length)[0], length, train=train)
        channels = self.channels_norm(self.channels(x, length)[0], length, train=train)
        skip, _ = self.skip(x, length)
        return skip + nnx.leaky_relu(channels, SLOPE) + nnx.leaky_relu(time, SLOPE)


class WaveformStem(nnx.Module):
    """Convolutions that shorten the sound by one factor after another, then a projection."""

    def __init__(
        self,
        features: int,
        width: int,
        channels: tuple[int, ...],
        factors: tuple[int, ...],
        blocks: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        """Builds the stem.

        Args:
          features: samples to a row of the input.
          width: D of a token.
          channels: width after each factor.
          factors: by which the first convolution and those that follow shorten.
          blocks: residual blocks after each; the dilation of one is three times the last one's.
          dtype: to compute in.
          rngs: source of initial values.
        """
        self.first = _conv(1, channels[0], 2 * factors[0] + 1, factors[0], dtype=dtype, rngs=rngs)
        self.convs = nnx.List(
            _conv(a, b, factor + 1, dtype=dtype, rngs=rngs)
            for (a, b), factor in zip(itertools.pairwise(channels), factors[1:], strict=True)
        )
        self.norms = nnx.List(masking.BatchNorm(c) for c in channels)
        self.residuals = nnx.List(
            nnx.List(Residual(c, 3**i, dtype=dtype, rngs=rngs) for i in range(blocks))
            for c in channels
        )
        self.project = nnx.Linear(channels[-1], width, dtype=dtype, rngs=rngs)
        self.factors = factors
        self.rows = features
        self.bins = 1

    def times(self, frames: int) -> int:
        """Times that tokens stand for, of so many rows."""
        return -(-frames * self.rows // int(np.prod(self.factors)))

    def __call__(self, x: Array, length: Array, train: bool) -> tuple[Array, Array]:
        """Rows of samples `[B, T, M]`, `[B]` -> tokens `[B, N, D]` and how many are valid."""
        batch = x.shape[0]
        x, length = x.reshape(batch, -1, 1), length * self.rows
        for i, (norm, residuals) in enumerate(zip(self.norms, self.residuals, strict=True)):
            x, length = self.convs[i - 1](x, length) if i else self.first(x, length)
            x = nnx.leaky_relu(norm(x, length, train=train), SLOPE)
            if i:
                x, length = thinned(x, length, self.factors[i])
            for residual in residuals:
                x = residual(x, length, train)
        tokens = x.shape[1]
        x = self.project(x.reshape(batch * tokens, -1)).reshape(batch, tokens, -1)
        return masking.zero_padding(x, length), length
