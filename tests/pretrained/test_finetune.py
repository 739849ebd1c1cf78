"""What is frozen stays bit for bit, and every other parameter moves at its own rate."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from jaxsound.config import default_config
from jaxsound.errors import UserError
from jaxsound.training import finetune, optim, state, step

FRAMES, BINS, CLASSES, BATCH = 24, 16, 3, 4
# Compiling is nearly all that these tests do: half as long without optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def config_of(model: str = "ast", **changes: Any) -> ml_collections.ConfigDict:
    config = default_config(model)
    small = {"ast": {"width": 8, "depth": 2, "heads": 2}, "cnn": {"channels": (4, 4)}}
    config.model.update(small[model])
    config.update_from_flattened_dict({"optimizer.warmup_fraction": 0.0} | changes)
    return config


def network_of(config: ml_collections.ConfigDict) -> tuple[Any, Any, Any]:
    """A network, and values of its parameters and statistics that cost nothing to draw."""
    network, initialise = state.plan_network(
        config.model, features=BINS, classes=CLASSES, frames=FRAMES
    )
    shapes = jax.eval_shape(initialise, jax.random.key(0))
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.3, x.dtype), shapes)
    return network, drawn[0], jax.tree.map(jnp.abs, drawn[1])


def updates(config: ml_collections.ConfigDict, steps: int = 1, total: int = 10) -> list[Any]:
    """What each step adds to parameters whose gradients are all one, and the last state."""
    _, params, _ = network_of(config)
    rate = optax.sgd(1.0) if config.optimizer.name == "sgd" else optax.adam(1.0)
    optimizer = finetune.adapted(rate, config.pretrained, total)
    now, found = optimizer.init(params), []
    ones = jax.tree.map(jnp.ones_like, params)
    for _ in range(steps):
        moved, now = optimizer.update(ones, now, params)
        found.append(by_name(jax.tree.map(lambda x: float(jnp.abs(x).max()), moved)))
    return [*found, now]


def by_name(params: Any) -> dict[str, Any]:
    return dict(zip(finetune.names(params), jax.tree.leaves(params), strict=True))


SGD = {"optimizer.name": "sgd"}
PART = {"pretrained.freeze": ("*",), "pretrained.unfreeze": ("head.*", "blocks.1.*")}


def test_frozen_parameters_do_not_move_and_have_no_moments() -> None:
    config = config_of(**PART)
    moved, last = updates(config)
    free = {name for name in moved if name.startswith(("head.", "blocks.1."))}
    assert {name for name, size in moved.items() if size} == free
    sizes = {name: leaf.size for name, leaf in by_name(network_of(config)[1]).items()}
    held = sum(leaf.size for leaf in jax.tree.leaves(last))
    assert held == 2 * sum(sizes[name] for name in free) + 1  # and Adam's count


def test_what_is_held_has_no_gradient() -> None:
    config = config_of(**PART)
    _, params, _ = network_of(config)

    def energy(params: Any) -> Any:
        held = finetune.hold(config.pretrained, params)
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(held))

    for name, slope in by_name(jax.grad(energy)(params)).items():
        assert bool((slope != 0).any()) == name.startswith(("head.", "blocks.1.")), name


def test_rates_fall_from_the_classifier_to_the_first_layer() -> None:
    scaled = {"pretrained.layer_decay": 0.5, "pretrained.head_rate": 10.0}
    moved, _ = updates(config_of(**SGD, **scaled))
    rates = {"head": 10.0, "head_norm": 1.0, "norm": 1.0, "blocks.1": 0.5, "blocks.0": 0.25}
    rates |= {name: 0.125 for name in ("project", "table", "class_token", "distillation_token")}
    for name, size in moved.items():
        (rate,) = (rate for start, rate in rates.items() if f"{name}.".startswith(f"{start}."))
        assert size == pytest.approx(rate), name


def test_the_classifier_goes_first() -> None:
    config = config_of(**SGD, **{"pretrained.head_first": 0.2, "model.lora_rank": 2})
    *moved, _ = updates(config, steps=5, total=10)
    for name in moved[0]:
        new = name.startswith("head.") or "lora" in name
        rises = [1, 1, 1, 1, 1] if new else [0, 0, 0, 0.5, 1]
        assert [part[name] for part in moved] == pytest.approx(rises), name


@pytest.mark.parametrize("fixed", [False, True])
def test_a_step_of_a_probe(fixed: bool) -> None:
    probe = {"pretrained.freeze": ("*",), "pretrained.unfreeze": ("head.*",)}
    config = config_of("cnn", **probe, **{"pretrained.fixed_statistics": fixed})
    network, params, stats = network_of(config)
    network = dataclasses.replace(network, fixed_statistics=fixed)
    optimizer = optim.make_optimizer(config.optimizer, 10, 1)
    optimizer = finetune.adapted(optimizer, config.pretrained, 10)
    zeros, ones = np.zeros(BINS), np.ones(BINS)
    first = state.create_state(
        params, stats, optimizer, mean=zeros, std=ones, class_weight=np.ones(CLASSES), ema=False
    )
    batch = {
        "features": jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, FRAMES, BINS))),
        "length": jnp.full(BATCH, FRAMES, jnp.int32),
        "label": jnp.arange(BATCH) % CLASSES,
        "mask": jnp.ones(BATCH, bool),
    }
    one_step = jit(step.make_train_step(network, optimizer, config, FRAMES))
    last, metrics = one_step(first, batch, jax.random.key(1))
    assert metrics["gradient_norm"] > 0
    before, after = by_name(first.params), by_name(last.params)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"head.kernel", "head.bias"}
    same = jax.tree.map(lambda a, b: bool((a == b).all()), first.stats, last.stats)
    assert all(jax.tree.leaves(same)) == fixed


def test_lora_begins_as_nothing_and_changes_queries_and_values() -> None:
    config = config_of(**{"model.lora_rank": 2, "model.lora_alpha": 4.0})
    network, params, stats = network_of(config)
    plain, values, _ = network_of(config_of())
    x = np.random.default_rng(0).normal(size=(2, FRAMES, BINS)).astype(np.float32)

    def logits(network: Any, params: Any) -> Any:
        run = jit(functools.partial(network.apply, train=False))
        return run(params, stats, jnp.asarray(x), jnp.asarray([FRAMES, 17]))[0]

    def changed(params: Any, change: Any) -> Any:
        """Other values of what comes second in a pair."""
        leaves = [change(p) if n.endswith(".up") else p for n, p in by_name(params).items()]
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    known = by_name(params)
    shared = [known[name] for name in finetune.names(values)]
    wanted = logits(plain, jax.tree.unflatten(jax.tree.structure(values), shared))
    np.testing.assert_allclose(logits(network, changed(params, jnp.zeros_like)), wanted, atol=1e-6)
    assert jnp.abs(logits(network, params) - wanted).max() > 1e-4
    assert {n for n in known if "lora" in n} == {
        f"blocks.{i}.lora_{kind}.{part}"
        for i in range(2)
        for kind in ("query", "value")
        for part in ("down", "up")
    }


def test_nothing_asked_is_the_same_optimiser() -> None:
    optimizer = optax.sgd(1.0)
    assert finetune.adapted(optimizer, default_config("cnn").pretrained, 10) is optimizer


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "words"),
    [
        (("block.*",), (), r"freeze: 'block\.\*' matches no parameter"),
        (("*",), ("heads.*",), r"unfreeze: 'heads\.\*'"),
        (("*",), (), "nothing to train"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(
    freeze: tuple[str, ...], unfreeze: tuple[str, ...], words: str
) -> None:
    config = config_of(**{"pretrained.freeze": freeze, "pretrained.unfreeze": unfreeze})
    with pytest.raises(UserError, match=words):
        finetune.check(config.pretrained, network_of(config)[1])
