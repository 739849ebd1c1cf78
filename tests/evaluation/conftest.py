"""A finished run: untrained networks do, for what is said of a run must not depend on its skill."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy import special

from jaxsound.data import folds
from jaxsound.evaluation import crossval
from jaxsound.experiment import input_shape
from jaxsound.input import finished
from jaxsound.input.stores import prepare_store
from jaxsound.job import workdir
from jaxsound.training.checkpoint import Checkpoints
from tests.serving.conftest import NAMES, RATE, sound, trained

CLIPS = 12  # of each class


def make_run(directory: Path, data: Path, cache: Path, seed: int = 0, **changes: Any) -> Path:
    """A run of two folds on the recordings in `data`, by networks of random weights."""
    changes = {
        "batch_size": 8,
        "data.name": "audio_folder",
        "data.manual_dir": str(data),
        "data.cache_dir": str(cache),
        "data.make_folds": 2,
        "data.validation": 0.25,
        **changes,
    }
    config = trained(**changes).config
    config.seed = seed
    store = prepare_store(config)
    workdir.claim(directory, config, store)
    frames, _ = input_shape(config, int(store.lengths.max()))
    for fold in (1, 2):
        model = trained(seed=10 * seed + fold, **changes)
        model = dataclasses.replace(model, frames=frames)
        about = workdir.about_checkpoint(config, store, [fold], frames)
        with Checkpoints(workdir.checkpoints(directory, [fold])) as checkpoints:
            state = dataclasses.replace(model.state, opt_state={})
            checkpoints.save(model.step, state, {}, about, 1.0)
        split = folds.split(store, fold, validation=0.25, seed=seed)
        said = finished.logits(model, finished.frames_of(store, split.test))
        crossval.write_fold(
            directory,
            crossval.FoldResult(
                fold=fold,
                class_names=store.class_names,
                clip_ids=store.clip_ids[split.test],
                groups=store.groups[split.test],
                labels=store.labels[split.test],
                probabilities=special.softmax(said, axis=1),
                steps=7,
                seconds=1.0,
                clips={part: len(getattr(split, part)) for part in ("train", "validation", "test")},
                extra={"weights": "last", "crossings": []},
            ),
        )
    about = workdir.about_data(store) | {"config": json.loads(config.to_json())}
    crossval.gather(directory, [1, 2], about)
    return directory


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of three classes, of 0.3 to 1.4 s."""
    place = tmp_path_factory.mktemp("folder")
    for label, name in enumerate(NAMES):
        (place / name).mkdir()
        for i in range(CLIPS):
            clip = sound(0.3 + 0.1 * i, seed=100 * label + i)
            time = np.arange(len(clip)) / RATE
            clip = clip * (1 + np.sin(2 * np.pi * 10 * (label + 1) * time)).astype(np.float32) / 2
            soundfile.write(place / name / f"{i}.wav", clip, RATE, subtype="PCM_16")
    return place


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for its features."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, folder: Path, kept: Path) -> Path:
    """A run of two folds, of seed 0."""
    return make_run(tmp_path_factory.mktemp("runs") / "one", folder, kept)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory, folder: Path, kept: Path) -> Path:
    """The same, of seed 1."""
    return make_run(tmp_path_factory.mktemp("runs") / "two", folder, kept, seed=1)
