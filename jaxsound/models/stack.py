"""A convolutional network written as a list of layers in the configuration.

`model.layers` is a tuple of texts, one layer each:

    conv WIDTH KERNEL [stride=S] [pad=P]    with bias; pad is KERNEL // 2, and 0 takes whole windows
    batch_norm
    relu | tanh | gelu
    max_pool WINDOW                         its stride is the window; the rest at the end is dropped
    dropout RATE

then one head, which makes a vector of the map,

    mean | mean_max                         over valid frames and frequency
    flatten                                 of a fixed number of frames

then, where wanted, `linear WIDTH`, activations and dropout. The classifier is added at the end.

With `model.dims=2` the map is time by frequency, and KERNEL, WINDOW, S and P are one number for
both or a pair `TIMExFREQUENCY`, as in `max_pool 2x12`. With `model.dims=1` bins are channels, and
all is over time. Sizes follow PyTorch's arithmetic, floor((n + 2 pad - kernel) / stride) + 1.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsound.models import masking

Array = jax.Array

ACTIVATIONS = {"relu": nnx.relu, "tanh": jnp.tanh, "gelu": nnx.gelu}
HEADS = ("mean", "mean_max", "flatten")
MAP_ONLY = ("conv", "batch_norm", "max_pool")

_SIZE = r"\d+(?:x\d+)?"
_WRITTEN: dict[str, tuple[str, str]] = {  # how a layer is written: for us, and for the reader
    "conv": (
        rf"conv (?P<width>\d+) (?P<size>{_SIZE})( stride=(?P<stride>{_SIZE}))?"
        rf"( pad=(?P<pad>{_SIZE}))?",
        "conv WIDTH KERNEL [stride=S] [pad=P]",
    ),
    "max_pool": (rf"max_pool (?P<size>{_SIZE})", "max_pool WINDOW"),
    "linear": (r"linear (?P<width>\d+)", "linear WIDTH"),
    "dropout": (r"dropout (?P<rate>0?\.\d+|0)", "dropout RATE, with a rate from 0 to below 1"),
    **{word: (word, word) for word in ("batch_norm", *ACTIVATIONS, *HEADS)},
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer as it was written, with the width that comes in."""

    kind: str
    width: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    pad: tuple[int, ...] = ()
    rate: float = 0.0
    inputs: int = 0


def plan(
    layers: Sequence[str], dims: int, features: int, frames: int
) -> tuple[tuple[Layer, ...], int]:
    """Reads the layers and follows the map's size through them.

    Args:
      layers: the texts, as the module describes them.
      dims: 2 for maps of time and frequency, 1 for time with bins as channels.
      features: columns M of the input.
      frames: exact T of every input; 0 where it is not fixed.

    Returns:
      The layers, and the width of the vector that the classifier sees.

    Raises:
      ValueError: one line that names `model.layers`, the layer, and what would do.
    """
    if not layers:
        raise ValueError(f"model.layers is empty: end it with a head, one of {', '.join(HEADS)}")
    sizes: list[int | None] = [frames or None, features][:dims]  # None: not known
    width, head, found = (1 if dims == 2 else features), "", []
    for text in layers:
        layer = dataclasses.replace(_read(text, dims), inputs=width)
        if head and layer.kind in HEADS:
            _refuse(text, f"one head is enough, and {head} came before it")
        if head and layer.kind in MAP_ONLY:
            _refuse(text, f"must come before the head, {head}")
        if not head and layer.kind == "linear":
            _refuse(text, f"must come after a head, one of {', '.join(HEADS)}")
        if layer.kind in ("conv", "max_pool"):
            sizes = _shrink(text, layer, sizes)
        if layer.kind in HEADS:
            head = layer.kind
            width *= _vectors(text, layer, sizes)
        width = layer.width or width
        found.append(layer)
    if not head:
        _refuse(layers[-1], f"a head must follow, one of {', '.join(HEADS)}")
    return tuple(found), width


def _refuse(text: str, why: str) -> NoReturn:
    raise ValueError(f"model.layers: {text!r}: {why}")


