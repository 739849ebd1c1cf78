"""A result can be made again from the files it leaves, and says what it is made of."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxsound.errors import UserError
from jaxsound.evaluation import crossval

NAMES = ["dog, barking", 'a "quoted" class', "rain"]
CROSSING = {"group": "7", "folds": [1, 2], "labels": [0, 2]}


def make_fold(fold: int, clips: int = 20) -> crossval.FoldResult:
    rng = np.random.default_rng(fold)
    labels = rng.integers(len(NAMES), size=clips)
    logits = rng.normal(size=(clips, len(NAMES)))
    logits[np.arange(clips), labels] += 1.0
    return crossval.FoldResult(
        fold=fold,
        class_names=NAMES,
        clip_ids=np.array([f"{fold}/clip {i}, é.wav" for i in range(clips)]),
        groups=np.array([f"{fold}-{i // 3}" for i in range(clips)]),
        labels=labels,
        probabilities=(np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32),
        steps=100,
        seconds=12.5,
        clips={"train": 36, "validation": 4, "test": clips},
        extra={"crossings": [CROSSING], "validation": {"loss": float("nan")}},
    )


def run(workdir: Path, *folds: crossval.FoldResult, **about: object) -> dict:
    for fold in folds:
        crossval.write_fold(workdir, fold)
    return crossval.gather(workdir, [fold.fold for fold in folds], about)


def test_every_figure_follows_from_the_predictions_file_alone(tmp_path: Path) -> None:
    folds = make_fold(1, 20), make_fold(2, 31), make_fold(3, 9)
    result = run(tmp_path, *folds)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    truth = [row["truth"] for row in rows]
    predicted = [row["prediction"] for row in rows]
    written = np.array([[row[f"p_{name}"] for name in NAMES] for row in rows], np.float32)
    np.testing.assert_array_equal(written, np.concatenate([f.probabilities for f in folds]))
    assert [NAMES[i] for i in written.argmax(1)] == predicted
    assert result["accuracy_pooled"] == pytest.approx(
        sklearn_metrics.accuracy_score(truth, predicted)
    )
    confusion = sklearn_metrics.confusion_matrix(truth, predicted, labels=NAMES)
    assert result["confusion"] == confusion.tolist()
    f1 = sklearn_metrics.f1_score(truth, predicted, average="macro", labels=NAMES)
    assert result["macro_f1"] == pytest.approx(f1)


def test_mean_and_spread_are_over_folds_and_pooled_is_over_clips(tmp_path: Path) -> None:
    folds = make_fold(1, 20), make_fold(2, 31), make_fold(3, 9)
    result = run(tmp_path, *folds)
    right = [f.probabilities.argmax(1) == f.labels for f in folds]
    accuracies = [np.mean(part) for part in right]
    assert [fold["accuracy"] for fold in result["folds"]] == pytest.approx(accuracies)
    assert result["accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert result["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert result["accuracy_pooled"] == pytest.approx(np.mean(np.concatenate(right)))
    low, high = result["ci95"]
    assert low < result["accuracy_pooled"] < high
    assert result["clips_used"] == 60


def test_one_fold_has_no_spread(tmp_path: Path) -> None:
    result = run(tmp_path, make_fold(3))
    assert result["accuracy_std"] == 0.0
    assert "on fold 3 alone" in crossval.format_table(result)


def test_a_crossing_is_listed_once_and_the_rest_is_told(tmp_path: Path) -> None:
    left_out = [{"clip": "a.wav", "reason": "0 samples"}]
    note = "partial copy: 40 of 2000 clips"
    result = run(
        tmp_path,
        make_fold(1),
        make_fold(2),
        publisher_folds=True,
        clips_left_out=left_out,
        note=note,
        config={"seed": 0},
    )
    assert result["crossings"] == [CROSSING]
    assert result["clips_left_out"] == left_out
    assert result["config"] == {"seed": 0}
    assert "the publisher's" in result["protocol"]
    assert "jax" in result["versions"]
    table = crossval.format_table(result)
    assert note in table
    assert "1 clip was left out" in table
    assert "± " in table
    assert json.loads((tmp_path / "crossval.json").read_text(encoding="utf-8")) == result


def test_a_figure_says_whose_weights_it_is_of(tmp_path: Path) -> None:
    last = run(tmp_path / "last", make_fold(1), make_fold(2))
    assert crossval.headline(last).endswith("over 2 folds, last step")
    assert "Weights of the last step" in last["protocol"]
    best = [
        dataclasses.replace(
            make_fold(k), extra={"weights": "best", "monitor": "loss", "weights_epoch": 10 * k}
        )
        for k in (1, 2)
    ]
    result = run(tmp_path / "best", *best)
    assert crossval.headline(result).endswith("best on validation (epochs 10, 20)")
    assert "best on the validation split by loss" in result["protocol"]
    assert "last step" not in crossval.format_table(result)
    assert [fold["weights_epoch"] for fold in result["folds"]] == [10, 20]
    alone = crossval.gather(tmp_path / "best", [2], {})
    assert crossval.headline(alone).endswith("on fold 2 alone, best on validation (epoch 20)")


def test_the_best_epoch_on_the_test_fold_is_told_apart_and_called_no_result(
    tmp_path: Path,
) -> None:
    watched = [
        dataclasses.replace(
            make_fold(k), extra={"watched": {"accuracy": k / 4, "step": 30 * k, "epoch": 3 * k}}
        )
        for k in (2, 3)
    ]
    result = run(tmp_path, *watched)
    assert result["watched"] == {"accuracy_mean": pytest.approx(0.625), "epochs": [6, 9]}
    (told,) = [text for text in crossval.remarks(result) if "62.5 %" in text]
    assert "best epoch on the test fold" in told
    assert "no result" in told
    assert told in crossval.format_table(result)
    assert "62.5 %" not in crossval.headline(result)
    half = run(tmp_path / "half", watched[0], make_fold(3))
    assert half["watched"] is None


def test_the_files_are_json_that_every_reader_reads(tmp_path: Path) -> None:
    run(tmp_path, make_fold(1))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "fold_1.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["extra"]["validation"] == {"loss": None}


def test_a_fold_of_a_version_with_fewer_figures_is_gathered(tmp_path: Path) -> None:
    whole = run(tmp_path, make_fold(1), make_fold(2))
    path = tmp_path / "fold_1.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["brier"], record["ece"]
    path.write_text(json.dumps(record), encoding="utf-8")
    result = crossval.gather(tmp_path, [1, 2], {})
    assert result["brier"] == whole["brier"]
    assert [fold["brier"] for fold in result["folds"]] == [None, whole["folds"][1]["brier"]]


def test_a_missing_fold_is_named(tmp_path: Path) -> None:
    crossval.write_fold(tmp_path, make_fold(1))
    with pytest.raises(UserError, match=r"fold_2\.json is missing"):
        crossval.gather(tmp_path, [1, 2], {})
    assert not (tmp_path / "crossval.json").exists()
    crossval.write_fold(tmp_path, make_fold(2))
    (tmp_path / "fold_2" / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"predictions\.csv is missing"):
        crossval.gather(tmp_path, [1, 2], {})


def test_folds_of_two_experiments_do_not_mix(tmp_path: Path) -> None:
    crossval.write_fold(tmp_path, make_fold(1))
    other = dataclasses.replace(make_fold(2), class_names=["a", "b", "c"])
    crossval.write_fold(tmp_path, other)
    with pytest.raises(UserError, match="other classes"):
        crossval.gather(tmp_path, [1, 2], {})


def test_a_diverged_fold_is_not_written(tmp_path: Path) -> None:
    fold = make_fold(1)
    fold.probabilities[4] = np.nan
    with pytest.raises(UserError, match="1 of 20 test clips are not finite"):
        crossval.write_fold(tmp_path, fold)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_killed_while_it_is_written_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rename the kill comes before, no `fold_1.json` is there."""
    real, renamed = crossval.os.replace, []

    def replace(source: Path, target: Path) -> None:
        if target.name == "fold_1.json":
            raise KeyboardInterrupt
        renamed.append(target.name)
        real(source, target)

    monkeypatch.setattr(crossval.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        crossval.write_fold(tmp_path, make_fold(1))
    assert renamed == ["predictions.csv"]
    assert not (tmp_path / "fold_1.json").exists()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 m 00 s"), (125, "2 m 05 s"), (4020, "1 h 07 m")]
)
def test_duration(seconds: float, text: str) -> None:
    assert crossval.duration(seconds) == text
