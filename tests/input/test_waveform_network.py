"""A network of samples trains on them like any other on features, stored or heard in the step."""

from typing import Any

import ml_collections
import numpy as np
import pytest

from jaxsound.config import default_config, validate
from jaxsound.features.store import Store
from tests.input.test_waveforms import (
    RATE,
    experiment_of,
    made_store,
    on_devices,
    recordings,
    run,
)

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    on_devices(monkeypatch, 1)


def samples_config(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("transformer")
    config.epochs = 3
    config.batch_size = 8
    config.data.update({"input": "waveform", "pad_seconds": 0.5, "normalize": "global"})
    config.frontend.update({"sample_rate": RATE, "kind": "waveform", "hop_length": 100})
    config.frontend.dtype = "float32"
    config.model.update({"stem": "waveform", "stem_channels": (4, 8), "stem_factors": (8, 4)})
    config.model.update({"width": 16, "depth": 1, "heads": 2, "stem_blocks": 0})
    config.update_from_flattened_dict(changes)
    validate(config)
    return config


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store(tmp_path_factory.mktemp("cache"), recordings(), samples_config())


def test_the_store_s_rows_are_the_samples(store: Store) -> None:
    assert store.sound is not None
    for i, clip in enumerate(recordings()):
        rows = store.frames[store.offsets[i] : store.offsets[i + 1]].ravel() * 32768
        np.testing.assert_array_equal(rows[: len(clip["audio"])], clip["audio"])
        assert (rows[len(clip["audio"]) :] == 0).all()


def test_stored_rows_and_rows_of_samples_train_alike(store: Store) -> None:
    # Neither crops: longer clips than pad_seconds there are none.
    heard = run(experiment_of(samples_config(), store), [1])
    stored = run(experiment_of(samples_config(**{"data.input": "features"}), store), [1])
    assert np.isfinite(heard).all()
    np.testing.assert_allclose(heard, stored, rtol=1e-3, atol=1e-4)


def test_sound_is_augmented_for_a_network_of_samples(store: Store) -> None:
    plain = run(experiment_of(samples_config(), store), [1])
    loud = samples_config(
        **{"augment.speed": 1.25, "augment.between_class": 1.0, "augment.shift": True}
    )
    augmented = run(experiment_of(loud, store), [1])
    assert np.isfinite(augmented).all()
    assert np.abs(augmented - plain).max() > 1e-2
