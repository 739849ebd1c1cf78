"""What a fold learns from looking at its validation split, and the weights it tests in the end.

Early stopping, the "plateau" schedule and `select = "best"` all follow one figure of the
validation split. What they need to remember is part of the training state, so a checkpoint holds
it, a killed run goes on bit for bit, and folds side by side each have their own.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxsound.training.state import TrainState

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Selection:
    """With folds side by side every leaf has a leading axis K."""

    seen: Array  # int32, the step of the last evaluation
    best: Array  # float32, the best figure; infinite before the first finite one
    best_step: Array  # int32
    since: Array  # int32, evaluations since the best one
    waited: Array  # int32, evaluations that "plateau" has waited for a better one
    scale: Array  # float32, multiplies the learning rate
    params: Any  # best parameters, the averaged ones where there are any; None unless selecting
    stats: Any  # BatchNorm's running statistics with them


def begin(config: Any, state: TrainState) -> TrainState:
    """The state before the first step, with a `Selection`."""
    keep = config.select == "best"
    worst = jnp.inf if config.monitor == "loss" else -jnp.inf
    zero = jnp.zeros((), jnp.int32)
    new = Selection(
        seen=zero,
        best=jnp.full((), worst, jnp.float32),
        best_step=zero,
        since=zero,
        waited=zero,
        scale=jnp.ones((), jnp.float32),
        params=jax.tree.map(jnp.copy, _tested(state)) if keep else None,
        stats=jax.tree.map(jnp.copy, state.stats) if keep else None,
    )
    return dataclasses.replace(state, selection=new)


def observe(config: Any, state: TrainState, value: Array) -> TrainState:
    """Takes the validation split's figure of this state into account. Pure.

    Only a strictly better figure counts, so of equal ones the earlier is kept; NaN is never
    better. A state that has been observed at this step stays as it is: a resumed run looks again
    where its checkpoint was saved. "plateau" multiplies the scale by `factor` at the first
    evaluation after `patience` of them without a better one, as PyTorch's ReduceLROnPlateau does
    with a threshold of 0.

    Args:
      config: the whole configuration.
      state: with a `selection`.
      value: scalar float32, the loss or the accuracy, as `monitor` has it.
    """
    old = state.selection
    better = value < old.best if config.monitor == "loss" else value > old.best
    # Until a figure is finite the newest weights are as good as any.
    take = better | jnp.isinf(old.best)
    waited = jnp.where(better, 0, old.waited + 1)
    drop = (waited > config.optimizer.patience) & (config.optimizer.schedule == "plateau")
    new = Selection(
        seen=state.step,
        best=jnp.where(better, value, old.best),
        best_step=jnp.where(take, state.step, old.best_step),
        since=jnp.where(better, 0, old.since + 1),
        waited=jnp.where(drop, 0, waited),
        scale=jnp.where(drop, old.scale * config.optimizer.factor, old.scale),
        params=_where(take, None if old.params is None else _tested(state), old.params),
        stats=_where(take, None if old.stats is None else state.stats, old.stats),
    )
    return dataclasses.replace(state, selection=_where(state.step > old.seen, new, old))


def stops(config: Any, state: TrainState) -> bool:
    """Whether early stopping ends this fold here. Waits for the device."""
    if not config.early_stopping:
        return False
    return int(state.selection.since) >= config.early_stopping


def step_tested(state: TrainState) -> Array:
    """The step, or with folds side by side the steps `[K]`, of the weights to be tested."""
    if state.selection is None or state.selection.params is None:
        return state.step
    return state.selection.best_step


def chosen(state: TrainState) -> TrainState:
    """The state with the weights to be tested: the best, where they are kept, or the last."""
    if state.selection is None or state.selection.params is None:
        return state
    params, stats = state.selection.params, state.selection.stats
    if state.ema is None:
        return dataclasses.replace(state, params=params, stats=stats)
    return dataclasses.replace(state, ema=params, stats=stats)


def _tested(state: TrainState) -> Any:
    return state.params if state.ema is None else state.ema


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
