"""The baselines are scikit-learn's regression, and hear only what they are said to hear."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsound.config import default_config
from jaxsound.evaluation import baselines
from jaxsound.features.store import Store


@pytest.mark.parametrize("classes", [3, 7])
def test_the_regression_equals_scikit_learn_s(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=200)
    values = rng.normal(size=(200, 5)) + rng.normal(size=(classes, 5))[labels]
    weights, bias = baselines.regression(values, labels)
    theirs = LogisticRegression(C=baselines.STRENGTH, tol=1e-8, max_iter=5000).fit(values, labels)
    ours = values @ weights + bias
    logits = theirs.decision_function(values)
    np.testing.assert_allclose(
        ours - ours.mean(1, keepdims=True), logits - logits.mean(1, keepdims=True), atol=2e-3
    )


def test_a_class_without_training_clips_is_never_said() -> None:
    values = np.array([[0.0], [0.1], [5.0], [5.1]])
    said = baselines.predicted(values, np.array([0, 0, 2, 2]), np.linspace(-9, 9, 50)[:, None])
    assert set(said.tolist()) == {0, 2}


def told_by(store: Store) -> dict[str, float]:
    result = baselines.measure(default_config("cnn"), store)
    return {name: part["accuracy_mean"] for name, part in result.items()}


def with_lengths(store: Store, lengths: np.ndarray, frames: np.ndarray) -> Store:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return dataclasses.replace(store, offsets=offsets, frames=frames[: offsets[-1]])


def test_each_baseline_finds_its_own_shortcut_and_no_other(tiny_store: Store) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 8)).astype(np.float32)
    by_length = np.array([6, 30, 12])[tiny_store.labels] + rng.integers(0, 3, 60)
    found = told_by(with_lengths(tiny_store, by_length, noise))
    assert found["duration"] > 0.95
    assert found["most frequent class"] < 0.5
    lengths = rng.integers(10, 30, 60)
    of_class = np.zeros((3, 8))
    of_class[0, 0] = of_class[2, 7] = 3
    level = np.repeat(of_class[tiny_store.labels], lengths, axis=0)
    found = told_by(with_lengths(tiny_store, lengths, noise[: len(level)] + level))
    assert found["bands"] > 0.95
    assert found["duration"] < 0.6


def test_what_is_tested_on_trains_nothing() -> None:
    """Clips of the test fold that are wild change nothing of what the others are taken for."""
    rng = np.random.default_rng(1)
    train, labels = rng.normal(size=(40, 3)), rng.integers(3, size=40)
    test = rng.normal(size=(10, 3))
    wild = np.concatenate([test, 1e6 * rng.normal(size=(5, 3))])
    alone = baselines.predicted(train, labels, test)
    np.testing.assert_array_equal(baselines.predicted(train, labels, wild)[:10], alone)


def test_it_is_a_command(folder: Path, kept: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "from jaxsound.config import default_config\n"
        "def get_config(arg=''):\n"
        "    config = default_config('cnn')\n"
        "    config.data.name = 'audio_folder'\n"
        f"    config.data.manual_dir = {str(folder)!r}\n"
        f"    config.data.cache_dir = {str(kept)!r}\n"
        "    config.data.make_folds = 2\n"
        "    config.frontend.sample_rate, config.frontend.n_mels = 8000, 16\n"
        "    config.frontend.n_fft, config.frontend.hop_length = 256, 80\n"
        "    return config\n"
    )
    command = [sys.executable, "-m", "jaxsound.evaluation.baselines", f"--config={config}"]
    done = subprocess.run(
        [*command, f"--json={tmp_path / 'out.json'}"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "duration" in done.stdout
    assert "over 2 folds" in done.stdout
    assert (tmp_path / "out.json").exists()
    wrong = [*command, "--config.data.make_folds=1"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
