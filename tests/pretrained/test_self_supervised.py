"""Masked pre-training through the loop, and what begins with it."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from jaxsound import load, probe, results, train
from jaxsound.config import default_config, validate
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.evaluation import crossval, ensemble, runs
from jaxsound.experiment import Experiment, initial_state, make_experiment
from jaxsound.features.store import Store
from jaxsound.hub import upload
from jaxsound.input import finished
from jaxsound.job import workdir
from jaxsound.pretrained import files, weights
from jaxsound.training import progress
from jaxsound.training.restore import restore
from tests import tiny

SMALL = {
    "epochs": 3,
    "batch_size": 8,
    "eval_every": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "data.validation": 0.2,
    "frontend.n_mels": 8,
    "model.width": 8,
    "model.depth": 1,
    "model.heads": 2,
    "model.stem": "frames",
    "optimizer.ema": 0.9,
}
MASKED = {
    "task": "reconstruction",
    "reconstruction.patch_bins": 4,
    "reconstruction.patch_frames": 4,
}


@pytest.fixture(scope="module", autouse=True)
def _lines_alone() -> Iterator[None]:
    with tiny.lines_alone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "make_writer", lambda logdir, **_: Silent())
        yield


class Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def config_of(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("transformer")
    config.update_from_flattened_dict(SMALL | changes)
    validate(config)
    files.pin(config.pretrained)
    return config


def experiment_of(store: Store, tested: tuple[int, ...] = (1, 2), **changes: Any) -> Experiment:
    config = config_of(**changes)
    share = config.data.validation
    splits = {fold: folds.split(store, fold, validation=share) for fold in tested}
    return make_experiment(config, store, splits, stacked=False)


@pytest.fixture(scope="module")
def masked(tiny_store: Store) -> Experiment:
    return experiment_of(tiny_store, **MASKED)


@pytest.fixture(scope="module")
def run(masked: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reconstructs, of folds 1 and 2, as `train.run` leaves it."""
    directory = tmp_path_factory.mktemp("masked")
    workdir.claim(directory, masked.config, masked.store)
    for fold in (1, 2):
        train.train_folds(masked, [fold], directory)
    return directory


def test_killed_it_goes_on_bit_for_bit(
    masked: Experiment, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = progress.Progress.stepped

    def kill(self: Any, step: int, metrics: Any, count: int = 1) -> None:
        stepped(self, step, metrics, count)
        if step == masked.steps_per_epoch + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Progress, "stepped", kill)
    with pytest.raises(KeyboardInterrupt):
        train.train_folds(masked, [1], tmp_path)
    monkeypatch.setattr(progress.Progress, "stepped", stepped)
    train.train_folds(masked, [1], tmp_path)
    ours, theirs = (restore(path / "fold_1", classifies=False) for path in (tmp_path, run))
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    a, b = (
        json.loads((path / "fold_1.json").read_text()) | {"seconds": 0} for path in (tmp_path, run)
    )
    assert a == b


