"""NaN and infinity are named by fold, step, clip and value, and never reach a checkpoint."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound import train
from jaxsound.config import default_config, validate
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.experiment import (
    Experiment,
    initial_state,
    make_experiment,
    train_iterator,
)
from jaxsound.features.store import Store
from jaxsound.job import workdir
from jaxsound.training import finite as finite_numbers
from jaxsound.training.checkpoint import Checkpoints
from tests import tiny

SMALL = {
    "epochs": 3,
    "batch_size": 8,
    "eval_every": 0,
    "checkpoint_every": 1,
    "log_every": 1,
    "data.validation": 0.0,
    "data.normalize": "none",
    "frontend.n_mels": 8,
    "model.dims": 1,
    "model.layers": ("batch_norm", "mean", "linear 8", "relu"),
}


@pytest.fixture(scope="module", autouse=True)
def _lines_alone() -> Iterator[None]:
    with tiny.lines_alone():
        yield


def experiment_of(store: Store, stacked: bool = False, **changes: Any) -> Experiment:
    config = default_config("stack")
    config.update_from_flattened_dict(SMALL | changes)
    validate(config)
    splits = {fold: folds.split(store, fold, validation=0.0) for fold in (1, 2)}
    return make_experiment(config, store, splits, stacked)


def with_wrong_number(store: Store, clip: int, value: float) -> Store:
    frames = np.array(store.frames)
    frames[store.offsets[clip] + 2, 3] = value
    return dataclasses.replace(store, frames=frames)


def saved(experiment: Experiment, directory: Path, group: list[int]) -> tuple[Any, int]:
    placement = experiment.placement
    blank = placement.stack([initial_state(experiment, fold) for fold in group])
    iterators = {fold: train_iterator(experiment, fold) for fold in group}
    with Checkpoints(workdir.checkpoints(directory, group)) as checkpoints:
        state, step, _ = checkpoints.restore(blank, iterators)
    for iterator in iterators.values():
        iterator.close()
    return state, step


def finite(tree: Any) -> bool:
    return all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(tree))


def first_step(experiment: Experiment, fold: int, clip: int) -> int:
    """The first step, counted from 1, whose batch has the clip, by its label of its own."""
    with_label = dataclasses.replace(experiment.store, labels=np.arange(len(experiment.store)))
    marked = make_experiment(experiment.config, with_label, experiment.splits, stacked=False)
    batches = train_iterator(marked, fold)
    step = next(step for step in range(1, 100) if clip in next(batches)["label"])
    batches.close()
    return step


@pytest.mark.parametrize(
    ("value", "stacked", "feed", "count"),
    [(np.nan, False, "stream", 1), (-np.inf, False, "resident", 2), (np.inf, True, "stream", 2)],
)
def test_a_wrong_number_stops_the_run_with_step_fold_clip_and_value(
    value: float, stacked: bool, feed: str, count: int, tiny_store: Store, tmp_path: Path
) -> None:
    clip = 45  # in fold 3, so that folds 1 and 2 both train with it
    store = with_wrong_number(tiny_store, clip, value)
    options = {"data.feed": feed, "steps_per_call": count, "epochs": 4}
    experiment = experiment_of(store, stacked, **options)
    group = [1, 2] if stacked else [1]
    first = min((first_step(experiment, fold, clip), fold) for fold in group)
    with pytest.raises(UserError) as caught:
        train.train_folds(experiment, group, tmp_path)
    line = str(caught.value)
    assert f"step {first[0]}:" in line
    assert f"fold {first[1]}" in line or stacked
    assert f"clip45 holds {value} in its features" in line
    assert "\n" not in line
    state, step = saved(experiment, tmp_path, group)
    assert step < first[0]
    assert finite((state.params, state.stats, state.opt_state))


@pytest.mark.parametrize("stacked", [False, True])
def test_skipped_steps_change_nothing_and_are_named(
    stacked: bool, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = with_wrong_number(tiny_store, 45, np.nan)
    experiment = experiment_of(store, stacked, nonfinite="skip")
    group = [1, 2] if stacked else [1]
    train.train_folds(experiment, group, tmp_path)
    said = capsys.readouterr().err
    for fold in group:
        step = first_step(experiment, fold, 45)
        assert f"fold {fold}, step {step}: loss is nan" in said
        assert "clip45 holds nan in its features; this step was skipped" in said
    state, last = saved(experiment, tmp_path, group)
    assert last == experiment.steps
    assert finite((state.params, state.stats, state.opt_state))
    assert (np.asarray(state.step) == experiment.steps).all()


def test_a_skipped_step_leaves_the_others_as_they_are(tiny_store: Store) -> None:
    experiment = experiment_of(tiny_store, nonfinite="skip", **{"data.feed": "stream"})
    iterator = train_iterator(experiment, 1)
    good = next(iterator)
    iterator.close()
    bad = good | {"features": good["features"] * np.float16(np.nan)}
    key = experiment.placement.put_replicated(jax.random.key(0))
    before = experiment.placement.put_replicated(initial_state(experiment, 1))
    kept = jax.tree.map(np.array, (before.params, before.stats, before.opt_state))
    after, metrics = experiment.train_step(before, experiment.feed.place([bad]), key)
    assert not metrics["finite"]
    assert int(after.step) == 1
    jax.tree.map(np.testing.assert_array_equal, (after.params, after.stats, after.opt_state), kept)
    _, metrics = experiment.train_step(after, experiment.feed.place([good]), key)
    assert metrics["finite"]


def test_weights_that_overflow_are_never_saved(tiny_store: Store, tmp_path: Path) -> None:
    rate = {"optimizer.peak_lr": 1e38, "optimizer.warmup_fraction": 0.0, "optimizer.name": "sgd"}
    experiment = experiment_of(
        tiny_store, **rate, **{"optimizer.clip_norm": 0.0, "optimizer.schedule": "constant"}
    )
    with pytest.raises(UserError, match="fold 1, step"):
        train.train_folds(experiment, [1], tmp_path)
    assert saved(experiment, tmp_path, [1])[1] == 0


def test_wrong_numbers_are_found_while_normalising(
    tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store = with_wrong_number(tiny_store, 45, np.inf)
    experiment = experiment_of(store, **{"data.normalize": "per_bin"})
    with pytest.raises(UserError, match="clip45 holds inf in its features"):
        initial_state(experiment, 1)
    experiment = experiment_of(store, nonfinite="skip", **{"data.normalize": "per_bin"})
    assert finite(initial_state(experiment, 1).mean)
    assert "clip45 holds inf in its features; left out" in capsys.readouterr().err


def test_a_test_clip_with_a_wrong_number_is_named(
    tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = with_wrong_number(tiny_store, 3, np.nan)  # in fold 1
    with pytest.raises(UserError, match="test clips clip3: their logits are not finite"):
        train.train_folds(experiment_of(store), [1], tmp_path)
    train.train_folds(experiment_of(store, nonfinite="skip"), [1], tmp_path)
    assert "clip3: their logits are not finite; all classes" in capsys.readouterr().err


def test_no_more_steps_are_under_way_than_memory_is_for() -> None:
    """On a CPU, where each step under way has its own temporaries: one is computed, one waits."""
    watch = finite_numbers.Watch([1], lambda fold, step: "", skip=False, stacked=False)
    began, slow = [], jax.jit(lambda x: jax.lax.fori_loop(0, 400, lambda _, y: y @ x / 300, x))
    for step in range(1, 6):
        flag = jnp.isfinite(slow(jnp.ones((300, 300)))).all()
        began.append(flag)
        watch.took(step, {"finite": flag})
        assert all(earlier.is_ready() for earlier in began[:-1])
