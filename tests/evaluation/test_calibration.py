"""Calibration equals scikit-learn's and plain sums; temperatures never see a test clip."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from jaxsound.evaluation import calibration, crossval, metrics, plots, report
from jaxsound.input import finished
from tests.evaluation.test_metrics import make_predictions


def make_probabilities(
    seed: int, clips: int, classes: int, sharp: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    labels, logits = make_predictions(seed, clips, classes)
    return labels, special.softmax(sharp * logits.astype(np.float64), axis=1)


@pytest.mark.parametrize(("clips", "classes"), [(500, 10), (61, 50), (7, 3), (40, 2)])
def test_the_brier_score_equals_scikit_learn_s(clips: int, classes: int) -> None:
    labels, probabilities = make_probabilities(clips, clips, classes)
    names = list(range(classes))
    if classes == 2:
        theirs = 2 * brier_score_loss(labels, probabilities[:, 1])
    else:
        theirs = brier_score_loss(labels, probabilities, labels=names, scale_by_half=False)
    assert metrics.brier_score(probabilities, labels) == pytest.approx(theirs)


@pytest.mark.parametrize("sharp", [0.2, 1.0, 5.0])
def test_the_diagram_equals_scikit_learn_s_and_the_error_a_plain_sum(sharp: float) -> None:
    labels, probabilities = make_probabilities(4, 700, 6, sharp)
    found = metrics.reliability(probabilities, labels)
    right, confidence = probabilities.argmax(1) == labels, probabilities.max(1)
    theirs = calibration_curve(right, confidence, n_bins=15)
    filled = found["count"] > 0
    np.testing.assert_allclose(found["accuracy"][filled], theirs[0])
    np.testing.assert_allclose(found["confidence"][filled], theirs[1])
    assert found["count"].sum() == 700
    total = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(total)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    labels = np.arange(6) % 3
    assert metrics.calibration_error(np.eye(3)[labels], labels) == 0
    assert metrics.brier_score(np.eye(3)[labels], labels) == 0
    assert metrics.calibration_error(np.eye(3)[labels - 1], labels) == 1
    assert metrics.brier_score(np.eye(3)[labels - 1], labels) == 2
    nothing = np.zeros((0, 3)), np.zeros(0, int)
    assert metrics.calibration_error(*nothing) == metrics.brier_score(*nothing) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_spoilt_probabilities_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((20_000, 5))
    labels = np.array([rng.choice(5, p=row) for row in special.softmax(logits, axis=1)])
    found = calibration.fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_the_best_of_a_grid_and_has_bounds() -> None:
    labels, probabilities = make_probabilities(2, 300, 4, sharp=3.0)
    found = calibration.fit_temperature(np.log(probabilities), labels)

    def loss(temperature: float) -> float:
        return log_loss(labels, calibration.scaled(probabilities, temperature), labels=range(4))

    assert loss(found) <= min(map(loss, np.geomspace(0.06, 19, 400))) + 1e-9
    right = calibration.fit_temperature(np.eye(4)[labels], labels)
    wrong = calibration.fit_temperature(np.eye(4)[labels - 1], labels)
    assert right == pytest.approx(1 / calibration.LARGEST, rel=1e-3)
    assert wrong == pytest.approx(calibration.LARGEST, rel=1e-3)


def test_scaling_keeps_the_order_of_classes() -> None:
    _, probabilities = make_probabilities(2, 300, 4)
    for temperature in (0.2, 7.0):
        changed = calibration.scaled(probabilities, temperature)
        np.testing.assert_array_equal(changed.argsort(1), probabilities.argsort(1))
        np.testing.assert_allclose(changed.sum(1), 1)
    np.testing.assert_allclose(calibration.scaled(probabilities, 1.0), probabilities, rtol=1e-6)


def test_a_fold_s_temperature_is_that_of_its_validation_clips(run: Path) -> None:
    opened = finished.open_run(run)
    result = calibration.calibrate(opened)
    for part in result["folds"]:
        split = opened.split(part["fold"])
        assert not set(split.validation.tolist()) & set(split.test.tolist())
        assert part["validation_clips"] == len(split.validation) > 0
        held = finished.frames_of(opened.store, split.validation)
        logits = finished.logits(opened.model(part["fold"]), held)
        labels = opened.store.labels[split.validation]
        assert part["temperature"] == calibration.fit_temperature(logits, labels)


def test_other_test_labels_change_no_temperature(run: Path, tmp_path: Path) -> None:
    """Whatever the test clips are, as long as the run says that it was tested on them."""
    opened = finished.open_run(run)
    for fold in (1, 2):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / "checkpoints").symlink_to(run / f"fold_{fold}/checkpoints")
        name = f"fold_{fold}/predictions.csv"
        rows = crossval.read_predictions(run / name, opened.store.class_names)
        crossval.write_fold(
            tmp_path,
            crossval.FoldResult(
                fold=fold,
                class_names=opened.store.class_names,
                clip_ids=rows.clips,
                groups=rows.groups,
                labels=(rows.labels + 1) % 3,
                probabilities=rows.probabilities,
                steps=1,
                seconds=1.0,
                clips={},
            ),
        )
    spoilt = calibration.calibrate(dataclasses.replace(opened, directory=tmp_path))
    plain = calibration.calibrate(opened)
    assert spoilt["plain"]["nll"] != plain["plain"]["nll"]
    temperatures = [[part["temperature"] for part in r["folds"]] for r in (spoilt, plain)]
    assert temperatures[0] == temperatures[1]


def test_the_command_tells_plain_and_scaled_apart(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibration.main([str(run), f"--out={tmp_path}"]) == 0
    assert "plain > scaled" in capsys.readouterr().out
    result = json.loads((tmp_path / "calibration.json").read_text())
    own = json.loads((run / "crossval.json").read_text())
    assert result["plain"]["ece"] == pytest.approx(own["ece"], abs=1e-6)
    assert result["plain"]["brier"] == pytest.approx(own["brier"], abs=1e-6)
    assert result["plain"]["nll"] == pytest.approx(own["loss"], abs=1e-6)
    assert result["plain"]["accuracy"] == result["scaled"]["accuracy"]
    assert (tmp_path / "reliability.png").stat().st_size > 5000


def test_a_temperature_at_its_bound_is_told(run: Path) -> None:
    result = calibration.calibrate(finished.open_run(run))
    for temperature, told in ((1.5, False), (1 / calibration.LARGEST, True), (19.99, True)):
        result["folds"][1]["temperature"] = temperature
        result["folds"][0]["temperature"] = 0.7
        assert ("at its bound" in calibration.format_table(result)) == told


def test_a_run_without_validation_clips_is_refused(run: Path) -> None:
    opened = finished.open_run(run)
    opened.config.data.validation = 0.0
    with pytest.raises(Exception, match="the test clips are not for that"):
        calibration.calibrate(opened)


def test_the_report_draws_a_bar_for_every_bin_with_clips_in_it(run: Path, tmp_path: Path) -> None:
    result = json.loads((run / "crossval.json").read_text())
    filled = sum(count > 0 for count in result["reliability"]["count"])
    svg = plots.reliability_svg(result["reliability"])
    assert svg.count("<rect") == svg.count("% of") == filled > 0
    for name in ("crossval.json", "predictions.csv"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    page = report.write_report(tmp_path).read_text()
    assert svg in page
    assert "calibration error (ECE)" in page
    del result["reliability"], result["ece"], result["brier"]  # of an earlier version
    (tmp_path / "crossval.json").write_text(json.dumps(result))
    assert "reliability diagram" not in report.write_report(tmp_path).read_text()
