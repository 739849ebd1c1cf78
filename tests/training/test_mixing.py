"""Mixing that ends before training does, by the number of the step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsound.config import default_config
from jaxsound.data import folds
from jaxsound.experiment import make_experiment
from jaxsound.features.frontend import FrontendConfig
from jaxsound.features.store import Store
from jaxsound.training import hearing, state, step
from tests.training.test_step import BINS, CLASSES, FRAMES, Looking, batch_of, config_of

MIXED = {"augment.mixup": 0.4, "augment.time_mix": 0.5, "augment.freq_mix": 0.5}


def seen(mixing_steps: int | None, at: int) -> np.ndarray:
    """What the network is given at step `at`."""
    network, optimizer = Looking(None, CLASSES, BINS), optax.sgd(0.0)
    start = state.create_state(
        {"w": jnp.zeros(())},
        {},
        optimizer,
        mean=jnp.zeros(BINS),
        std=jnp.ones(BINS),
        class_weight=jnp.ones(CLASSES),
        ema=False,
    )
    start = dataclasses.replace(start, step=jnp.int32(at))
    made = step.make_train_step(network, optimizer, config_of(**MIXED), FRAMES, None, mixing_steps)
    new, _ = jax.jit(made)(start, batch_of(), jax.random.key(0))
    return np.asarray(new.stats["seen"])


@pytest.mark.parametrize("at", [0, 7])
def test_clips_are_mixed_until_the_step_and_then_single(at: int) -> None:
    always = seen(None, at)
    np.testing.assert_array_equal(seen(at + 1, at), always)
    batch = batch_of()
    past = np.arange(FRAMES) >= np.asarray(batch["length"])[:, None]
    single = np.where(past[..., None], np.nan, batch["features"])
    np.testing.assert_array_equal(seen(at, at), single)
    assert not np.array_equal(always, single, equal_nan=True)


def test_sounds_are_mixed_until_the_step_and_then_single() -> None:
    config: Any = config_of(**{"augment.between_class": 1.0, "augment.polarity": True}).augment
    features = FrontendConfig(sample_rate=4000, n_fft=64, hop_length=32, n_mels=8)
    hear = jax.jit(hearing.make_hearing(config, features, size=800, classes=3))
    sound = np.random.default_rng(0).integers(-9000, 9000, (6, 800), np.int16)
    length, label = jnp.array([800, 700, 3, 0, 800, 512]), jnp.arange(6) % 3
    batch = {"features": jnp.asarray(sound), "length": length, "label": label}
    key = jax.random.key(1)
    mixed, single = hear(key, batch, jnp.bool_(True)), hear(key, batch, jnp.bool_(False))
    for found, wanted in zip(mixed, hear(key, batch), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert (np.asarray(mixed[2]).max(1) < 1).all()
    np.testing.assert_array_equal(single[2], np.eye(3)[label])
    config.between_class = 0.0
    never = jax.jit(hearing.make_hearing(config, features, size=800, classes=3))(key, batch)
    np.testing.assert_allclose(single[0], never[0], atol=1e-4)
    np.testing.assert_array_equal(single[1], never[1])


@pytest.mark.parametrize(("until", "share"), [(0.9, 0.9), (0.25, 0.25), (1.0, None)])
def test_an_experiment_mixes_for_its_share_of_all_steps(
    until: float, share: float | None, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def made(*args: Any) -> Any:
        given.append(args[-1])
        return lambda state, batch, key: (state, batch)

    monkeypatch.setattr(step, "make_train_step", made)
    config = default_config("cnn")
    config.update_from_flattened_dict({"augment.until": until, "epochs": 20, "batch_size": 8})
    splits = {1: folds.split(tiny_store, 1)}
    experiment = make_experiment(config, tiny_store, splits, stacked=False)
    assert given == [None if share is None else round(share * experiment.steps)]
