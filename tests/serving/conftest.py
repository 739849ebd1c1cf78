"""An untrained model is enough: what it says of a sound must not depend on how the sound came."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound.config import default_config, frontend_config
from jaxsound.experiment import input_shape
from jaxsound.job import workdir
from jaxsound.serving.classifier import Classifier
from jaxsound.training import state
from jaxsound.training.checkpoint import Checkpoints
from jaxsound.training.restore import Trained

RATE, SECONDS = 8000, 1.0
NAMES = ("bark", "bell", "rain")


def trained(
    seed: int = 0, names: tuple[str, ...] = NAMES, model: str = "cnn", **changes: Any
) -> Trained:
    """A small network with random weights, that hears a second at 8 kHz."""
    config = default_config(model)
    if model == "cnn":
        config.model.update({"channels": (8, 16), "convs": 1})
    config.frontend.update({"sample_rate": RATE, "n_fft": 256, "hop_length": 80, "n_mels": 16})
    config.data.pad_seconds = SECONDS
    config.update_from_flattened_dict(changes)
    frames, bins = input_shape(config, longest=10**9)
    network, params, stats = state.build_network(
        config.model, features=bins, classes=len(names), frames=frames, key=jax.random.key(seed)
    )
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
    whole = state.TrainState(
        step=jnp.int32(7),
        params=params,
        stats=stats,
        opt_state=None,
        ema=None,
        mean=jnp.full(frontend_config(config).features, -40.0),
        std=jnp.full(frontend_config(config).features, 15.0),
        class_weight=jnp.ones(len(names)),
    )
    return Trained(config, names, frontend_config(config), 7, frames, network, whole)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """One model."""
    return Classifier([trained()])


def sound(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone that rises within what 8 kHz can carry, in noise; float32 `[n]`."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    noise = 0.01 * rng.standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * (200 + 100 * time) * time) + noise).astype(np.float32)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory with the checkpoints of two folds."""
    directory = tmp_path_factory.mktemp("run")
    for fold in (1, 2):
        model = trained(seed=fold)
        about = {
            "config": json.loads(model.config.to_json()),
            "class_names": list(model.class_names),
            "features": model.frontend.features,
            "frames": model.frames,
            "folds": [fold],
        }
        state = dataclasses.replace(model.state, opt_state={})
        with Checkpoints(workdir.checkpoints(directory, [fold])) as checkpoints:
            checkpoints.save(model.step, state, {}, about, 1.0)
    return directory
