"""A fold is taught by the same fold of a finished run, and by nothing that knows its test clips."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.experiment import Experiment, initial_state, make_experiment, train_iterator
from jaxsound.input import finished, teacher
from jaxsound.input.stores import prepare_store
from jaxsound.training import augment_sound, state
from tests.serving.conftest import trained


def pupil_config(run: Path, **changes: Any) -> Any:
    """A transformer on the same clips, which hears them otherwise than its teacher."""
    config = trained(model="transformer", names=("a",)).config
    told = finished.open_run(run).config
    for key in ("name", "manual_dir", "cache_dir", "make_folds", "validation"):
        config.data[key] = told.data[key]
    config.batch_size = 8
    config.frontend.n_mels = 20
    config.model.update({"width": 16, "depth": 1, "heads": 2, "stem_channels": (4, 8)})
    config.distill.run = str(run)
    config.update_from_flattened_dict(changes)
    return config


def experiment_of(config: Any) -> Experiment:
    store = prepare_store(config)
    splits = {
        fold: folds.split(store, fold, validation=config.data.validation, seed=config.seed)
        for fold in (1, 2)
    }
    return make_experiment(config, store, splits, stacked=False)


def test_targets_are_labels_and_the_word_of_the_fold_s_own_model(run: Path) -> None:
    config = pupil_config(run, **{"distill.share": 0.3, "distill.temperature": 4.0})
    experiment = experiment_of(config)
    opened = finished.open_run(run)
    assert experiment.store.frames.shape[1] != opened.store.frames.shape[1]
    assert experiment.targets is not None
    for fold, split in experiment.splits.items():
        targets = experiment.targets[fold]
        said = finished.logits(opened.model(fold), finished.frames_of(opened.store, split.train))
        truth = np.eye(3)[experiment.store.labels]
        expected = 0.7 * truth[split.train] + 0.3 * special.softmax(said / 4, axis=1)
        np.testing.assert_allclose(targets[split.train], expected, atol=1e-6)
        np.testing.assert_array_equal(targets[split.test], truth[split.test])


def test_training_batches_have_the_targets_of_their_clips(run: Path) -> None:
    experiment = experiment_of(pupil_config(run))
    assert experiment.targets is not None
    iterator = train_iterator(experiment, 2)
    truth = np.eye(3)[experiment.store.labels]
    for _ in range(4):
        batch = next(iterator)
        assert batch["label"].shape == (8, 3)
        np.testing.assert_allclose(batch["label"].sum(1), 1, atol=1e-6)
        rows = experiment.targets[2][experiment.splits[2].train]
        assert all(np.isclose(rows, label).all(1).any() for label in batch["label"])
        assert not any(np.isclose(truth, label).all(1).any() for label in batch["label"])
    current = experiment.placement.stack([initial_state(experiment, 2)])
    key = experiment.placement.stack([state.stream_key(0, "train", 2)])
    _, metrics = experiment.train_step(current, experiment.feed.place([batch]), key)
    iterator.close()
    assert np.isfinite(metrics["loss"])
    alone = experiment_of(pupil_config(run, **{"distill.run": ""}))
    assert alone.targets is None


def test_a_teacher_that_may_know_the_test_clips_is_refused(run: Path, tmp_path: Path) -> None:
    config = pupil_config(run)
    store = prepare_store(config)
    split = {1: folds.split(store, 1, validation=0.25)}

    def refused(place: Path, why: str, **changes: Any) -> None:
        given = pupil_config(run, **{"distill.run": str(place), **changes})
        with pytest.raises(UserError, match=why):
            teacher.soft_targets(given, store, split)

    swapped = shutil.copytree(run, tmp_path / "swapped")
    shutil.rmtree(swapped / "fold_1")
    shutil.copytree(run / "fold_2", swapped / "fold_1")
    refused(swapped, "the checkpoint is of another fold")
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "fold_1.json").unlink()
    refused(unfinished, "has not finished fold 1")
    refused(tmp_path, "is no run's directory")
    others = shutil.copytree(run, tmp_path / "others")
    text = (others / "config.json").read_text()
    (others / "config.json").write_text(text.replace('"make_folds": 2', '"make_folds": 3'))
    refused(others, "was run on other clips, labels or folds")
    moved = dataclasses.replace(store, folds=3 - store.folds)
    with pytest.raises(UserError, match="has other folds than this run"):
        teacher.soft_targets(config, moved, split)


def test_a_run_that_follows_validation_clips_has_them_kept_from_its_teacher(run: Path) -> None:
    config = pupil_config(run, **{"select": "best", "seed": 0})
    store = prepare_store(config)
    same = {1: folds.split(store, 1, validation=0.25, seed=0)}
    assert teacher.soft_targets(config, store, same) is not None
    other = {1: folds.split(store, 1, validation=0.25, seed=1)}
    with pytest.raises(UserError, match="give both the same seed and data"):
        teacher.soft_targets(config, store, other)
    config.select = "last"
    assert teacher.soft_targets(config, store, other) is not None


def test_soft_labels_are_still_mixed_between_classes() -> None:
    label = jnp.asarray(0.7 * np.eye(3)[[0, 0, 1, 1, 2, 2]] + 0.1)
    sound = jnp.ones((6, 50))
    mixed, _, after = augment_sound.between_class(
        jax.random.split(jax.random.key(0), 6), sound, jnp.full(6, 50), label, jnp.zeros(6), 1.0
    )
    assert (np.abs(after - label).max(1) > 0).all()
    np.testing.assert_allclose(after.sum(1), 1, atol=1e-6)
    alike, _, same = augment_sound.between_class(
        jax.random.split(jax.random.key(0), 2),
        sound[:2],
        jnp.full(2, 50),
        label[:2],
        jnp.zeros(2),
        1.0,
    )
    np.testing.assert_allclose(same, label[:2], atol=1e-6)
    np.testing.assert_allclose(alike, sound[:2], atol=1e-6)
    assert mixed.shape == sound.shape
