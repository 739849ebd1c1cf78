"""A small masked convolutional network over log-mels."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsound.models import masking

Array = jax.Array


class Stage(nnx.Module):
    """Convolutions at one resolution, with batch norm and ReLU, optionally residual."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        convs: int,
        *,
        residual: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        widths = [inputs] + [outputs] * convs
        self.convs = nnx.List(
            masking.Conv2d(a, b, dtype=dtype, rngs=rngs) for a, b in itertools.pairwise(widths)
        )
        self.norms = nnx.List(masking.BatchNorm(outputs) for _ in range(convs))
        project = residual and inputs != outputs
        self.skip = (
            masking.Conv2d(inputs, outputs, kernel=1, dtype=dtype, rngs=rngs) if project else None
        )
        self.residual = residual

    def __call__(self, x: Array, length: Array, train: bool) -> Array:
        """`[B, T, M, D]`, `[B]` -> `[B, T, M, outputs]`."""
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y, _ = conv(y, length)
            y = norm(y, length, train=train)
            if self.residual and i == len(self.convs) - 1:
                y = y + (self.skip(x, length)[0] if self.skip is not None else x)
            y = nnx.relu(y)
        return y


class CNN(nnx.Module):
    """Stem, stages with 2x2 max pooling between them, masked global pooling, linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section of the configuration (see `jaxsound.keys.MODELS["cnn"]`).
          features: mel bins M.
          classes: C.
          rngs: source of initial values.
        """
        dtype = jnp.dtype(config.dtype)
        channels = tuple(config.channels)
        self.stem = masking.Conv2d(
            1, channels[0], config.stem_kernel, config.stem_stride, dtype=dtype, rngs=rngs
        )
        self.stem_norm = masking.BatchNorm(channels[0])
        inputs = (channels[0], *channels[:-1])
        self.stages = nnx.List(
            Stage(a, b, config.convs, residual=config.residual, dtype=dtype, rngs=rngs)
            for a, b in zip(inputs, channels, strict=True)
        )
        self.pool = config.pool
        self.dropout = config.dropout
        self.remat = config.remat
        self.dtype = dtype
        self.keep_frequency = config.keep_frequency
        stride = config.stem_stride * 2 ** (len(channels) - 1)
        bins = -(-features // stride) if config.keep_frequency else 1
        width = channels[-1] * bins * (2 if config.pool == "mean_max" else 1)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> logits `[B, C]` float32."""
        x = masking.zero_padding(x, length)[..., None].astype(self.dtype)
        x, length = self.stem(x, length)
        x = nnx.relu(self.stem_norm(x, length, train=train))
        run = nnx.remat(Stage.__call__, static_argnums=(3,)) if self.remat else Stage.__call__
        for i, stage in enumerate(self.stages):
            if i:
                x, length = masking.halve(x, length)
            x = run(stage, x, length, train)
        pooled = self._pool(x, length)
        pooled = masking.dropout(pooled, self.dropout, train=train, rngs=rngs)
        return self.head(pooled)

    def _pool(self, x: Array, length: Array) -> Array:
        """`[B, T, M, D]` -> `[B, M * D]` or `[B, D]`, twice that with the maximum."""
        flat = x.reshape(*x.shape[:2], -1)
        means, maxima = (flat, flat) if self.keep_frequency else (x.mean(2), x.max(2))
        pooled = masking.masked_mean(means, length)
        if self.pool == "mean":
            return pooled
        return jnp.concatenate([pooled, masking.masked_max(maxima, length)], -1)
