"""A restored model is the one that its run tested; what cannot be restored is told in a line."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest

from jaxsound.config import default_config
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.experiment import evaluator, initial_state, make_experiment
from jaxsound.features.store import Store
from jaxsound.job import integrity, workdir
from jaxsound.training import selection
from jaxsound.training.checkpoint import Checkpoints
from jaxsound.training.restore import Trained, restore


def config_of(store: Store, kind: str) -> ml_collections.ConfigDict:
    """A config of tiny models, each tested with weights that come from somewhere else."""
    config = default_config("transformer" if kind == "averaged" else "cnn")
    config.frontend = dataclasses.asdict(store.frontend)
    config.data.pad_seconds = 0.3  # 31 frames of the longest clips' 40
    config.batch_size = 8
    if kind == "averaged":
        config.optimizer.ema = 0.9
        config.model.update(width=8, heads=2, depth=1, stem_channels=(4,), positions="learned")
    else:
        config.model.update(channels=(4, 8), convs=1)
    if kind == "best":
        config.select = "best"
        config.data.crop_bins = 6
    return config


def moved(tree: object) -> object:
    return jax.tree.map(lambda x: 0.5 * x + 0.01, tree)


def run(store: Store, kind: str, directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Leaves the checkpoint of a fold; returns its test clips and the logits they were given."""
    config = config_of(store, kind)
    splits = {1: folds.split(store, 1, validation=0.2, seed=0)}
    experiment = make_experiment(config, store, splits, stacked=False)
    state = initial_state(experiment, 1)
    state = dataclasses.replace(state, stats=moved(state.stats))
    if kind == "averaged":
        state = dataclasses.replace(state, ema=moved(state.params))
    if kind == "best":
        best = dataclasses.replace(state.selection, params=moved(state.params))
        state = dataclasses.replace(state, selection=best)
    (tested,) = evaluator(experiment, [1], "test")(selection.chosen(state), 7)
    about = workdir.about_checkpoint(config, store, [1], experiment.pad_frames)
    with Checkpoints(workdir.checkpoints(directory, [1])) as checkpoints:
        checkpoints.save(7, state, {}, about, 1.0)
    return tested.clips, tested.logits


def logits(trained: Trained, store: Store, clips: np.ndarray) -> np.ndarray:
    whole = [store.frames[store.offsets[i] : store.offsets[i + 1]] for i in clips]
    return np.asarray(trained.logits(*trained.batch(whole)))


@pytest.mark.parametrize("kind", ["last", "averaged", "best"])
def test_logits_are_those_of_the_run(kind: str, tiny_store: Store, tmp_path: Path) -> None:
    clips, expected = run(tiny_store, kind, tmp_path)
    trained = restore(tmp_path / "fold_1")
    np.testing.assert_allclose(logits(trained, tiny_store, clips), expected, rtol=1e-5, atol=1e-5)
    assert trained.step == 7
    assert trained.class_names == tiny_store.class_names
    assert trained.frontend == tiny_store.frontend
    assert trained.config.to_dict() == config_of(tiny_store, kind).to_dict()


@pytest.fixture(scope="module")
def kept(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kept")
    run(tiny_store, "last", directory)
    return directory / "fold_1"


@pytest.fixture
def fold(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "fold_1"))


def edit(fold: Path, **changes: object) -> None:
    """As if the checkpoint had been saved with another record of itself."""
    path = fold / "checkpoints" / "7" / "about" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    integrity.write(path.parents[1])


def test_keys_that_came_later_are_at_their_defaults(fold: Path) -> None:
    about = json.loads((fold / "checkpoints/7/about/metadata").read_text())
    del about["config"]["select"], about["config"]["augment"]["copies"]
    edit(fold, config=about["config"])
    assert restore(fold / "checkpoints").config.select == "last"


def test_what_cannot_be_restored_is_one_line(fold: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            restore(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no checkpoint" in refused(tmp_path / "nowhere")
    edit(fold, folds=[1, 2])
    assert "several folds" in refused(fold)
    edit(fold, folds=[1], class_names=["a", "b"])
    assert "head" in refused(fold)
    (fold / "checkpoints/7/about/metadata").write_text("{")
    assert "damaged: about/metadata has 1 bytes" in refused(fold)
    (fold / "checkpoints/7" / integrity.MANIFEST).unlink()  # as of an earlier version
    assert "cannot be read" in refused(fold)
    shutil.rmtree(fold / "checkpoints/7/state")
    assert "cannot be read" in refused(fold)
