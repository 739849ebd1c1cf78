"""Two ways of feeding, side-by-side folds and any number of devices: the same numbers."""

import dataclasses
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from jaxsound.config import default_config
from jaxsound.data import folds
from jaxsound.experiment import Experiment, evaluator, initial_state, make_experiment
from jaxsound.features.store import Store
from jaxsound.input import pipeline
from jaxsound.training import sharding, state

STEPS = 20


def small_config(model: str = "transformer", **changes: Any) -> ml_collections.ConfigDict:
    config = default_config(model)
    config.epochs = 10
    config.batch_size = 8
    config.data.pad_seconds = 0.39  # 40 frames
    config.data.crop_seconds = 0.15  # 16 frames
    config.frontend.n_mels = 8
    config.augment.update({"time_masks": 1, "freq_masks": 1, "time_roll": True, "gain_db": 3.0})
    config.optimizer.ema = 0.9
    if model == "transformer":
        config.model.update({"width": 16, "depth": 1, "stem_channels": (4, 8), "drop_path": 0.1})
    elif model == "cnn":
        config.model.update({"channels": (4, 8), "dropout": 0.1})
    else:
        config.model.update({"dims": 1, "layers": ("mean",)})
    config.update_from_flattened_dict(changes)
    return config


def experiment_of(config: Any, store: Store, stacked: bool = False) -> Experiment:
    splits = {fold: folds.split(store, fold) for fold in (1, 2, 3)}
    return make_experiment(config, store, splits, stacked)


def losses_of(experiment: Experiment, group: list[int]) -> np.ndarray:
    """Losses `[STEPS, K]` of a group of folds, and at the end their test logits, flattened."""
    placement, seed = experiment.placement, experiment.config.seed
    current = placement.stack([initial_state(experiment, fold) for fold in group])
    key = placement.stack([state.stream_key(seed, "train", fold) for fold in group])
    iterators = [
        experiment.feed.train_iterator(
            experiment.splits[fold].train, experiment.crop_frames, state.stream_seed(seed, fold)
        )
        for fold in group
    ]
    rows = []
    for _ in range(STEPS):
        batch = experiment.feed.place([next(iterator) for iterator in iterators])
        current, metrics = experiment.train_step(current, batch, key)
        rows.append(np.atleast_1d(np.asarray(metrics["loss"])))
    for iterator in iterators:
        iterator.close()
    test = evaluator(experiment, group, "test")(current, STEPS)
    assert all(len(part.logits) == len(part.clips) == 20 for part in test)
    return np.concatenate([np.stack(rows).ravel(), *(part.logits.ravel() for part in test)])


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_stream_and_resident_give_equal_losses(tiny_store: Store, model: str) -> None:
    found = [
        losses_of(experiment_of(small_config(model, **{"data.feed": feed}), tiny_store), [1])
        for feed in ("stream", "resident")
    ]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_folds_side_by_side_equal_folds_one_after_another(tiny_store: Store, model: str) -> None:
    config = small_config(model)
    alone = experiment_of(config, tiny_store)
    sequential = [losses_of(alone, [fold]) for fold in (1, 2, 3)]
    together = losses_of(experiment_of(config, tiny_store, stacked=True), [1, 2, 3])
    losses = np.stack([row[:STEPS] for row in sequential], 1).ravel()
    np.testing.assert_allclose(together[: 3 * STEPS], losses, rtol=1e-4, atol=1e-5)
    logits = np.concatenate([row[STEPS:] for row in sequential])
    np.testing.assert_allclose(together[3 * STEPS :], logits, rtol=1e-2, atol=1e-3)


