"""Probes are scikit-learn's regressions, test clips choose nothing, embeddings see no padding."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsound import probe as command
from jaxsound.config import default_config
from jaxsound.data import folds
from jaxsound.data.folds import Split
from jaxsound.errors import UserError
from jaxsound.evaluation import probe
from jaxsound.evaluation.probe import Point
from jaxsound.features.store import Store
from jaxsound.training.state import build_network
from tests.serving.conftest import trained

FEW = (Point(0, 1e-2, 1e-2), Point(0, 1e-1, 1e-2), Point(8, 1e-2, 1e-2))


def clouds(classes: int = 4, clips: int = 160, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings that overlap, and their labels."""
    rng = np.random.default_rng(classes)
    labels = np.arange(clips) % classes
    values = rng.normal(size=(clips, width)) + rng.normal(size=(classes, width))[labels]
    return values.astype(np.float32), labels


def thirds(clips: int) -> Split:
    parts = np.arange(clips) % 8
    train, validation, test = parts < 5, parts == 5, parts > 5
    return Split(*(np.flatnonzero(part) for part in (train, validation, test)))


def test_linear_probes_side_by_side_are_scikit_learn_s_regressions() -> None:
    values, labels = clouds()
    points = [Point(0, 3e-2, 1e-2), Point(0, 3e-2, 1e-1), Point(0, 3e-2, 1.0)]
    found = probe.fit(points, values, labels, 4, steps=1500, key=jax.random.key(0))
    for point, (layer,) in zip(points, found, strict=True):
        strength = 1 / (point.l2 * len(values))
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=5000).fit(values, labels)
        ours = values @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        logits = theirs.decision_function(values)
        ours, logits = (x - x.mean(1, keepdims=True) for x in (ours, logits))
        np.testing.assert_allclose(ours, logits, atol=2e-3)


def test_a_hidden_layer_tells_what_no_line_does() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([-1.0, 1.0], size=(200, 2)).astype(np.float32)
    labels = (values.prod(axis=1) > 0).astype(int)
    noisy = values + 0.1 * rng.normal(size=values.shape).astype(np.float32)
    grid = (Point(0, 1e-2, 1e-3), Point(32, 1e-2, 1e-3))
    chosen = probe.choose(noisy, labels, thirds(200), 2, grid=grid)
    assert chosen.point == grid[1]
    assert chosen.validation[0] < 0.8 < chosen.validation[1] == 1


def test_the_grid_is_chosen_by_validation_and_nothing_is_learnt_of_test_clips() -> None:
    values, labels = clouds()
    split = thirds(len(values))

    def chosen(values: np.ndarray, labels: np.ndarray) -> probe.Probe:
        return probe.choose(values, labels, split, 4, grid=FEW, steps=40)

    first = chosen(values, labels)
    assert max(first.validation) == first.validation[FEW.index(first.point)]
    for garbage in (np.nan, np.inf, 1e30):
        wild, other = values.copy(), labels.copy()
        wild[split.test], other[split.test] = garbage, 0
        again = chosen(wild, other)
        assert again.point == first.point
        assert again.validation == first.validation
        jax.tree.map(np.testing.assert_array_equal, again.layers, first.layers)
        np.testing.assert_array_equal(again.mean, first.mean)
        np.testing.assert_array_equal(again.std, first.std)
    # While validation clips choose and training clips teach.
    mixed = labels.copy()
    mixed[split.validation] = (mixed[split.validation] + 1) % 4
    assert chosen(values, mixed).validation != first.validation
    moved = values.copy()
    moved[split.train] *= 3
    assert not np.array_equal(chosen(moved, labels).std, first.std)


def test_among_equal_accuracies_the_surest_wins() -> None:
    values = np.repeat([[-1.0], [1.0]], 20, axis=0).astype(np.float32)
    grid = (Point(0, 1e-2, 1.0), Point(0, 1e-2, 1e-3), Point(0, 1e-2, 1e-1))
    found = probe.choose(values, np.repeat([0, 1], 20), thirds(40), 2, grid=grid, steps=100)
    assert found.validation == (1, 1, 1)
    assert found.point == grid[1]


def test_a_fold_without_validation_clips_is_refused() -> None:
    split = dataclasses.replace(thirds(160), validation=np.zeros(0, np.int64))
    with pytest.raises(UserError, match=r"config\.data\.validation: leaves fold 2"):
        probe.check({1: thirds(160), 2: split})


def small(store: Store, **changes: Any) -> Any:
    """A small network of random weights that hears the store's features."""
    model = trained(**{"model": "cnn", "frontend.n_mels": 8, "data.pad_seconds": 0.4} | changes)
    return dataclasses.replace(model, class_names=store.class_names)


def test_embeddings_depend_on_no_batch_and_no_padding(tiny_store: Store) -> None:
    model, clips = small(tiny_store), np.arange(len(tiny_store))
    assert tiny_store.lengths.max() <= model.frames
    found = probe.embeddings(model, tiny_store, clips)
    assert len(found) == len(clips)
    longer = dataclasses.replace(model, frames=model.frames + 24)
    np.testing.assert_allclose(probe.embeddings(longer, tiny_store, clips), found, atol=1e-5)
    model.config.batch_size = 7
    np.testing.assert_allclose(probe.embeddings(model, tiny_store, clips), found, atol=1e-5)
    alone = probe.embeddings(model, tiny_store, clips[3:4])
    np.testing.assert_allclose(alone, found[3:4], atol=1e-5)


