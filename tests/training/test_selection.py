"""What a fold learns from its validation split: pure, per fold, and the same after a kill."""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxsound.config import default_config
from jaxsound.training import selection
from jaxsound.training.state import TrainState

VALUES = [0.9, 0.5, 0.7, 0.5, np.nan, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.3]


def config_of(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("cnn")
    config.update_from_flattened_dict({"select": "best"} | changes)
    return config


def state_of(config: Any, ema: bool = False) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    weights = {"kernel": jnp.zeros(2)}
    new = TrainState(
        step=zero,
        params=weights,
        stats={"mean": jnp.zeros(2)},
        opt_state=(),
        ema={"kernel": jnp.full(2, 0.5)} if ema else None,
        mean=zero,
        std=zero,
        class_weight=zero,
    )
    return selection.begin(config, new)


def moved(state: TrainState, step: int) -> TrainState:
    """The state after training up to a step: its weights and statistics are that number."""
    same = lambda tree: jax.tree.map(lambda x: jnp.full_like(x, step), tree)  # noqa: E731
    return dataclasses.replace(
        state,
        step=jnp.asarray(step, jnp.int32),
        params=same(state.params),
        stats=same(state.stats),
        ema=jax.tree.map(lambda x: jnp.full_like(x, step + 0.5), state.ema),
    )


def follow(config: Any, state: TrainState, values: list[float], first: int = 1) -> TrainState:
    for step, value in enumerate(values, first):
        state = selection.observe(config, moved(state, step), jnp.float32(value))
    return state


def test_the_best_weights_are_kept_and_of_equal_ones_the_earlier() -> None:
    config = config_of()
    for count, best in ((1, 1), (2, 2), (4, 2), (5, 2), (6, 6), (11, 6), (12, 12)):
        state = follow(config, state_of(config), VALUES[:count])
        assert int(state.selection.best_step) == int(selection.step_tested(state)) == best
        tested = selection.chosen(state)
        np.testing.assert_array_equal(tested.params["kernel"], best)
        np.testing.assert_array_equal(tested.stats["mean"], best)
        np.testing.assert_array_equal(state.params["kernel"], count)


def test_averaged_weights_are_the_ones_kept() -> None:
    config = config_of()
    state = selection.chosen(follow(config, state_of(config, ema=True), VALUES[:4]))
    np.testing.assert_array_equal(state.ema["kernel"], 2.5)


def test_accuracy_is_best_where_it_is_highest() -> None:
    config = config_of(monitor="accuracy")
    state = follow(config, state_of(config), [0.2, 0.7, 0.7, 0.1])
    assert int(state.selection.best_step) == 2
    np.testing.assert_allclose(state.selection.best, 0.7)


def test_without_a_finite_figure_the_newest_weights_are_kept() -> None:
    config = config_of(early_stopping=3)
    state = follow(config, state_of(config), [np.nan, np.nan, np.nan])
    assert int(state.selection.best_step) == 3
    assert selection.stops(config, state)
    assert int(follow(config, state, [0.9, np.nan], first=4).selection.best_step) == 4


def test_early_stopping_counts_evaluations_without_a_better_one() -> None:
    config = config_of(select="last", early_stopping=4)
    stops = [
        selection.stops(config, follow(config, state_of(config), VALUES[:count]))
        for count in range(len(VALUES) + 1)
    ]
    assert stops == [count in (10, 11) for count in range(len(VALUES) + 1)]


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_the_plateau_s_scale_is_pytorch_s(monitor: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", reason="PyTorch is what this is compared with")
    changes = {"optimizer.schedule": "plateau", "optimizer.factor": 0.3, "optimizer.patience": 2}
    config = config_of(select="last", monitor=monitor, **changes)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    mode = "min" if monitor == "loss" else "max"
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.3, patience=2, threshold=0.0
    )
    state, scales = state_of(config), []
    for step, value in enumerate(np.random.default_rng(0).uniform(size=40).round(1), 1):
        state = selection.observe(config, moved(state, step), jnp.float32(value))
        reference.step(value)
        scales.append(optimizer.param_groups[0]["lr"])
        np.testing.assert_allclose(state.selection.scale, scales[-1], rtol=1e-5)
    assert len(set(scales)) > 5


def test_looking_twice_at_a_step_changes_nothing() -> None:
    config = config_of(early_stopping=2, **{"optimizer.schedule": "plateau"})
    once = follow(config, state_of(config), VALUES[:4])
    twice = selection.observe(config, once, jnp.float32(0.01))
    jax.tree.map(np.testing.assert_array_equal, once, twice)


def test_folds_side_by_side_each_follow_their_own_split() -> None:
    config = config_of(**{"optimizer.schedule": "plateau", "optimizer.patience": 1})
    series = [VALUES, VALUES[::-1], [1.0] * len(VALUES)]
    alone = [follow(config, state_of(config), values) for values in series]
    together = jax.tree.map(lambda *x: jnp.stack(x), *[state_of(config)] * 3)
    observe = jax.jit(jax.vmap(lambda state, value: selection.observe(config, state, value)))
    for step, values in enumerate(zip(*series, strict=True), 1):
        at = dataclasses.replace(moved(together, step), step=jnp.full(3, step, jnp.int32))
        together = observe(at, jnp.asarray(values, jnp.float32))
    expected = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    jax.tree.map(np.testing.assert_array_equal, together, expected)


def test_nothing_is_kept_that_no_option_needs() -> None:
    assert state_of(config_of()).selection.params is not None
    kept = state_of(config_of(select="last", early_stopping=1)).selection
    assert kept.params is None
    assert kept.stats is None