def _read(text: str, dims: int) -> Layer:
    words = " ".join(text.split())
    kind = words.partition(" ")[0]
    if kind not in _WRITTEN:
        _refuse(text, f"unknown layer; known: {', '.join(_WRITTEN)}")
    pattern, written = _WRITTEN[kind]
    match = re.fullmatch(pattern, words)
    if match is None:
        _refuse(text, f"must be written {written}")
    found = match.groupdict(default="")
    size = _per_axis(text, found.get("size", ""), dims)
    stride = _per_axis(text, found.get("stride", ""), dims)
    pad = _per_axis(text, found.get("pad", ""), dims)
    if kind == "conv":
        stride, pad = stride or (1,) * dims, pad or tuple(k // 2 for k in size)
    else:
        stride, pad = size, (0,) * len(size)
    if 0 in (*size, *stride) or found.get("width") == "0":
        _refuse(text, "width, kernel, window and stride must be 1 or more")
    return Layer(
        kind, int(found.get("width", "0")), size, stride, pad, float(found.get("rate", "0"))
    )


def _per_axis(text: str, written: str, dims: int) -> tuple[int, ...]:
    """`3` or `2x12` as one number an axis; () where nothing is written."""
    numbers = tuple(int(n) for n in written.split("x") if n)
    if len(numbers) > dims:
        _refuse(text, "model.dims=1 has time alone: one number, not a pair")
    return numbers * dims if len(numbers) == 1 else numbers


def _shrink(text: str, layer: Layer, sizes: list[int | None]) -> list[int | None]:
    """The map's size after a convolution or a pool."""
    after = [
        None if n is None else (n + 2 * p - k) // s + 1
        for n, k, s, p in zip(sizes, layer.size, layer.stride, layer.pad, strict=True)
    ]
    if any(n is not None and n < 1 for n in after):
        before = " x ".join("?" if n is None else str(n) for n in sizes)
        _refuse(text, f"nothing is left of a map of {before}: fewer or smaller layers before it")
    return after


def _vectors(text: str, layer: Layer, sizes: list[int | None]) -> int:
    """How many times the map's depth a head's vector is wide."""
    if layer.kind != "flatten":
        return 2 if layer.kind == "mean_max" else 1
    if None in sizes:
        _refuse(text, "a flatten head needs a fixed number of frames: set data.frames")
    return math.prod(n for n in sizes if n is not None)


class Segment(nnx.Module):
    """Layers from one convolution up to the next, or from the head on."""

    def __init__(self, layers: tuple[Layer, ...], *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.plan = layers
        self.layers = nnx.List(_module(layer, dtype, rngs) for layer in layers)

    def __call__(
        self, x: Array, length: Array, train: bool, rngs: nnx.Rngs | None
    ) -> tuple[Array, Array]:
        """A map `[B, T, (M,) D]` or vectors `[B, D]`, and lengths `[B]`, to the same after."""
        for layer, module in zip(self.plan, self.layers, strict=True):
            match layer.kind:
                case "conv":
                    x, length = module(x, length)
                case "batch_norm":
                    x = module(x, length, train=train)
                case "max_pool":
                    x, length = masking.max_pool(x, length, layer.size)
                case "dropout":
                    x = masking.dropout(x, layer.rate, train=train, rngs=rngs)
                case "linear":
                    x = module(x)
                case "flatten":
                    x = x.reshape(x.shape[0], -1)
                case "mean" | "mean_max":
                    x = _pool(x, length, layer.kind)
                case activation:
                    x = ACTIVATIONS[activation](x)
        return x, length


def _module(layer: Layer, dtype: jnp.dtype, rngs: nnx.Rngs) -> Any:
    """The module of a layer that has parameters; None for the others."""
    if layer.kind == "conv":
        padding = tuple((p, p) for p in layer.pad)
        return masking.Conv(
            layer.inputs,
            layer.width,
            layer.size,
            layer.stride,
            padding,
            bias=True,
            dtype=dtype,
            rngs=rngs,
        )
    if layer.kind == "batch_norm":
        return masking.BatchNorm(layer.inputs)
    if layer.kind == "linear":
        return nnx.Linear(layer.inputs, layer.width, dtype=dtype, rngs=rngs)
    return None


def _pool(x: Array, length: Array, kind: str) -> Array:
    """`[B, T, (M,) D]` -> `[B, D]`, or `[B, 2 D]` with the maximum, float32."""
    means, maxima = (x.mean(2), x.max(2)) if x.ndim == 4 else (x, x)
    pooled = masking.masked_mean(means, length)
    if kind == "mean":
        return pooled
    return jnp.concatenate([pooled, masking.masked_max(maxima, length)], -1)


class Stack(nnx.Module):
    """The layers of `config.layers`, then a linear classifier."""

    def __init__(self, config: Any, *, features: int, classes: int, frames: int, rngs: nnx.Rngs):
        """Builds the network.

        Args:
          config: the `model` section (see `jaxsound.keys.MODELS["stack"]`).
          features: bins M.
          classes: C.
          frames: the longest T the network will see; with a flatten head, the only one.
          rngs: source of initial values.

        Raises:
          ValueError: the layers make no network; one line says why.
        """
        dtype = jnp.dtype(config.dtype)
        layers, width = plan(config.layers, config.dims, features, frames)
        starts = [i for i, layer in enumerate(layers) if i and layer.kind in ("conv", *HEADS)]
        self.segments = nnx.List(
            Segment(layers[a:b], dtype=dtype, rngs=rngs)
            for a, b in itertools.pairwise([0, *starts, len(layers)])
        )
        self.head = nnx.Linear(width, classes, rngs=rngs)
        self.frames = frames if any(layer.kind == "flatten" for layer in layers) else 0
        self.dims = config.dims
        self.remat = config.remat
        self.dtype = dtype

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> logits `[B, C]` float32.

        Raises:
          ValueError: a flatten head was given another T than it was built for.
        """
        if self.frames and x.shape[1] != self.frames:
            raise ValueError(f"{x.shape[1]} frames, but a flatten head for {self.frames}")
        x = masking.zero_padding(x, length).astype(self.dtype)
        x = x[..., None] if self.dims == 2 else x
        run = nnx.remat(Segment.__call__, static_argnums=(3,)) if self.remat else Segment.__call__
        for segment in self.segments:
            x, length = run(segment, x, length, train, rngs)
        return self.head(x.astype(jnp.float32))
