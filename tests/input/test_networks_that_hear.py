"""Networks that take samples run like any other: the same run however fed, and the same in use."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxsound import train
from jaxsound.config import default_config, validate
from jaxsound.errors import UserError
from jaxsound.evaluation import images
from jaxsound.experiment import evaluator
from jaxsound.features.store import Store
from jaxsound.serving.classifier import Classifier
from jaxsound.training.restore import restore
from tests.input.test_waveforms import (
    RATE,
    experiment_of,
    made_store,
    on_devices,
    recordings,
    run,
)
from tests.tiny import lines_alone


def config_of(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("wav2vec2")
    config.epochs = 1
    config.batch_size = 8
    config.data.pad_seconds = 0.5
    config.frontend.sample_rate = RATE
    config.model.update({"channels": 4, "width": 8, "depth": 1, "heads": 2, "hidden": 4})
    config.model.update({"positions": 4, "position_groups": 2, "dropout": 0.0})
    config.update_from_flattened_dict(changes)
    validate(config)
    return config


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store(tmp_path_factory.mktemp("cache"), recordings(), config_of())


def test_streamed_and_resident_samples_train_alike(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_devices(monkeypatch, 1)
    assert store.frames.dtype == np.int16
    assert store.sound is None
    found = [
        run(experiment_of(config_of(**{"data.feed": feed}), store), [1])
        for feed in ("stream", "resident")
    ]
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_a_recording_is_in_use_what_it_is_in_evaluation(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_devices(monkeypatch, 1)
    experiment = experiment_of(config_of(), store)
    with lines_alone():
        train.train_folds(experiment, [1], tmp_path)
    model = restore(tmp_path / "fold_1")
    # So young a network tells no clip from another.
    params = jax.tree.map(
        lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), model.params
    )
    model = dataclasses.replace(model, state=dataclasses.replace(model.state, params=params))
    (tested,) = evaluator(experiment, [1], "test")(model.state, 0)
    classifier, clips = Classifier([model]), recordings()
    for index, logits in zip(tested.clips[1:6], tested.logits[1:6], strict=True):
        heard = classifier.predict(clips[index]["audio"], RATE)
        np.testing.assert_allclose(heard.probabilities, jax.nn.softmax(logits), atol=1e-5)
    assert np.ptp(tested.logits, 0).max() > 0.1


def test_samples_are_drawn_as_a_line(store: Store) -> None:
    drawn = images.spectrograms(store, np.array([1, 2]))
    assert drawn.dtype == np.uint8
    assert len(np.unique(drawn)) > 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frontend.kind": "log_mel", "frontend.dtype": "float16"}, "frontend.kind='log_mel'"),
        ({"data.input": "waveform"}, "data.input='waveform'"),
        ({"frontend.delta": 1}, "frontend.delta=1"),
        ({"frontend.scale": "minmax"}, "frontend.scale=minmax"),
        ({"frontend.resize_frames": 9}, "frontend.resize_frames=9"),
        ({"frontend.seconds": 1.0, "frontend.pad": "floor"}, "frontend.pad=floor"),
        ({"frontend.dtype": "float32"}, "frontend.dtype=float32"),
    ],
)
def test_what_samples_do_not_have_is_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as error:
        config_of(**changes)
    assert len(str(error.value).splitlines()) == 1
