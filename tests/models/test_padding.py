"""Logits and statistics of every model are the same whatever the batch's padding is."""

import itertools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.keys import MODEL_COMMON, MODELS
from jaxsound.models import build_model

LENGTHS = jnp.array([0, 1, 37, 50, 51])
BINS = 20

STEMS = ("conv", "frames")
POSITIONS = ("none", "sinusoidal", "learned", "rotary")
POOLS = ("mean", "attention", "class_token")
VARIANTS: list[dict[str, Any]] = [
    *(
        {"name": "transformer", "stem": s, "positions": p, "pool": q}
        for (s, p), q in zip(
            itertools.product(STEMS, POSITIONS), itertools.cycle(POOLS), strict=False
        )
    ),
    {"name": "transformer", "remat": True, "stem": "conv", "positions": "rotary"},
    {"name": "cnn", "pool": "mean_max", "stem_stride": 2},
    {"name": "cnn", "pool": "mean", "stem_stride": 3, "stem_kernel": 4, "residual": False},
    {"name": "cnn", "remat": True},
]


def model_config(name: str, **changes: Any) -> SimpleNamespace:
    keys = {key: spec.default for key, spec in (MODELS[name] | MODEL_COMMON).items()}
    small = {"channels": (8, 12, 16), "width": 32, "depth": 2, "stem_channels": (4, 8, 8)}
    keys |= {key: value for key, value in small.items() if key in keys}
    return SimpleNamespace(**(keys | {"dropout": 0.0, "name": name} | changes))


def run(config: SimpleNamespace, x: np.ndarray, train: bool) -> tuple[jax.Array, Any]:
    model = build_model(config, features=BINS, classes=5, frames=100, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)

    @jax.jit
    def apply(state: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, state, copy=True)
        logits = model(x, LENGTHS, train=train, rngs=nnx.Rngs(1))
        return logits, nnx.state(model, nnx.BatchStat)

    return apply(state, jnp.asarray(x))


def clips(frames: int, filler: float) -> np.ndarray:
    """The same clips padded to `frames`, with `filler` where nothing should look."""
    x = np.random.default_rng(0).normal(size=(len(LENGTHS), 100, BINS)).astype(np.float32)
    x[np.arange(100)[None] >= np.asarray(LENGTHS)[:, None]] = filler
    return x[:, :frames]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_padding_changes_nothing(variant: dict[str, Any], train: bool) -> None:
    config = model_config(**variant)
    short, short_stats = run(config, clips(51, 0.0), train)
    for frames, filler in ((52, 0.0), (100, 1e3)):
        long, long_stats = run(config, clips(frames, filler), train)
        np.testing.assert_allclose(short, long, atol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), short_stats, long_stats
        )
    assert np.isfinite(short).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_a_clip_of_length_zero_alone_is_finite(name: str) -> None:
    model = build_model(model_config(name), features=BINS, classes=5, frames=40, rngs=nnx.Rngs(0))
    graph, params, stats = nnx.split(model, nnx.Param, ...)

    def loss(params: Any, train: bool) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, stats, copy=True)
        logits = model(jnp.zeros((1, 40, BINS)), jnp.zeros(1, jnp.int32), train=train)
        return (logits**2).sum(), (logits, nnx.state(model, nnx.BatchStat))

    for train in (True, False):
        (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(params, train)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((found, gradient)))


@pytest.mark.parametrize("name", list(MODELS))
def test_bfloat16_computes_and_keeps_float32_parameters(name: str) -> None:
    half, _ = run(model_config(name, dtype="bfloat16"), clips(51, 0.0), train=True)
    full, _ = run(model_config(name), clips(51, 0.0), train=True)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.15)
    model = build_model(
        model_config(name, dtype="bfloat16"), features=BINS, classes=5, frames=40, rngs=nnx.Rngs(0)
    )
    assert {x.dtype for x in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}


def test_remat_changes_no_gradient() -> None:
    def gradient(remat: bool) -> Any:
        model = build_model(
            model_config("transformer", remat=remat),
            features=BINS,
            classes=5,
            frames=100,
            rngs=nnx.Rngs(0),
        )
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params: Any) -> jax.Array:
            model = nnx.merge(graph, params, rest, copy=True)
            return (model(jnp.asarray(clips(51, 0.0)), LENGTHS, train=True) ** 2).sum()

        return jax.jit(jax.grad(loss))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        gradient(False),
        gradient(True),
    )