def test_any_number_of_devices_gives_equal_losses(
    tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    make_mesh = sharding.make_mesh
    for count in (1, 2, 4):
        devices = jax.devices()[:count]
        monkeypatch.setattr(sharding, "make_mesh", lambda size, _, d=devices: make_mesh(size, d))
        found.append(losses_of(experiment_of(small_config("cnn"), tiny_store), [1]))
    for other in found[1:]:
        np.testing.assert_allclose(other[:STEPS], found[0][:STEPS], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other[STEPS:], found[0][STEPS:], rtol=1e-2, atol=1e-3)


def feed_of(store: Store, resident: bool = False, threads: int = 0) -> pipeline.Feed:
    placement = sharding.Placement(sharding.make_mesh(8, jax.devices()[:1]), stacked=False)
    return pipeline.Feed(store, placement, batch_size=8, resident=resident, threads=threads)


def test_every_clip_once_an_epoch_in_another_order_each(tiny_store: Store) -> None:
    clips = np.arange(0, 60, 60 // 24)[:24]
    # The clip's id stands in for its label, to be read back from the batches.
    store = dataclasses.replace(tiny_store, labels=np.arange(60, dtype=np.int32))
    iterator = feed_of(store).train_iterator(clips, 16, seed=3)
    seen = [np.concatenate([next(iterator)["label"] for _ in range(3)]) for _ in range(2)]
    for epoch in seen:
        np.testing.assert_array_equal(np.sort(epoch), clips)
    assert (seen[0] != seen[1]).any()


def test_crops_are_the_store_s_frames_and_zero_after(tiny_store: Store) -> None:
    batch = next(feed_of(tiny_store).train_iterator(np.arange(60), 16, seed=0))
    rows = next(feed_of(tiny_store, resident=True).train_iterator(np.arange(60), 16, seed=0))
    for x, length, row in zip(batch["features"], batch["length"], rows["row"], strict=True):
        np.testing.assert_array_equal(x[:length], tiny_store.frames[row : row + length])
        np.testing.assert_array_equal(x[length:], 0)
    assert batch["length"].max() == 16
    assert batch["length"].min() < 16


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_reading_threads_change_nothing(tiny_store: Store, threads: int) -> None:
    one, many = (
        feed_of(tiny_store, threads=n).train_iterator(np.arange(60), 16, seed=0)
        for n in (0, threads)
    )
    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, next(one), next(many))
    one.close()
    many.close()


def test_evaluation_sees_every_clip_once_and_masks_the_rest(tiny_store: Store) -> None:
    clips = np.arange(3, 23)
    batch = feed_of(tiny_store).eval_batches(clips, 30)
    batches = [batch(i) for i in range(3)]
    real = np.concatenate([b["mask"] for b in batches])
    assert real.sum() == 20
    labels = np.concatenate([b["label"] for b in batches])[real]
    np.testing.assert_array_equal(labels, tiny_store.labels[clips])
    lengths = np.concatenate([b["length"] for b in batches])[real]
    np.testing.assert_array_equal(lengths, np.minimum(tiny_store.lengths[clips], 30))


def test_normalisation_sees_the_training_clips_alone(tiny_store: Store) -> None:
    clips = np.arange(10)
    mean, std = pipeline.normalisation(tiny_store, clips, "per_bin")
    frames = tiny_store.frames[: tiny_store.offsets[10]].astype(np.float64)
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, frames.std(0), rtol=1e-4)
    poisoned = np.array(tiny_store.frames)
    poisoned[tiny_store.offsets[10] :] = np.nan
    other = dataclasses.replace(tiny_store, frames=poisoned)
    np.testing.assert_array_equal(pipeline.normalisation(other, clips, "per_bin")[0], mean)


def test_a_fold_s_state_does_not_see_its_test_or_validation_clips(tiny_store: Store) -> None:
    experiment = experiment_of(small_config(), tiny_store)
    before = initial_state(experiment, 2)
    split = experiment.splits[2]
    frames = np.array(tiny_store.frames)
    for clip in [*split.test, *split.validation]:
        frames[tiny_store.offsets[clip] : tiny_store.offsets[clip + 1]] = np.nan
    poisoned = dataclasses.replace(experiment, store=dataclasses.replace(tiny_store, frames=frames))
    after = initial_state(poisoned, 2)
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("changes", [{}, {"select": "best"}, {"early_stopping": 1}])
def test_only_a_run_that_follows_validation_remembers_it(
    tiny_store: Store, changes: dict[str, Any]
) -> None:
    found = initial_state(experiment_of(small_config(**changes), tiny_store), 2)
    assert (found.selection is not None) == bool(changes)


