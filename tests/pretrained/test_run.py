"""A run from published weights begins with them, survives a kill bit for bit and is restored."""

import dataclasses
import json
import shutil
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
from jaxsound.experiment import Experiment, initial_state, make_experiment
from jaxsound.features.frontend import FrontendConfig
from jaxsound.features.store import Store
from jaxsound.pretrained import files, weights
from jaxsound.training import progress
from jaxsound.training.restore import restore
from tests.pretrained.originals import blank
from tests.tiny import lines_alone

pytest.importorskip("safetensors", reason="needs the extra 'hub'")
SIZE = {"width": 16, "depth": 1, "heads": 2, "patch": 4, "time_stride": 3, "frequency_stride": 2}
PUBLISHED = {"bins": 16, "frames": 30, "classes": 7}  # for other bins, frames and classes


@pytest.fixture(scope="module", autouse=True)
def _lines_alone() -> Iterator[None]:
    with lines_alone():
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small AST's weights, with the publisher's config beside them."""
    folder = tmp_path_factory.mktemp("published")
    config = default_config("ast")
    config.model.update(SIZE)
    _, params, stats = blank(config.model, **PUBLISHED)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.1, params)
    tensors = weights.tensors(config.model, params, stats)
    files.write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"num_mel_bins": PUBLISHED["bins"]}))
    return folder


def config_of(folder: Path, **changes: Any) -> Any:
    config = default_config("ast")
    config.model.update(SIZE)
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "eval_every": 0,
        "checkpoint_every": 1,
        "data.validation": 0.0,
        "frontend.n_mels": 8,
        "pretrained.weights": str(folder),
        "pretrained.layer_decay": 0.7,
        "pretrained.head_first": 0.2,
    }
    config.update_from_flattened_dict(settings | changes)
    validate(config)
    return config


def experiment_of(store: Store, folder: Path, **changes: Any) -> Experiment:
    config = config_of(folder, **changes)
    files.pin(config.pretrained)
    splits = {fold: folds.split(store, fold, validation=0.0) for fold in (1,)}
    store = dataclasses.replace(store, frontend=FrontendConfig(n_mels=8))
    return make_experiment(config, store, splits, stacked=False)


PROBE = {"pretrained.freeze": ("*",), "pretrained.unfreeze": ("head.*",)}


@pytest.mark.parametrize("changes", [{}, PROBE], ids=["whole", "probe"])
def test_killed_it_goes_on_bit_for_bit_and_is_restored(
    changes: dict[str, Any],
    tiny_store: Store,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = experiment_of(tiny_store, published, **changes)
    train.train_folds(experiment, [1], tmp_path / "whole")
    said = capsys.readouterr().err
    assert said.count("SHA-256") == 1
    assert "new: head" in said
    stepped = progress.Progress.stepped
    last = experiment.steps_per_epoch + 1

    def kill(self: Any, step: int, metrics: Any, count: int = 1) -> None:
        stepped(self, step, metrics, count)
        if step == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Progress, "stepped", kill)
    with pytest.raises(KeyboardInterrupt):
        train.train_folds(experiment, [1], tmp_path / "killed")
    monkeypatch.setattr(progress.Progress, "stepped", stepped)
    train.train_folds(experiment, [1], tmp_path / "killed")
    whole, killed = (restore(tmp_path / name / "fold_1") for name in ("whole", "killed"))
    jax.tree.map(np.testing.assert_array_equal, whole.params, killed.params)
    assert whole.config.pretrained.sha256 == files.read(str(published)).sha256
    # What it began with is still there where it was frozen, and nowhere else.
    first = weights.flat(initial_state(experiment, 1).params)
    for path, value in weights.flat(whole.params).items():
        assert bool((value == first[path]).all()) == (bool(changes) and path[0] != "head"), path
    logits = whole.logits(np.zeros((1, whole.frames, 8), np.float32), np.array([9]))
    assert np.isfinite(logits).all()


def test_every_fold_begins_with_the_same_weights_and_a_classifier_of_its_own(
    tiny_store: Store, published: Path
) -> None:
    experiment = experiment_of(tiny_store, published)
    keys = jax.random.key(1), jax.random.key(2)
    a, b = (weights.flat(experiment.initialise(key)[0]) for key in keys)
    assert not (a["head", "kernel"] == b["head", "kernel"]).all()
    del a["head", "kernel"], b["head", "kernel"]
    jax.tree.map(np.testing.assert_array_equal, list(a.values()), list(b.values()))
    tensor = files.read(str(published)).tensors["classifier.layernorm.weight"]
    assert jnp.array_equal(a["head_norm", "scale"], tensor)


def test_other_weights_do_not_resume_a_run(tiny_store: Store, published: Path) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        experiment_of(tiny_store, published, **{"pretrained.sha256": "0" * 64})


def test_a_finished_run_needs_its_weights_no_more(
    tiny_store: Store, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dataclasses.replace(tiny_store, frontend=FrontendConfig(n_mels=8))
    monkeypatch.setattr(train, "prepare_store", lambda config: store)
    folder, run = tmp_path / "weights", tmp_path / "run"
    shutil.copytree(published, folder)
    settings = {"epochs": 1, "folds": (1,)}
    result = train.run(config_of(folder, **settings), run)
    assert result is not None
    # Others in their place are not taken for them.
    tensors = dict(files.read(str(folder)).tensors)
    first = min(tensors)
    files.write(folder / files.FILE, tensors | {first: tensors[first] + 1})
    with pytest.raises(UserError, match="holds another run"):
        train.run(config_of(folder, **settings), run)
    shutil.rmtree(folder)
    again = train.run(config_of(folder, **settings), run)
    assert again is not None
    assert again["accuracy_mean"] == result["accuracy_mean"]
    with pytest.raises(UserError, match="holds another run"):
        train.run(config_of(folder, **settings, **{"pretrained.sha256": "0" * 64}), run)
    # One that is not finished does.
    for other in ({"folds": (1, 2)}, {"folds": (1,), "epochs": 2}):
        with pytest.raises(UserError, match="no such file or folder"):
            train.run(config_of(folder, **settings | other), run)
