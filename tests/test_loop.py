"""The loop, in this process on a store of noise: what follows the validation split survives a
kill, stops early, and is the same for folds side by side."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from jaxsound import train
from jaxsound.config import default_config, validate
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.evaluation import crossval, curves
from jaxsound.experiment import (
    Experiment,
    initial_state,
    make_experiment,
    steps_per_call,
    train_iterator,
)
from jaxsound.features.store import Store
from jaxsound.job import workdir
from jaxsound.training import progress
from jaxsound.training.checkpoint import Checkpoints
from jaxsound.training.writer import METRICS_FILE
from tests import tiny

FOLLOWING = {
    "seed": 1,
    "epochs": 6,
    "batch_size": 8,
    "eval_every": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "select": "best",
    "watch_test": True,
    "data.validation": 0.3,
    "data.frames": 2,  # too few to be easy: the best epoch comes early
    "frontend.n_mels": 8,
    "model.dims": 1,
    "model.layers": ("batch_norm", "mean", "linear 8", "relu", "dropout 0.2"),
    "optimizer.schedule": "plateau",
    "optimizer.patience": 0,
    "optimizer.factor": 0.5,
    "optimizer.peak_lr": 0.3,
    "optimizer.warmup_fraction": 0.0,
}


def config_of(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("stack")
    config.update_from_flattened_dict(FOLLOWING | changes)
    validate(config)
    return config


def experiment_of(store: Store, stacked: bool = False, **changes: Any) -> Experiment:
    config = config_of(**changes)
    share = config.data.validation
    splits = {fold: folds.split(store, fold, validation=share) for fold in (1, 2)}
    return make_experiment(config, store, splits, stacked)


@pytest.fixture(scope="module", autouse=True)
def _lines_alone() -> Iterator[None]:
    with tiny.lines_alone():
        yield


@pytest.fixture(scope="module")
def following(tiny_store: Store) -> Experiment:
    return experiment_of(tiny_store)


@pytest.fixture(scope="module")
def whole(following: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folds 1 and 2, one after another, undisturbed."""
    directory = tmp_path_factory.mktemp("whole")
    for fold in (1, 2):
        train.train_folds(following, [fold], directory)
    return directory


def last_checkpoint(experiment: Experiment, directory: Path, fold: int) -> tuple[Any, int]:
    """The last state of a fold, and its step."""
    blank = experiment.placement.put_replicated(initial_state(experiment, fold))
    iterator = train_iterator(experiment, fold)
    with Checkpoints(workdir.checkpoints(directory, [fold])) as checkpoints:
        restored, step, _ = checkpoints.restore(blank, {fold: iterator})
    iterator.close()
    return restored, step


def record(directory: Path, fold: int) -> dict[str, Any]:
    return json.loads((directory / f"fold_{fold}.json").read_text())


def curve(directory: Path, fold: int, tag: str) -> dict[int, float]:
    lines = curves.read(directory / f"fold_{fold}" / METRICS_FILE)
    return {line["step"]: line[tag] for line in lines if tag in line}


def test_the_weights_tested_are_validation_s_best(following: Experiment, whole: Path) -> None:
    far = []
    for fold in (1, 2):
        losses = curve(whole, fold, "validation/loss")
        assert list(losses) == [following.steps_per_epoch * i for i in range(1, 7)]
        best = min(losses, key=lambda step: losses[step])
        extra = record(whole, fold)["extra"]
        assert extra["weights"] == "best"
        assert extra["weights_step"] == best
        assert extra["weights_epoch"] == best // following.steps_per_epoch
        watched = curve(whole, fold, "test/loss")
        far.append(abs(watched[best] - watched[following.steps]))
        assert record(whole, fold)["loss"] == pytest.approx(watched[best], rel=1e-4)
        watched = curve(whole, fold, "test/accuracy")
        assert extra["watched"]["accuracy"] == max(watched.values())
        assert watched[extra["watched"]["step"]] == max(watched.values())
    assert max(far) > 1e-3, "the best weights are the last: this test would not see these"


def test_the_learning_rate_logged_is_the_scaled_one(following: Experiment, whole: Path) -> None:
    losses, scale, best, expected = curve(whole, 1, "validation/loss"), 1.0, np.inf, {}
    for step in range(1, following.steps + 1):
        expected[step] = scale
        if step in losses:
            scale, best = (scale if losses[step] < best else scale * 0.5), min(best, losses[step])
    found = curve(whole, 1, "train/learning_rate")
    assert found.keys() == expected.keys()
    for step, rate in found.items():
        np.testing.assert_allclose(rate, 0.3 * expected[step], rtol=1e-5)
    assert min(expected.values()) < 1


