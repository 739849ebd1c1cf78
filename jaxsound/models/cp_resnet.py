"""A residual network of limited receptive field (Koutini et al., 2019 and 2021), masked.

The layout is that of CP-ResNet: a 5x5 convolution of stride 2, stages of blocks of two
convolutions, 2x2 maxima early on, and no more 3x3 convolutions than `rho`; those that follow are
1x1, so that a unit sees a limited stretch of time and frequency. The blocks' convolutions see each
bin's place as one channel more (frequency-aware; Koutini et al., 2019). Not the papers' are
squeeze-and-excitation (Hu et al., 2018), whose gates see the whole clip, the maximum beside the
mean, and a map's last odd row and column, which stay.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsound.models import masking
from jaxsound.models.efficientnet import SqueezeExcite

Array = jax.Array


def kernels(blocks: int, rho: int) -> list[tuple[int, int]]:
    """Sizes of both convolutions of each block: the first one's are 3 and 1 whatever `rho` is."""
    rest = [3 if i < rho else 1 for i in range(2 * (blocks - 1))]
    return [(3, 1), *zip(rest[::2], rest[1::2], strict=True)]


def receptive_field(config: Any) -> int:
    """Frames, and bins, that a unit sees before everything is pooled, gates apart."""
    field, step = config.stem_kernel, config.stem_stride
    for i, sizes in enumerate(kernels(sum(config.blocks), config.rho), 1):
        field += (sum(sizes) - 2) * step
        if i in config.pools:
            field += step
            step *= 2
    return int(field)


def with_places(x: Array, length: Array) -> Array:
    """A map `[B, T, M, D]` with each bin's place, between -1 and 1, as channel D + 1.

    Like the map, it is zero past each clip's `length [B]`, where a convolution of the clip alone
    would meet zeros.
    """
    bins = x.shape[2]
    places = (2 * np.arange(bins) + 1) / bins - 1
    channel = jnp.broadcast_to(jnp.asarray(places, x.dtype)[:, None], (*x.shape[:3], 1))
    return jnp.concatenate([x, masking.zero_padding(channel, length)], -1)


class Block(nnx.Module):
    """Two convolutions with batch norm, squeeze-and-excitation, added to the input."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        sizes: tuple[int, int],
        *,
        config: Any,
        rngs: nnx.Rngs,
    ):
        dtype = jnp.dtype(config.dtype)
        extra = int(config.frequency_aware)
        widths = (inputs, outputs)
        self.convs = nnx.List(
            masking.Conv2d(width + extra, outputs, size, dtype=dtype, rngs=rngs)
            for width, size in zip(widths, sizes, strict=True)
        )
        self.norms = nnx.List(masking.BatchNorm(outputs) for _ in sizes)
        inner = max(1, round(config.squeeze * outputs))
        self.excite = (
            SqueezeExcite(outputs, inner, dtype=dtype, rngs=rngs) if config.squeeze else None
        )
        project = inputs != outputs
        self.skip = masking.Conv2d(inputs, outputs, 1, dtype=dtype, rngs=rngs) if project else None
        self.skip_norm = masking.BatchNorm(outputs) if project else None
        self.frequency_aware = config.frequency_aware

    def __call__(self, x: Array, length: Array, train: bool) -> Array:
        """`[B, T, M, D]`, `[B]` -> `[B, T, M, outputs]`."""
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = nnx.relu(y) if i else y
            y = with_places(y, length) if self.frequency_aware else y
            y = norm(conv(y, length)[0], length, train=train)
        y = y if self.excite is None else self.excite(y, length)
        if self.skip is not None and self.skip_norm is not None:
            x = self.skip_norm(self.skip(x, length)[0], length, train=train)
        return nnx.relu(x + y)


class CPResNet(nnx.Module):
    """Stem, stages of blocks with 2x2 maxima between them, masked pooling, linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.model_keys.MODELS["cp_resnet"]`).
          features: bins M, of any number: the classifier sees their mean and maximum.
          classes: C.
          rngs: source of initial values.
        """
        dtype = jnp.dtype(config.dtype)
        widths = [
            width
            for width, count in zip(config.channels, config.blocks, strict=True)
            for _ in range(count)
        ]
        self.stem = masking.Conv2d(
            1, widths[0], config.stem_kernel, config.stem_stride, dtype=dtype, rngs=rngs
        )
        self.stem_norm = masking.BatchNorm(widths[0])
        inputs = [widths[0], *widths[:-1]]
        self.blocks = nnx.List(
            Block(a, b, sizes, config=config, rngs=rngs)
            for a, b, sizes in zip(inputs, widths, kernels(len(widths), config.rho), strict=True)
        )
        self.pools = tuple(config.pools)
        self.pool = config.pool
        self.head = nnx.Linear(
            widths[-1] * (2 if config.pool == "mean_max" else 1), classes, rngs=rngs
        )
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
        run = nnx.remat(Block.__call__, static_argnums=(3,)) if self.remat else Block.__call__
        for i, block in enumerate(self.blocks, 1):
            x = run(block, x, length, train)
            if i in self.pools:
                x, length = masking.halve(x, length)
        pooled = masking.masked_mean(x.mean(2), length)
        if self.pool == "mean_max":
            pooled = jnp.concatenate([pooled, masking.masked_max(x.max(2), length)], -1)
        pooled = masking.dropout(pooled, self.dropout, train=train, rngs=rngs)
        return self.head(pooled)
