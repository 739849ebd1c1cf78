"""The training state: a plain pytree, and the network it belongs to.

Modules are Flax NNX; they are split once into a static graph and plain state, so every
transformation afterwards is jax's own.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike

from jaxsound.models import build_model, masking
from jaxsound.models.reconstructor import Reconstructor

Array = jax.Array
Batch = dict[str, Array]  # what is in it: step.py
Metrics = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """All that a step changes, and what it needs of the training split.

    With folds side by side every leaf has a leading axis K.
    """

    step: Array  # int32
    params: Any  # float32
    stats: Any  # running statistics of BatchNorm
    opt_state: Any
    ema: Any  # averaged parameters; None without averaging
    mean: Array  # [M] normalisation, from the training split
    std: Array  # [M]
    class_weight: Array  # [C]; logit adjustment takes the classes' shares of the balanced ones
    selection: Any = None  # what validation showed, where an option asks for it (`selection.py`)


@dataclasses.dataclass(frozen=True)
class Network:
    """The static half of a model. `apply` is pure.

    Attributes:
      graph: NNX's.
      classes: C.
      features: M of its input; wider batches are cropped to it.
      fixed_statistics: whether BatchNorm takes its running statistics in training too, and keeps
        them.
    """

    graph: Any
    classes: int
    features: int
    fixed_statistics: bool = False

    def apply(
        self,
        params: Any,
        stats: Any,
        features: Array,
        length: Array,
        *,
        train: bool,
        key: Array | None = None,
    ) -> tuple[Array, Any]:
        """Normalised `[B, T, M]`, `[B]` -> logits `[B, C]` float32 and the new statistics.

        A network that reconstructs gives a prediction of its input in place of logits.
        """
        model = nnx.merge(self.graph, params, stats, copy=True)
        if self.fixed_statistics:
            model.set_attributes(masking.BatchNorm, fixed=True)
        rngs = None if key is None else nnx.Rngs(dropout=key)
        logits = model(features, length, train=train, rngs=rngs)
        return logits, nnx.state(model, nnx.BatchStat)

    def embed(
        self,
        params: Any,
        stats: Any,
        features: Array,
        length: Array,
        classifier: Sequence[str] = ("head",),
    ) -> tuple[Array, Array]:
        """As `apply` in evaluation: logits `[B, C]`, and what the classifier saw, `[B, D]`.

        The classifier is the network's last layers, `("head",)` or such as `("hidden", "head")`.
        """
        model = nnx.merge(self.graph, params, stats, copy=True)
        layers = [getattr(model, name) for name in classifier]
        for name in classifier:
            setattr(model, name, _as_it_is)
        logits = seen = model(features, length, train=False).astype(jnp.float32)
        for layer in layers:
            logits = layer(logits)
        return logits, seen


def _as_it_is(x: Array) -> Array:
    return x


def stream_key(seed: int | Array, name: str, *parts: int | Array) -> Array:
    """The key of one random stream: a function of the seed, the stream's name and indices."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)
    for part in parts:
        key = jax.random.fold_in(key, part)
    return key


def stream_seed(seed: int, fold: int) -> int:
    """The seed of a fold's order and crops, which Grain draws on the host."""
    return zlib.crc32(f"order {seed} {fold}".encode())


Initialise = Callable[[Array], tuple[Any, Any]]


def plan_network(
    model_config: Any,
    *,
    features: int,
    classes: int,
    frames: int,
    task: str = "classification",
) -> tuple[Network, Initialise]:
    """A model's static half, and the function that draws its initial values.

    Args:
      model_config: the `model` section.
      features: M.
      classes: C.
      frames: the longest T the network will see.
      task: as `config.task` has it.

    Returns:
      The network, and a function of a key that returns parameters and statistics. It compiles
      once, on a CPU without optimisation: the drawing takes milliseconds, and optimising it would
      take longer than the first steps.
    """

    def build(key: Array) -> nnx.Module:
        make = Reconstructor if task == "reconstruction" else build_model
        return make(
            model_config,
            features=features,
            classes=classes,
            frames=frames,
            rngs=nnx.Rngs(params=key),
        )

    def initialise(key: Array) -> tuple[Any, Any]:
        _, *parts = nnx.split(build(key), nnx.Param, nnx.BatchStat)
        params, stats = parts
        return params, stats

    abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
    graph, *_ = nnx.split(abstract, nnx.Param, nnx.BatchStat)
    hurried = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    options: Any = hurried if jax.default_backend() == "cpu" else None
    compiled = jax.jit(initialise, compiler_options=options)

    def draw(key: Array) -> tuple[Any, Any]:
        # Inside a transformation there is nothing to compile apart.
        return (initialise if isinstance(key, jax.core.Tracer) else compiled)(key)

    return Network(graph, classes, features), draw


def build_network(
    model_config: Any, *, features: int, classes: int, frames: int, key: Array
) -> tuple[Network, Any, Any]:
    """Builds a model and splits it.

    Returns:
      The network, its initial parameters and its statistics.
    """
    network, initialise = plan_network(
        model_config, features=features, classes=classes, frames=frames
    )
    params, stats = initialise(key)
    return network, params, stats


def create_state(
    params: Any,
    stats: Any,
    optimizer: optax.GradientTransformation,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    class_weight: ArrayLike,
    ema: bool,
) -> TrainState:
    """The state before the first step.

    Args:
      params: initial parameters.
      stats: initial BatchNorm statistics.
      optimizer: whose state is initialised.
      mean: `[M]` of the training split's valid frames.
      std: `[M]` likewise.
      class_weight: `[C]`.
      ema: whether to keep averaged parameters.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        # One program: shape by shape, compiling its zeros takes most of a second.
        opt_state=jax.jit(optimizer.init)(params),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
        mean=jnp.asarray(mean, jnp.float32),
        std=jnp.asarray(std, jnp.float32),
        class_weight=jnp.asarray(class_weight, jnp.float32),
    )