def test_they_are_what_the_classifier_sees(tiny_store: Store) -> None:
    model, clips = small(tiny_store), np.arange(6)
    rows = [tiny_store.frames[tiny_store.offsets[i] : tiny_store.offsets[i + 1]] for i in clips]
    seen = probe.embeddings(model, tiny_store, clips)
    head = model.params["head"]
    said = seen @ np.asarray(head["kernel"][...]) + np.asarray(head["bias"][...])
    np.testing.assert_allclose(said, model.logits(*model.batch(rows)), atol=1e-4)


def test_a_network_of_sound_is_probed_before_all_that_is_new() -> None:
    config = default_config("wav2vec2")
    sizes = {"channels": 8, "width": 16, "depth": 1, "heads": 2, "positions": 4, "hidden": 4}
    config.model.update(sizes | {"position_groups": 2})
    network, params, stats = build_network(
        config.model, features=1, classes=3, frames=2000, key=jax.random.key(0)
    )
    x = np.random.default_rng(0).normal(size=(2, 2000, 1)).astype(np.float32)
    length = np.array([2000, 1500])

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both(*values: Any) -> Any:
        return network.embed(*values), network.embed(*values, command.NEW["wav2vec2"])

    plain, (logits, seen) = both(params, stats, x, length)
    assert plain[1].shape == (2, 4)
    assert seen.shape == (2, 16)
    np.testing.assert_allclose(logits, plain[0], atol=1e-5)


def test_a_network_that_breaks_down_names_the_clip(tiny_store: Store) -> None:
    model = small(tiny_store)
    broken = dataclasses.replace(model, state=dataclasses.replace(model.state, mean=np.nan))
    with pytest.raises(UserError, match="clip clip4: "):
        probe.embeddings(broken, tiny_store, np.arange(4, 9))


def test_features_are_normalised_by_each_fold_s_training_clips(tiny_store: Store) -> None:
    config = default_config("cnn")
    config.model.update({"channels": (8,), "convs": 1})
    config.frontend.n_mels = 8
    network = command.drawn(config, tiny_store)
    first, second = (folds.split(tiny_store, fold).train for fold in (1, 2))
    one, two = network(first), network(second)
    assert not np.array_equal(one.mean, two.mean)
    wanted = [tiny_store.frames[a:b] for a, b in zip(*spans(tiny_store, first), strict=True)]
    np.testing.assert_allclose(one.mean, np.concatenate(wanted).astype(float).mean(0), rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)


def spans(store: Store, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return store.offsets[clips], store.offsets[clips + 1]


def run_command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaxsound.probe", f"--workdir={folder}", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )


QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.py"


def test_the_command_on_synthesised_sounds(cache: Path, tmp_path: Path) -> None:
    done = run_command(
        f"--config={QUICKSTART}:fold=2",
        f"--config.data.cache_dir={cache}",
        "--config.model.depth=1",
        "--config.batch_size=50",
        folder=tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "probe.json").read_text())
    (fold,) = result["folds"]
    assert fold["fold"] == 2
    assert fold["accuracy"] > 0.3  # of ten classes
    assert fold["chosen"] in result["grid"]
    assert fold["validation_accuracy"] == max(fold["validation_of_grid"])
    assert result["embedding_width"] == 64
    assert result["config"]["model"]["depth"] == 1
    assert f"{100 * fold['accuracy']:.1f} %" in done.stdout
    assert "probe.json" in done.stdout
    assert "embeddings" in done.stderr


def test_of_a_run_each_fold_s_model_is_probed_on_that_fold(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "STEPS", 20)
    seen: list[Any] = []
    embeddings = probe.embeddings

    def noted(model: Any, *arguments: Any) -> np.ndarray:
        seen.append(model)
        return embeddings(model, *arguments)

    monkeypatch.setattr(probe, "embeddings", noted)
    result = command.of_run(run, {})
    assert [part["fold"] for part in result["folds"]] == [1, 2]
    assert [model.folds for model in seen] == [(1,), (2,)]
    assert result["run"] == str(run)


# absl's reader of config files.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no --config=FILE"),
        (("--config=none.py",), "no such file"),
        ((f"--config={QUICKSTART}", "--config.data.validation=0.0"), "config.data.validation=0.0"),
        ((f"--config={QUICKSTART}", "--config.modle=1"), "unknown key"),
        ((f"--config={QUICKSTART}", "--config.pretrained.weights=none"), "no such file or folder"),
        (("--run=none",), "config.json is missing"),
        ((f"--config={QUICKSTART}", "--run=none"), "name one of the two"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...],
    words: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JAXSOUND_CACHE", str(cache))
    argv = [f"--workdir={tmp_path}", *arguments]
    monkeypatch.setattr(sys, "argv", ["probe", *argv])  # where flags look for keys
    assert command.main(argv) == 2
    said = capsys.readouterr().err.strip().split("\n")
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert words in said[0]
    assert not list(tmp_path.iterdir())
