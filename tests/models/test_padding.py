"""Logits and statistics of every model are the same whatever the batch's padding is."""

import functools
import itertools
import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.keys import MODEL_COMMON, MODELS
from jaxsound.models import build_model, efficientnet, resnet

LENGTHS = jnp.array([0, 1, 37, 50, 51])
BINS = 20

STEMS = ("conv", "frames")
POSITIONS = ("none", "sinusoidal", "learned", "rotary")
POOLS = ("mean", "attention", "class_token")
# Windows that clips do not fill, maps that are negative where they are pooled, and clips that are
# too short for the first output.
STACK_2D = (
    *("conv 4 9x5 stride=2 pad=1", "batch_norm", "tanh", "max_pool 2x3"),
    *("conv 6 3x1 pad=0", "gelu", "mean_max", "linear 8", "tanh"),
)
STACK_1D = ("conv 6 4 stride=3 pad=2", "tanh", "max_pool 3", "conv 8 2", "batch_norm", "mean_max")
VARIANTS: list[dict[str, Any]] = [
    *(
        {"name": "transformer", "stem": s, "positions": p, "pool": q}
        for (s, p), q in zip(
            itertools.product(STEMS, POSITIONS), itertools.cycle(POOLS), strict=False
        )
    ),
    {"name": "transformer", "remat": True, "stem": "conv", "positions": "rotary"},
    {"name": "transformer", "stem": "frames", "norm": "post", "activation": "relu"},
    {"name": "transformer", "stem_activation": "relu", "hidden": (16,)},
    {
        **{"name": "transformer", "grid": True, "position_kernel": 3, "layer_scale": 0.1},
        **{"drop_tokens": 0.3, "drop_times": 0.2, "drop_bins": 0.4, "pool": "class_token"},
    },
    {
        **{"name": "transformer", "grid": True, "positions": "learned", "pool": "attention"},
        **{"drop_times": 0.5, "remat": True},
    },
    {
        **{"name": "transformer", "stem": "frames", "stem_frames": 1, "positions": "none"},
        **{"position_kernel": 4, "drop_tokens": 0.5},
    },
    {"name": "transformer", "stem": "waveform", "stem_blocks": 2, "drop_tokens": 0.2},
    {"name": "cnn", "pool": "mean_max", "stem_stride": 2},
    {"name": "cnn", "pool": "mean", "stem_stride": 3, "stem_kernel": 4, "residual": False},
    {"name": "cnn", "remat": True},
    {"name": "stack", "layers": STACK_2D, "remat": True},
    {"name": "stack", "layers": STACK_1D, "dims": 1},
    {"name": "resnet", "depth": 18},
    {"name": "resnet", "depth": 50, "stem_stride": 3, "stem_pool": False, "remat": True},
    {"name": "cp_resnet", "remat": True},
    {"name": "cp_resnet", "frequency_aware": False, "squeeze": 0.0, "pool": "mean"},
    {"name": "efficientnet", "remat": True},
    {"name": "efficientnet", "padding": "end"},
    {"name": "ast", "remat": True, "lora_rank": 2},
    {"name": "wav2vec2", "lora_rank": 2},
    {"name": "htsat", "remat": True, "lora_rank": 2},
    {"name": "htsat", "fusion": True, "chunk_frames": 40},
]

# Compiling is nearly all that these tests do: half as long without optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published networks with a few blocks: whole ones take minutes to compile."""
    monkeypatch.setattr(resnet, "STAGES", {18: (2, 1), 50: (2, 1)})
    monkeypatch.setattr(efficientnet, "STAGES", ((1, 3, 1, 8, 1), (3, 5, 2, 8, 2)))


SMALL = {
    "cnn": {"channels": (8, 12, 16)},
    "cp_resnet": {"channels": (8, 12), "blocks": (2, 1), "rho": 3, "pools": (1, 2)},
    "transformer": {"width": 32, "depth": 2, "stem_channels": (4, 8, 8)},
    "htsat": {
        "width": 8,
        "depths": (2, 1),
        "heads": (2, 2),
        "window": 2,
        "picture": 60,
        "patch": 5,
    },
    "wav2vec2": {"width": 32, "depth": 1, "heads": 4, "channels": 8, "positions": 4},
    "ast": {"width": 32, "depth": 2, "heads": 4},
}