def test_labels_change_nothing(masked: Experiment, run: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(masked.store, labels=masked.store.labels[::-1].copy())
    train.train_folds(dataclasses.replace(masked, store=other), [1], tmp_path)
    ours, theirs = (restore(path / "fold_1", classifies=False) for path in (tmp_path, run))
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


def test_the_result_is_a_loss_and_no_accuracy(masked: Experiment, run: Path) -> None:
    result = results.finish(masked.config, masked.store, run)
    told = results.format_table(result) + (run / "report.html").read_text()
    assert f"{result['loss_mean']:.3f}" in told
    assert "accuracy" not in told.replace("no accuracy", "")
    assert not [key for key in result if "accuracy" in key]
    losses = [json.loads((run / f"fold_{k}.json").read_text())["loss"] for k in (1, 2)]
    np.testing.assert_allclose(result["loss_mean"], np.mean(losses))
    rows = np.loadtxt(run / "fold_1" / "errors.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    assert len(rows) == len(masked.splits[1].test)
    np.testing.assert_allclose(
        rows.mean(0), [losses[0], result["folds"][0]["loss_of_mean"]], rtol=1e-5
    )
    first, last = (json.loads(x) for x in _validation(run)[:: len(_validation(run)) - 1])
    assert last["validation/loss"] < first["validation/loss"]
    assert "validation/accuracy" not in last


def _validation(run: Path) -> list[str]:
    lines = (run / "fold_1" / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if "validation/loss" in line]


def test_each_fold_begins_with_exactly_its_own_encoder(
    tiny_store: Store, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"model.pool": "attention", "model.hidden": (4,), "model.drop_tokens": 0.2}
    experiment = experiment_of(tiny_store, **{"pretrained.weights": str(run)}, **changes)
    assert len(experiment.config.pretrained.sha256) == 64
    for fold in (1, 2):
        begun = initial_state(experiment, fold)
        known = restore(run / f"fold_{fold}", classifies=False)
        theirs = weights.flat(known.params) | weights.flat(known.stats)
        ours = weights.flat(begun.params) | weights.flat(begun.stats)
        for path in theirs:
            if path[0] != "head":
                np.testing.assert_array_equal(ours[path], theirs[path])
        assert {path[0] for path in ours.keys() - theirs.keys()} == {"hidden", "score"}
        assert ours["head", "kernel"].shape == (4, 3)
    assert "new: head, hidden, score" in capsys.readouterr().err


def test_a_fine_tune_trains_is_restored_and_is_a_beginning_too(
    tiny_store: Store, run: Path, tmp_path: Path
) -> None:
    where = {"pretrained.weights": str(run / "fold_1"), "epochs": 1}
    train.train_folds(experiment_of(tiny_store, (1,), **where), [1], tmp_path)
    tuned = restore(tmp_path / "fold_1")
    assert tuned.logits(np.zeros((1, tuned.frames, 8)), np.array([9])).shape == (1, 3)
    where = {"pretrained.weights": str(tmp_path)}
    begun = initial_state(experiment_of(tiny_store, (1,), **where), 1).params
    kernels = [tree["blocks"][0]["qkv"]["kernel"][...] for tree in (begun, tuned.params)]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize(
    ("fold", "changes", "words"),
    [
        ("fold_1", {}, "trained on test clips of fold 2"),
        ("", {"tested": (1, 2, 3)}, "has no fold 3"),
        ("", {"model.heads": 4}, "model.heads=4: heads is 2"),
        ("", {"model.depth": 2}, "model.depth=2: depth is 1"),
        ("", {"model.pool": "class_token"}, "class_token is missing"),
        ("", {"frontend.hop_length": 160}, "frontend.hop_length=160: it was 320"),
        ("", {"pretrained.sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    tiny_store: Store, run: Path, fold: str, changes: dict[str, Any], words: str
) -> None:
    where = {"pretrained.weights": str(run / fold)}
    with pytest.raises(UserError, match=words) as refused:
        initial_state(experiment_of(tiny_store, **where | changes), 1)
    assert "\n" not in str(refused.value)


def test_a_probe_takes_one_fold_that_has_not_heard_its_test_clips(
    tiny_store: Store, run: Path
) -> None:
    def drawn(fold: str, tested: tuple[int, ...]) -> Any:
        config = config_of(**{"pretrained.weights": str(run / fold)})
        return probe.drawn(config, tiny_store, tested)(np.arange(20))

    kernels = [
        model.params["blocks"][0]["qkv"]["kernel"][...]
        for model in (drawn("fold_1", (1,)), restore(run / "fold_1", classifies=False))
    ]
    np.testing.assert_array_equal(*kernels)
    for fold, tested, words in (
        ("fold_1", (1, 2), "trained on test clips"),
        ("", (1,), "name one"),
    ):
        with pytest.raises(UserError, match=words):
            drawn(fold, tested)


def test_another_data_set_s_fold_begins_all(tiny_store: Store, run: Path) -> None:
    other = dataclasses.replace(tiny_store, clip_ids=np.char.add("x", tiny_store.clip_ids))
    experiment = experiment_of(other, **{"pretrained.weights": str(run / "fold_1")})
    kernels = [initial_state(experiment, k).params["blocks"][0]["qkv"]["kernel"] for k in (1, 2)]
    np.testing.assert_array_equal(kernels[0][...], kernels[1][...])


def test_commands_that_want_classes_say_so_in_one_line(run: Path, masked: Experiment) -> None:
    results.finish(masked.config, masked.store, run)
    for command in (
        lambda: restore(run / "fold_1"),
        lambda: load(str(run)),  # predict, serve and export begin with it
        lambda: crossval.read_fold(run, 1),
        lambda: finished.open_run(run),  # tta, robustness, calibration and distillation, likewise
        lambda: ensemble.result_of(run),
        lambda: runs.gather([str(run)]),
        lambda: upload.plan(run, "user/name"),
    ):
        with pytest.raises(UserError, match=r"task=|no classifier") as refused:
            command()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.stem", "waveform"),
        ("model.drop_tokens", 0.2),
        ("loss.label_smoothing", 0.1),
        ("loss.class_weights", "balanced"),
        ("distill.run", "runs/x"),
        ("monitor", "accuracy"),
        ("reconstruction.masked_share", 1.0),
        ("reconstruction.patch_bins", 0),
    ],
)
def test_what_reconstruction_has_no_use_for_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=key) as refused:
        config_of(**MASKED | {key: value})
    assert "\n" not in str(refused.value)


def test_unlabelled_recordings_and_other_networks_are_refused() -> None:
    unlabelled = {"data.name": "audio_folder", "data.unlabelled": True}
    config_of(**MASKED | unlabelled)
    with pytest.raises(UserError, match=r"data.unlabelled.*classification needs labels"):
        config_of(**unlabelled)
    with pytest.raises(UserError, match=r"data.unlabelled.*audio_folder"):
        config_of(**MASKED, **{"data.unlabelled": True})
    config = default_config("cnn")
    config.task = "reconstruction"
    with pytest.raises(UserError, match=r"model.name='cnn'"):
        validate(config)
