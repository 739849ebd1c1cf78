"""What is frozen stays bit for bit, and every other parameter moves at its own rate."""

import dataclasses
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

FRAMES, BINS, CLASSES, BATCH = 40, 20, 3, 4


def config_of(model: str = "ast", **changes: Any) -> ml_collections.ConfigDict:
    config = default_config(model)
    if model == "ast":
        changes = {"model.width": 8, "model.depth": 2, "model.heads": 2} | changes
    config.update_from_flattened_dict({"optimizer.warmup_fraction": 0.0} | changes)
    return config


def batch() -> step.Batch:
    rng = np.random.default_rng(0)
    return {
        "features": jnp.asarray(rng.normal(size=(BATCH, FRAMES, BINS)), jnp.float32),
        "length": jnp.full(BATCH, FRAMES, jnp.int32),
        "label": jnp.arange(BATCH) % CLASSES,
        "mask": jnp.ones(BATCH, bool),
    }


def trained(config: ml_collections.ConfigDict, steps: int = 1, total: int = 10) -> Any:
    """The state before and after some steps of `total`."""
    network, params, stats = state.build_network(
        config.model, features=BINS, classes=CLASSES, frames=FRAMES, key=jax.random.key(0)
    )
    section = config.pretrained
    finetune.check(section, params)
    network = dataclasses.replace(network, fixed_statistics=section.fixed_statistics)
    optimizer = finetune.adapted(optim.make_optimizer(config.optimizer, total, 1), section, total)
    first = state.create_state(
        params,
        stats,
        optimizer,
        mean=np.zeros(BINS),
        std=np.ones(BINS),
        class_weight=np.ones(CLASSES),
        ema=False,
    )
    # Compiling is nearly all that these tests do: half as long without optimisation.
    options: dict[str, Any] = {"xla_backend_optimization_level": 0}
    one_step = step.make_train_step(network, optimizer, config, FRAMES)
    run = jax.jit(one_step, compiler_options=options)
    now, metrics = first, {}
    for _ in range(steps):
        now, metrics = run(now, batch(), jax.random.key(1))
    return first, now, metrics


def moved(before: Any, after: Any) -> dict[str, float]:
    """How far each parameter went, at most."""
    gone = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before.params, after.params)
    return dict(zip(finetune.names(before.params), jax.tree.leaves(gone), strict=True))


def test_frozen_parameters_keep_their_bits_and_have_no_moments() -> None:
    frozen = {"pretrained.freeze": ("*",), "pretrained.unfreeze": ("head.*", "blocks.1.*")}
    first, last, _ = trained(config_of(**frozen), steps=3)
    for name, gone in moved(first, last).items():
        assert (gone > 0) == name.startswith(("head.", "blocks.1.")), name
    held = sum(leaf.size for leaf in jax.tree.leaves(last.opt_state))
    free = sum(
        leaf.size
        for name, leaf in zip(
            finetune.names(last.params), jax.tree.leaves(last.params), strict=True
        )
        if name.startswith(("head.", "blocks.1."))
    )
    assert 2 * free <= held < 2 * free + 10


def test_a_probes_gradient_is_that_of_the_classifier_alone() -> None:
    probe = {"pretrained.freeze": ("*",), "pretrained.unfreeze": ("head.*",)}
    # What is frozen has no part in the norm, or clipping would hold the classifier back.
    _, _, alone = trained(config_of(**probe))
    _, _, whole = trained(config_of())
    assert 0 < alone["gradient_norm"] < whole["gradient_norm"]
    np.testing.assert_allclose(alone["loss"], whole["loss"], rtol=1e-6)


@pytest.mark.parametrize("fixed", [False, True])
def test_statistics_stay_where_they_are_fixed(fixed: bool) -> None:
    config = config_of("cnn", **{"pretrained.fixed_statistics": fixed, "model.channels": (4, 4)})
    first, last, _ = trained(config, steps=2)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), first.stats, last.stats)
    assert all(jax.tree.leaves(same)) == fixed


def test_rates_fall_from_the_classifier_to_the_first_layer() -> None:
    # One step of SGD without momentum moves a parameter by its gradient times its own rate.
    sgd = {"optimizer.name": "sgd", "optimizer.schedule": "constant", "optimizer.momentum": 0.0}
    sgd |= {"optimizer.weight_decay": 0.0, "optimizer.clip_norm": 0.0}
    plain = moved(*trained(config_of(**sgd))[:2])
    decayed = {"pretrained.layer_decay": 0.5, "pretrained.head_rate": 10.0}
    scaled = moved(*trained(config_of(**sgd, **decayed))[:2])
    shares = {"head": 10.0, "head_norm": 1.0, "norm": 1.0, "blocks.1": 0.5, "blocks.0": 0.25}
    shares |= {"project": 0.125, "table": 0.125, "class_token": 0.125}
    for start, share in shares.items():
        names = [name for name in plain if name == start or name.startswith(f"{start}.")]
        assert names
        for name in names:
            assert scaled[name] == pytest.approx(plain[name] * share, rel=1e-2, abs=1e-8), name


def test_the_classifier_goes_first() -> None:
    config = config_of(**{"pretrained.head_first": 0.2, "model.lora_rank": 2})
    config.optimizer.schedule = "constant"
    first, second, _ = trained(config, steps=2, total=10)
    for name, gone in moved(first, second).items():
        # LoRA's second matrix is zero at first, so the one before it has no gradient at once.
        assert (gone > 0) == (name.startswith("head.") or "lora" in name), name
    _, fourth, _ = trained(config, steps=4, total=10)
    assert moved(first, fourth)["blocks.0.up.kernel"] > 0


def test_lora_begins_as_nothing_and_then_changes_queries_and_values() -> None:
    config = config_of(**{"model.lora_rank": 2, "model.lora_alpha": 4.0})
    config.pretrained.freeze, config.pretrained.unfreeze = ("*",), ("*.lora_*", "head.*")
    first, last, _ = trained(config, steps=3)
    gone = moved(first, last)
    assert all((gone[n] > 0) == ("lora" in n or n.startswith("head.")) for n in gone)
    plain, values, stats = state.build_network(
        config_of().model, features=BINS, classes=CLASSES, frames=FRAMES, key=jax.random.key(0)
    )
    changed, *_ = state.build_network(
        config.model, features=BINS, classes=CLASSES, frames=FRAMES, key=jax.random.key(0)
    )
    x = (batch()["features"], batch()["length"])
    known = dict(zip(finetune.names(first.params), jax.tree.leaves(first.params), strict=True))
    leaves = [known[name] for name in finetune.names(values)]
    same = jax.tree.unflatten(jax.tree.structure(values), leaves)
    without = plain.apply(same, stats, *x, train=False)[0]
    at_once = changed.apply(first.params, stats, *x, train=False)[0]
    np.testing.assert_allclose(at_once, without, atol=1e-6)
    params = jax.tree.unflatten(
        jax.tree.structure(last.params),
        [
            after if "lora" in name else before
            for name, before, after in zip(
                known, jax.tree.leaves(first.params), jax.tree.leaves(last.params), strict=True
            )
        ],
    )
    assert jnp.abs(changed.apply(params, stats, *x, train=False)[0] - without).max() > 1e-5


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
        trained(config, steps=0)
