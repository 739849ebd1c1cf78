"""The same numbers whatever reads the batches, to the bit, and whatever computes them, to 1e-5."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest

from jaxsound.config import default_config, validate
from jaxsound.data import folds
from jaxsound.experiment import (
    Experiment,
    initial_state,
    make_experiment,
    take_steps,
    train_iterator,
)
from jaxsound.features.store import Store
from jaxsound.training import state

STEPS = 20
TINY: dict[str, dict[str, Any]] = {
    "cnn": {"channels": (4, 8), "convs": 1},
    "transformer": {"width": 8, "heads": 2, "depth": 1, "stem_channels": (4,)},
}


def experiment_of(store: Store, model: str, **changes: Any) -> Experiment:
    config = default_config(model)
    config.model.update(TINY[model])
    config.update_from_flattened_dict(
        {
            "batch_size": 16,
            "epochs": STEPS,
            "frontend.n_mels": 8,
            "augment.time_masks": 1,
            "augment.mixup": 0.3,
            **changes,
        }
    )
    validate(config)
    splits = {1: folds.split(store, 1, validation=0.0)}
    return make_experiment(config, store, splits, stacked=False)


def trained(experiment: Experiment) -> tuple[Any, list[float]]:
    """The state and all losses of some steps."""
    current = experiment.placement.stack([initial_state(experiment, 1)])
    key = experiment.placement.stack([state.stream_key(0, "train", 1)])
    iterator, losses = train_iterator(experiment, 1), []
    for _ in range(STEPS):
        current, metrics = take_steps(experiment, current, [iterator], key, 1)
        losses.append(float(metrics["loss"]))
    iterator.close()
    return jax.tree.map(np.asarray, current), losses


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_runs_with_any_number_of_reading_threads_are_identical(
    model: str, tiny_store: Store
) -> None:
    one = jax.devices()[:1]
    with mock.patch.object(jax, "devices", return_value=one):
        experiments = [
            experiment_of(tiny_store, model, **{"data.feed": "stream", "data.read_threads": n})
            for n in (0, 0, 1, 2, 4)
        ]
    found = [trained(experiment) for experiment in experiments]
    for other, losses in found[1:]:
        assert losses == found[0][1]
        jax.tree.map(np.testing.assert_array_equal, other, found[0][0])


def on_devices(store: Store) -> dict[str, dict[int, list[float]]]:
    """Losses of both models on 1, 2, 4 and 8 devices, in a process that has 8."""
    everything, found = jax.devices(), {}
    for model in TINY:
        found[model] = {}
        for count in (1, 2, 4, 8):
            with mock.patch.object(jax, "devices", lambda count=count: everything[:count]):
                experiment = experiment_of(store, model)
            assert experiment.placement.mesh.size == count
            found[model][count] = trained(experiment)[1]
    return found


def test_1_2_4_and_8_devices_agree(tiny_store: Store, tmp_path: Path) -> None:
    names = ("frames", "offsets", "labels", "folds", "groups", "clip_ids")
    np.savez(tmp_path / "store.npz", **{name: getattr(tiny_store, name) for name in names})
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_determinism", str(tmp_path / "store.npz")],
        cwd=Path(__file__).parents[1],
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            # A busy machine may not run all eight within XLA's 40 seconds.
            "XLA_FLAGS": "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for model, losses in json.loads(done.stdout.splitlines()[-1]).items():
        assert len(losses) == 4
        for count, found in losses.items():
            assert len(found) == STEPS
            np.testing.assert_allclose(
                found, losses["1"], rtol=0, atol=1e-5, err_msg=(model, count)
            )


def main(path: str) -> None:
    from jaxsound.features.frontend import FrontendConfig

    arrays = dict(np.load(path))
    meta = {"left_out": [], "note": "", "citation": "", "licence": "", "homepage": ""}
    store = Store(
        path=Path(path),
        class_names=("a", "b", "c"),
        frontend=FrontendConfig(n_mels=8),
        publisher_folds=False,
        meta=meta,
        **arrays,
    )
    print(json.dumps(on_devices(store)))


if __name__ == "__main__":
    main(sys.argv[1])