def test_accumulated_gradients_equal_one_batch_without_batch_norm(tiny_store: Store) -> None:
    plain = {"model.stem": "frames", "model.dropout": 0.0, "model.drop_path": 0.0}
    found = [
        losses_of(
            experiment_of(small_config(**plain, **{"optimizer.accumulate": n}), tiny_store), [1]
        )
        for n in (1, 4)
    ]
    np.testing.assert_allclose(found[0][:STEPS], found[1][:STEPS], rtol=1e-4, atol=1e-5)


def test_copies_make_an_epoch_of_each_clip_once_plain_and_the_rest_augmented(
    tiny_store: Store,
) -> None:
    clips, copies = np.arange(0, 60, 60 // 24)[:24], 3
    store = dataclasses.replace(tiny_store, labels=np.arange(60, dtype=np.int32))
    iterator = feed_of(store).train_iterator(clips, 16, seed=3, copies=copies)
    for _ in range(2):
        batches = [next(iterator) for _ in range(len(clips) * (1 + copies) // 8)]
        label, plain = (np.concatenate([b[key] for b in batches]) for key in ("label", "plain"))
        np.testing.assert_array_equal(np.sort(label[plain]), clips)
        np.testing.assert_array_equal(np.sort(label[~plain]), np.repeat(clips, copies))
        assert 0 < plain[:48].sum() < 24  # mixed, not one after the other
    assert "plain" not in next(feed_of(store).train_iterator(clips, 16, seed=3))


def test_copies_count_as_steps_of_an_epoch(tiny_store: Store) -> None:
    steps = [
        experiment_of(small_config("stack", **{"augment.copies": c}), tiny_store).steps_per_epoch
        for c in (0, 2)
    ]
    assert steps[1] == pytest.approx(3 * steps[0], abs=2)


def test_exact_frames_are_those_of_every_batch_and_the_middle_in_evaluation(
    tiny_store: Store,
) -> None:
    for frames in (10, 50):  # the longest clip has 40
        config = small_config("stack", **{"data.frames": frames})
        experiment = experiment_of(config, tiny_store)
        assert experiment.crop_frames == experiment.pad_frames == frames
        batch = next(feed_of(tiny_store).train_iterator(np.arange(60), frames, seed=0))
        assert batch["features"].shape == (8, frames, 8)
    test = feed_of(tiny_store).eval_batches(np.arange(60), 10)(0)
    for clip in range(8):
        length, first = tiny_store.lengths[clip], tiny_store.offsets[clip]
        start = first + max(length - 10, 0) // 2
        valid = min(length, 10)
        np.testing.assert_array_equal(
            test["features"][clip, :valid], tiny_store.frames[start : start + valid]
        )


def test_fixed_normalisation_is_the_configuration_s(tiny_store: Store) -> None:
    changes = {"data.normalize": "fixed", "data.fixed_mean": -8.8, "data.fixed_std": 20.9}
    current = initial_state(experiment_of(small_config("stack", **changes), tiny_store), 1)
    np.testing.assert_array_equal(current.mean, np.full(8, -8.8, np.float32))
    np.testing.assert_array_equal(current.std, np.full(8, 20.9, np.float32))


def test_cropped_bins_and_copies_feed_alike_from_host_and_device(tiny_store: Store) -> None:
    changes = {"data.crop_bins": 6, "augment.copies": 1, "augment.time_roll": False}
    found = [
        losses_of(
            experiment_of(small_config("stack", **changes, **{"data.feed": feed}), tiny_store), [1]
        )
        for feed in ("stream", "resident")
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
