"""An average of runs is of the same clips, fold by fold, and stands beside each run's figures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsound.evaluation import crossval, ensemble


def average(*args: object) -> int:
    return ensemble.main([str(arg) for arg in args])


def test_probabilities_are_the_mean_and_figures_follow_from_them(
    run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    assert average(run, other, "--out", out) == 0
    result = json.loads((out / "crossval.json").read_text())
    names = result["class_names"]
    for fold in (1, 2):
        path = f"fold_{fold}/predictions.csv"
        parts = {}
        for place in (run, other, out):
            rows = crossval.read_predictions(place / path, names)
            parts[place] = dict(zip(rows.clips.tolist(), rows.probabilities, strict=True))
            labels = dict(zip(rows.clips.tolist(), rows.labels.tolist(), strict=True))
        assert parts[out].keys() == parts[run].keys()
        for clip, mean in parts[out].items():
            np.testing.assert_allclose(mean, (parts[run][clip] + parts[other][clip]) / 2, rtol=1e-6)
        accuracy = np.mean([parts[out][clip].argmax() == labels[clip] for clip in labels])
        assert result["folds"][fold - 1]["accuracy"] == pytest.approx(accuracy)
    told = json.loads((out / "ensemble.json").read_text())
    single = [json.loads((p / "crossval.json").read_text())["accuracy_mean"] for p in (run, other)]
    assert [part["accuracy_mean"] for part in told["runs"]] == single
    assert [part["seed"] for part in told["runs"]] == [0, 1]
    assert told["single_mean"] == pytest.approx(np.mean(single))
    assert told["single_std"] == pytest.approx(np.std(single, ddof=1))
    assert told["average"]["accuracy_mean"] == result["accuracy_mean"]
    assert "averaged over 2 runs" in (out / "report.html").read_text()
    assert "averaged runs" in capsys.readouterr().out


def test_a_run_with_itself_is_itself(run: Path, tmp_path: Path) -> None:
    again = shutil.copytree(run, tmp_path / "again")
    assert average(run, again, "--out", tmp_path / "out") == 0
    ours, theirs = (json.loads((p / "crossval.json").read_text()) for p in (tmp_path / "out", run))
    for key in ("accuracy_mean", "accuracy_std", "confusion", "crossings", "weights"):
        assert ours[key] == theirs[key]


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert average(*args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def rewrite(place: Path, fold: int, **changes: object) -> None:
    """Gives a fold of a copied run other clips, labels or so."""
    names = json.loads((place / f"fold_{fold}.json").read_text())["class_names"]
    rows = crossval.read_predictions(place / f"fold_{fold}/predictions.csv", names)
    given = {
        "fold": fold,
        "class_names": names,
        "clip_ids": rows.clips,
        "groups": rows.groups,
        "labels": rows.labels,
        "probabilities": rows.probabilities,
        "steps": 1,
        "seconds": 1.0,
        "clips": {},
    }
    crossval.write_fold(place, crossval.FoldResult(**given | changes))  # type: ignore[arg-type]


def test_other_clips_labels_folds_or_classes_are_refused(
    run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    names = json.loads((run / "fold_1.json").read_text())["class_names"]
    rows = crossval.read_predictions(run / "fold_1/predictions.csv", names)
    clips = rows.clips.copy()
    clips[3] = "elsewhere.wav"
    spoilt = shutil.copytree(other, tmp_path / "clips")
    rewrite(spoilt, 1, clip_ids=clips)
    assert "test fold 1 on different clips" in refused(capsys, run, spoilt, "--out", out)
    spoilt = shutil.copytree(other, tmp_path / "labels")
    rewrite(spoilt, 1, labels=(rows.labels + 1) % 3)
    assert "of fold 1 different labels" in refused(capsys, run, spoilt, "--out", out)
    for key, value, why in (
        ("folds", [{"fold": 1}], "and {} folds [1]"),
        ("class_names", ["a", "b", "c"], "and {} have different classes"),
        ("weights", "best", "tests its last weights and {} its best"),
    ):
        spoilt = shutil.copytree(other, tmp_path / key)
        result = json.loads((spoilt / "crossval.json").read_text())
        (spoilt / "crossval.json").write_text(json.dumps(result | {key: value}))
        assert why.format(spoilt) in refused(capsys, run, spoilt, "--out", out)
    assert not out.exists()


def test_what_cannot_be_averaged_is_one_line(
    run: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "two runs or more" in refused(capsys, run, run, "--out", tmp_path)
    assert "is one of the runs" in refused(capsys, run, other, "--out", other)
    unfinished = shutil.copytree(other, tmp_path / "unfinished")
    (unfinished / "crossval.json").unlink()
    assert "has no result yet" in refused(capsys, run, unfinished, "--out", tmp_path / "out")


def test_best_weights_name_every_run_s_epoch(run: Path, other: Path, tmp_path: Path) -> None:
    places = []
    for place, epoch in ((run, 3), (other, 5)):
        copy = shutil.copytree(place, tmp_path / f"{epoch}")
        for fold in (1, 2):
            extra = {"weights": "best", "monitor": "loss", "weights_epoch": epoch}
            rewrite(copy, fold, extra=extra)
        about = json.loads((copy / "crossval.json").read_text())
        crossval.gather(copy, [1, 2], {key: about[key] for key in ("config", "note")})
        places.append(copy)
    assert average(*places, "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out/crossval.json").read_text())
    assert crossval.weights(result) == "best on validation (epochs 3/5, 3/5)"