def model_config(name: str, **changes: Any) -> SimpleNamespace:
    keys = {key: spec.default for key, spec in (MODELS[name] | MODEL_COMMON).items()}
    return SimpleNamespace(
        **(keys | SMALL.get(name, {}) | {"dropout": 0.0, "name": name} | changes)
    )


def build(config: SimpleNamespace) -> tuple[Any, Any, Any]:
    """Graph, parameters and statistics, drawn by NumPy: initial values take long to compile."""
    model = nnx.eval_shape(
        lambda: build_model(config, features=BINS, classes=5, frames=100, rngs=nnx.Rngs(0))
    )
    rng = np.random.default_rng(0)

    def draw(path: Any, x: Any) -> jax.Array:
        if x.ndim > 1:
            value = rng.normal(size=x.shape) * math.prod(x.shape[:-1]) ** -0.5
        elif any(name in jax.tree_util.keystr(path) for name in ("var", "scale")):
            value = rng.uniform(0.5, 1.5, x.shape)
        else:
            value = rng.normal(size=x.shape) * 0.3
        return jnp.asarray(value, x.dtype)

    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graph, *jax.tree_util.tree_map_with_path(draw, (params, stats))


def run(config: SimpleNamespace, train: bool, *inputs: np.ndarray) -> list[tuple[jax.Array, Any]]:
    """Logits and new statistics of each input."""
    graph, *state = build(config)

    @jit
    def apply(state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, *state, copy=True)
        logits = model(x, LENGTHS, train=train, rngs=nnx.Rngs(1))
        return logits, nnx.state(model, nnx.BatchStat)

    return [apply(state, jnp.asarray(x)) for x in inputs]


def clips(frames: int, filler: float) -> np.ndarray:
    """The same clips padded to `frames`, with `filler` where nothing should look."""
    x = np.random.default_rng(0).normal(size=(len(LENGTHS), 100, BINS)).astype(np.float32)
    x[np.arange(100)[None] >= np.asarray(LENGTHS)[:, None]] = filler
    return x[:, :frames]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_padding_changes_nothing(variant: dict[str, Any], train: bool) -> None:
    # Odd and even lengths: strides and pools must not fall elsewhere.
    short, long = run(model_config(**variant), train, clips(51, 0.0), clips(100, 1e3))
    assert np.isfinite(short[0]).all()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), short, long)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_clip_of_length_zero_alone_is_finite(name: str) -> None:
    graph, params, stats = build(model_config(name))

    @functools.partial(jit, static_argnames="train")
    def gradient(params: Any, train: bool) -> tuple[Any, Any]:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            model = nnx.merge(graph, params, stats, copy=True)
            x, length = jnp.zeros((1, 40, BINS)), jnp.zeros(1, jnp.int32)
            logits = model(x, length, train=train, rngs=nnx.Rngs(1))
            return (logits**2).sum(), (logits, nnx.state(model, nnx.BatchStat))

        return jax.value_and_grad(loss, has_aux=True)(params)

    for train in (True, False):
        found = gradient(params, train)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("name", list(MODELS))
def test_bfloat16_computes_and_keeps_float32_parameters(name: str) -> None:
    config = model_config(name, dtype="bfloat16")
    ((half, _),) = run(config, True, clips(51, 0.0))
    ((full, _),) = run(model_config(name), True, clips(51, 0.0))
    assert half.dtype == jnp.float32
    assert (half != full).any()
    np.testing.assert_allclose(half, full, atol=0.15)
    assert {x.dtype for x in jax.tree.leaves(build(config)[1:])} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["transformer", "stack"])
def test_remat_changes_no_gradient(name: str) -> None:
    def gradient(remat: bool) -> Any:
        graph, params, stats = build(model_config(name, remat=remat))

        def loss(params: Any) -> jax.Array:
            model = nnx.merge(graph, params, stats, copy=True)
            logits = model(jnp.asarray(clips(51, 0.0)), LENGTHS, train=True, rngs=nnx.Rngs(1))
            return (logits**2).sum()

        return jit(jax.grad(loss))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        gradient(False),
        gradient(True),
    )