def test_killed_anywhere_it_goes_on_bit_for_bit(
    following: Experiment, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = progress.Progress.stepped
    for last in (following.steps_per_epoch + 1, 4 * following.steps_per_epoch + 2):

        def kill(self: Any, step: int, metrics: Any, count: int = 1, last: int = last) -> None:
            stepped(self, step, metrics, count)
            if step == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(progress.Progress, "stepped", kill)
        with pytest.raises(KeyboardInterrupt):
            train.train_folds(following, [1], tmp_path)
    monkeypatch.setattr(progress.Progress, "stepped", stepped)
    train.train_folds(following, [1], tmp_path)
    ours, theirs = (last_checkpoint(following, path, 1) for path in (tmp_path, whole))
    assert ours[1] == theirs[1] == following.steps
    jax.tree.map(np.testing.assert_array_equal, ours[0], theirs[0])
    a, b = (record(path, 1) | {"seconds": 0} for path in (tmp_path, whole))
    assert a == b


def test_epochs_added_later_are_those_of_a_run_that_had_them(
    tiny_store: Store, following: Experiment, whole: Path, tmp_path: Path
) -> None:
    train.train_folds(experiment_of(tiny_store, epochs=3), [1], tmp_path)
    train.train_folds(following, [1], tmp_path)
    ours, theirs = (last_checkpoint(following, path, 1) for path in (tmp_path, whole))
    assert ours[1] == theirs[1] == following.steps
    jax.tree.map(np.testing.assert_array_equal, ours[0], theirs[0])


def test_folds_side_by_side_follow_their_own_validation_splits(
    tiny_store: Store, following: Experiment, whole: Path, tmp_path: Path
) -> None:
    together = experiment_of(tiny_store, stacked=True)
    train.train_folds(together, [1, 2], tmp_path)
    for fold in (1, 2):
        ours, theirs = (record(path, fold) for path in (tmp_path, whole))
        assert ours["extra"]["weights_step"] == theirs["extra"]["weights_step"]
        names = following.store.class_names
        found = [
            crossval.read_predictions(path / f"fold_{fold}" / "predictions.csv", names)
            for path in (tmp_path, whole)
        ]
        np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-3)
        state, _ = last_checkpoint(following, tmp_path, fold)
        other, _ = last_checkpoint(following, whole, fold)
        assert float(state.selection.scale) == float(other.selection.scale)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("feed", ["stream", "resident"])
def test_several_steps_in_a_call_are_the_same_steps(
    stacked: bool, feed: str, tiny_store: Store, whole: Path, tmp_path: Path
) -> None:
    several = experiment_of(tiny_store, stacked, steps_per_call=2, **{"data.feed": feed})
    assert steps_per_call(several, 0) == 2
    for group in [[1, 2]] if stacked else [[1], [2]]:
        train.train_folds(several, group, tmp_path)
    for fold in (1, 2):
        for tag in ("train/loss", "train/learning_rate", "validation/loss"):
            ours, theirs = (curve(path, fold, tag) for path in (tmp_path, whole))
            assert ours.keys() == theirs.keys()
            for step, value in theirs.items():
                np.testing.assert_allclose(ours[step], value, rtol=1e-3, atol=1e-4)
        assert record(tmp_path, fold)["steps"] == record(whole, fold)["steps"]


def test_a_call_ends_where_something_is_due(tiny_store: Store) -> None:
    experiment = experiment_of(tiny_store, steps_per_call=5, epochs=6, eval_every=2)
    per_epoch = experiment.steps_per_epoch
    for start in (0, 3):
        count = steps_per_call(experiment, start)
        assert 1 <= count <= 5
        assert per_epoch % count == 0  # checkpoint_every is 1
        assert start % count == 0
    assert steps_per_call(experiment_of(tiny_store), 0) == 1  # the default, on a CPU


def test_early_stopping_ends_a_fold_and_a_resumed_one_stays_stopped(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At a rate of 0, without batch statistics, no evaluation is better than the first.
    frozen = {"model.layers": ("mean",), "optimizer.schedule": "constant", "optimizer.peak_lr": 0.0}
    experiment = experiment_of(tiny_store, select="last", early_stopping=2, **frozen)
    train.train_folds(experiment, [1], tmp_path)
    before = record(tmp_path, 1)
    assert before["steps"] == 3 * experiment.steps_per_epoch
    assert before["extra"]["weights_step"] == before["steps"]
    assert list(curve(tmp_path, 1, "train/loss")) == list(range(1, before["steps"] + 1))
    assert last_checkpoint(experiment, tmp_path, 1)[1] == before["steps"]

    (tmp_path / "fold_1.json").unlink()

    def refuse(*_: Any) -> None:
        raise AssertionError("a stopped fold took a step")

    monkeypatch.setattr(progress.Progress, "stepped", refuse)
    train.train_folds(experiment, [1], tmp_path)
    assert record(tmp_path, 1) | {"seconds": 0} == before | {"seconds": 0}


def test_what_cannot_run_leaves_no_record(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "prepare_store", lambda _: tiny_store)
    with pytest.raises(UserError, match=r"batch_size=6: must be a multiple of the 4 devices"):
        train.run(config_of(batch_size=6), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fold_without_validation_clips_to_follow_is_refused(tiny_store: Store) -> None:
    splits = {1: folds.split(tiny_store, 1, validation=0.0)}
    with pytest.raises(UserError, match="leaves fold 1 without validation clips"):
        make_experiment(config_of(), tiny_store, splits, stacked=False)
