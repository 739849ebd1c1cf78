"""Uneven classes and doubtful labels: what is drawn, what counts, and what is learnt of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsound.config import default_config, validate
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.experiment import initial_state, make_experiment, take_steps, train_iterator
from jaxsound.features import clip
from jaxsound.features.frontend import FrontendConfig
from jaxsound.features.store import Store
from jaxsound.input import pipeline
from jaxsound.training import losses, state, step
from tests.input.test_pipeline import feed_of, small_config

CLASSES = 3
LABELS = np.repeat([0, 1, 3], [40, 9, 2])


@pytest.mark.parametrize("seed", [0, 5])
def test_a_balanced_epoch_has_each_class_equally_often_and_each_of_its_clips(seed: int) -> None:
    order = pipeline.Order(len(LABELS), len(LABELS), seed, LABELS)
    for epoch in range(3):
        drawn = order[epoch]
        assert len(drawn) == len(LABELS)
        counts = np.bincount(LABELS[drawn])
        assert counts.tolist() == [17, 17, 0, 17]
        for label in (0, 1, 3):
            times = np.bincount(drawn, minlength=len(LABELS))[label == LABELS]
            assert times.max() - times.min() <= 1
    assert order[0].tolist() != order[1].tolist()
    again = pipeline.Order(len(LABELS), len(LABELS), seed, LABELS)
    assert again[2].tolist() == order[2].tolist()
    halves = pipeline.Order(len(LABELS), 17, seed, LABELS)
    assert np.concatenate([halves[i] for i in range(3)]).tolist() == order[0].tolist()


def test_balanced_sampling_reaches_training_and_only_by_configuration(tiny_store: Store) -> None:
    labels = np.where(np.arange(60) % 10 == 0, 1, tiny_store.labels % 2 * 2).astype(np.int32)
    store = dataclasses.replace(tiny_store, labels=labels)
    shares = {}
    for sampling in ("shuffled", "balanced"):
        config = small_config("cnn", **{"data.sampling": sampling})
        splits = {1: folds.split(store, 1)}
        iterator = train_iterator(make_experiment(config, store, splits, stacked=False), 1)
        found = np.concatenate([next(iterator)["label"] for _ in range(30)])
        iterator.close()
        shares[sampling] = np.bincount(found, minlength=3) / len(found)
    np.testing.assert_allclose(shares["balanced"], 1 / 3, atol=0.03)
    assert shares["shuffled"][1] < 0.15


def test_shares_are_those_of_the_labels() -> None:
    weights = losses.class_weights("balanced", LABELS, 4)
    found = np.exp(losses.log_shares(jnp.asarray(weights)))
    np.testing.assert_allclose(found[[0, 1, 3]], np.array([40, 9, 2]) / 51, rtol=1e-5)
    assert found[2] == pytest.approx(2 / 51)  # no clips: as rare as the rarest


@dataclasses.dataclass(frozen=True)
class Blind(state.Network):
    """A network that hears nothing: its logits are its parameters."""

    def apply(self, params: Any, stats: Any, features: Any, length: Any, **_: Any) -> Any:
        return jnp.broadcast_to(params["bias"], (len(features), self.classes)), stats


def learnt(batch: step.Batch, steps: int = 400, **changes: Any) -> np.ndarray:
    """Probabilities that a network which hears nothing ends with, trained on one batch."""
    config = default_config("cnn")
    config.update_from_flattened_dict(changes)
    labels = np.asarray(batch["label"])
    kind = "balanced" if config.loss.logit_adjustment else config.loss.class_weights
    optimizer = optax.sgd(1.0)
    current = state.create_state(
        {"bias": jnp.zeros(CLASSES)},
        {},
        optimizer,
        mean=jnp.zeros(4),
        std=jnp.ones(4),
        class_weight=losses.class_weights(kind, labels, CLASSES),
        ema=False,
    )
    network = Blind(None, CLASSES, 4)
    run = jax.jit(step.make_train_step(network, optimizer, config, 5))
    for _ in range(steps):
        current, _ = run(current, batch, jax.random.key(0))
    return np.asarray(jax.nn.softmax(current.params["bias"]))


def batch_of(labels: list[int], weight: list[float] | None = None) -> step.Batch:
    count = len(labels)
    batch = {
        "features": jnp.zeros((count, 5, 4)),
        "length": jnp.full(count, 5),
        "label": jnp.asarray(labels),
        "mask": jnp.ones(count, bool),
    }
    return batch if weight is None else batch | {"weight": jnp.asarray(weight)}


UNEVEN = [0] * 12 + [1] * 3 + [2]


def test_logit_adjustment_takes_the_shares_of_classes_out_of_what_is_learnt() -> None:
    batch = batch_of(UNEVEN)
    np.testing.assert_allclose(learnt(batch), np.array([12, 3, 1]) / 16, atol=2e-3)
    even = learnt(batch, **{"loss.logit_adjustment": 1.0})
    np.testing.assert_allclose(even, np.full(3, 1 / 3), atol=2e-3)
    beyond = learnt(batch, **{"loss.logit_adjustment": 2.0})
    assert beyond[2] > beyond[1] > beyond[0]
    weighed = learnt(batch, **{"loss.class_weights": "balanced"})
    np.testing.assert_allclose(weighed, np.full(3, 1 / 3), atol=2e-3)


def test_an_unverified_label_counts_as_much_as_it_is_told_to() -> None:
    labels, verified = [0, 0, 0, 1, 1, 2], np.array([1, 1, 0, 0, 0, 1])
    weight = np.where(verified, 1, 0.25)
    expected = np.bincount(labels, weights=weight) / weight.sum()
    found = learnt(batch_of(labels, weight.tolist()), **{"loss.unverified_weight": 0.25})
    np.testing.assert_allclose(found, expected, atol=2e-3)
    without = learnt(batch_of([0, 0, 2]))
    found = learnt(
        batch_of(labels, verified.astype(float).tolist()), **{"loss.unverified_weight": 0.0}
    )
    np.testing.assert_allclose(found, without, atol=2e-3)


@pytest.mark.parametrize("mix", ["mixup", "time_mix"])
def test_weights_go_with_their_labels_through_what_mixes_clips(mix: str) -> None:
    """All alike they change nothing; a clip of no weight leaves no label in its mixes."""
    options = {f"augment.{mix}": 0.9, "augment.freq_mix": 0.3}
    plain = learnt(batch_of(UNEVEN), steps=5, **options)
    half = batch_of(UNEVEN, [0.5] * len(UNEVEN))
    alike = learnt(half, steps=5, **options, **{"loss.unverified_weight": 0.5})
    np.testing.assert_allclose(alike, plain, rtol=1e-5)
    without = batch_of(UNEVEN, [float(label != 0) for label in UNEVEN])
    left = learnt(without, steps=200, **options, **{"loss.unverified_weight": 0.0})
    assert left[0] < 0.02


def test_a_batch_has_the_weights_of_its_clips(tiny_store: Store) -> None:
    weights = np.arange(60) / 60
    clips = np.arange(5, 50)
    for resident in (False, True):
        feed = feed_of(tiny_store, resident)
        iterator = feed.train_iterator(clips, 16, 3, weights=weights)
        for number in (1, 2, 3):
            drawn = feed.clips_of(number, clips, 16, 3)
            batch = next(iterator)
            np.testing.assert_allclose(batch["weight"], weights[drawn], rtol=1e-6)
        iterator.close()


def with_verified(store: Store, folder: Path, told: list[int]) -> Store:
    lines = [json.dumps({"manually_verified": value}) for value in told]
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n")
    return dataclasses.replace(store, path=folder)


def test_the_store_s_verified_labels_become_weights(tiny_store: Store, tmp_path: Path) -> None:
    told = [(-1, 0, 1)[i // 3 % 3] for i in range(60)]
    store = with_verified(tiny_store, tmp_path, told)
    config = small_config("cnn", **{"loss.unverified_weight": 0.5})
    splits = {1: folds.split(store, 1)}
    experiment = make_experiment(config, store, splits, stacked=False)
    expected = [0.5 if value == 0 else 1.0 for value in told]
    assert experiment.clip_weights is not None
    assert experiment.clip_weights.tolist() == expected
    iterator = train_iterator(experiment, 1)
    batch = experiment.feed.place([next(iterator)])
    iterator.close()
    current = experiment.placement.stack([initial_state(experiment, 1)])
    key = experiment.placement.stack([state.stream_key(0, "train", 1)])
    _, metrics = experiment.train_step(current, batch, key)
    assert np.isfinite(metrics["loss"])
    plain = make_experiment(small_config("cnn"), store, splits, stacked=False)
    assert plain.clip_weights is None


@pytest.mark.parametrize("option", ["stacked", "several"])
def test_weights_and_soft_labels_go_with_their_fold(
    tiny_store: Store, tmp_path: Path, option: str
) -> None:
    """Side by side, or several steps in a call, they are those of one fold's step after another."""
    store = with_verified(tiny_store, tmp_path, [i % 2 for i in range(60)])
    rng = np.random.default_rng(0)
    said = {fold: rng.dirichlet(np.ones(3), 60).astype(np.float32) for fold in (1, 2)}
    config = small_config("cnn", **{"loss.unverified_weight": 0.25})
    splits = {fold: folds.split(store, fold) for fold in (1, 2)}

    def losses_of(group: list[int], count: int, *, stacked: bool = False) -> np.ndarray:
        made = make_experiment(config, store, splits, stacked=stacked)
        made = dataclasses.replace(made, targets=said)
        current = made.placement.stack([initial_state(made, fold) for fold in group])
        key = made.placement.stack([state.stream_key(0, "train", fold) for fold in group])
        iterators = [train_iterator(made, fold) for fold in group]
        found = []
        for _ in range(2 // count):
            current, metrics = take_steps(made, current, iterators, key, count)
            found.append(np.asarray(metrics["loss"]).reshape(len(group), count))
        for iterator in iterators:
            iterator.close()
        return np.concatenate(found, axis=1)

    alone = np.concatenate([losses_of([fold], 1) for fold in (1, 2)])
    if option == "stacked":
        together = losses_of([1, 2], 1, stacked=True)
    else:
        together = np.concatenate([losses_of([fold], 2) for fold in (1, 2)])
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    said = {1: said[2], 2: said[1]}
    assert np.abs(losses_of([1], 1) - alone[:1]).max() > 1e-3


def test_labels_of_which_nothing_is_told_are_refused(tiny_store: Store, tmp_path: Path) -> None:
    store = with_verified(tiny_store, tmp_path, [-1] * 60)
    config = small_config("cnn", **{"loss.unverified_weight": 0.5})
    with pytest.raises(UserError, match="does not tell which labels are verified"):
        make_experiment(config, store, {1: folds.split(store, 1)}, stacked=False)


@pytest.mark.parametrize("told", [1, 0, -1, None])
def test_a_record_s_line_says_whether_its_label_is_verified(told: int | None) -> None:
    frontend = FrontendConfig(sample_rate=8000, n_fft=256, hop_length=100, n_mels=8, n_mfcc=8)
    record = {"clip_id": "a", "label": 0, "group": "a", "fold": 0, "sample_rate": 8000}
    record["audio"] = np.zeros(900, np.int16)
    if told is not None:
        record["manually_verified"] = np.int64(told)
    _, line = clip.transform(frontend, record)
    assert line["manually_verified"] == (-1 if told is None else told)


@pytest.mark.parametrize("other", ["data.sampling", "loss.class_weights"])
def test_classes_are_balanced_once(other: str) -> None:
    config = default_config("cnn")
    config.update_from_flattened_dict({"loss.logit_adjustment": 1.0, other: "balanced"})
    with pytest.raises(UserError, match=r"config\.loss\.logit_adjustment=1\.0"):
        validate(config)
