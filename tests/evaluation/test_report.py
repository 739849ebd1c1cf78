"""The report stands alone, shows every class and clip it should, and trusts no name."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from jaxsound.errors import UserError
from jaxsound.evaluation import crossval, plots, report

VOID = {"meta", "link"}
EVIL = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """Checks that every tag is closed, and keeps text and the addresses that tags name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def make_run(
    workdir: Path, names: list[str], folds: int = 2, curves: bool = True, skill: float = 1.0
) -> dict:
    rng = np.random.default_rng(0)
    for fold in range(1, folds + 1):
        labels = np.arange(3 * len(names)) % len(names)
        logits = rng.normal(size=(len(labels), len(names)))
        logits[np.arange(len(labels)), labels] += skill
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        ids = np.array([f"{fold}-{i}.wav" for i in range(len(labels))])
        clips = {"train": 9, "validation": 1, "test": len(labels)}
        result = crossval.FoldResult(
            fold, names, ids, ids, labels, probabilities.astype(np.float32), 40, 70.0, clips
        )
        crossval.write_fold(workdir, result)
        if curves:
            lines = [{"step": s, "time": 0.0, "train/loss": 2.0 / (1 + s)} for s in range(1, 41)]
            lines += [{"step": 20, "time": 0.0, "validation/loss": 0.5, "train/loss": None}]
            text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4'
            (workdir / f"fold_{fold}" / "metrics.jsonl").write_text(text)
    about = {
        "clips_left_out": [{"clip": EVIL, "reason": EVIL}],
        "note": EVIL,
        "config": {"data": {"name": EVIL, "pad_seconds": 5.0}},
    }
    return crossval.gather(workdir, range(1, folds + 1), about)


@pytest.mark.parametrize("names", [["yes", "no"], [f"class {i}" for i in range(50)]])
def test_the_page_asks_no_host_for_anything(tmp_path: Path, names: list[str]) -> None:
    make_run(tmp_path, names)
    html = report.write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert page.addresses == ["data:,"]
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html
    for name in names:
        assert name in page.text


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    make_run(tmp_path, ["dog", EVIL])
    page = Page(report.write_report(tmp_path).read_text(encoding="utf-8"))
    assert "script" not in page.seen
    assert EVIL in page.text


def test_figures_and_config_are_those_of_the_result(tmp_path: Path) -> None:
    result = make_run(tmp_path, ["dog", "cat", "rain"], folds=3)
    text = Page(report.write_report(tmp_path).read_text(encoding="utf-8")).text
    assert crossval.percent(result["accuracy_mean"]) in text
    assert f"± {100 * result['accuracy_std']:.1f} over 3 folds" in text
    assert result["protocol"] in text
    assert "data.pad_seconds = 5.0" in text


def test_the_worst_mistake_comes_first(tmp_path: Path) -> None:
    make_run(tmp_path, ["dog", "cat", "rain"])
    rows = crossval.read_predictions(tmp_path / "predictions.csv", ["dog", "cat", "rain"])
    given = rows.probabilities[np.arange(len(rows.labels)), rows.labels]
    wrong = np.flatnonzero(rows.predicted != rows.labels)
    order = wrong[np.argsort(given[wrong])]
    text = Page(report.write_report(tmp_path).read_text(encoding="utf-8")).text
    listed = [line for line in text.splitlines() if re.fullmatch(r"\d-\d+\.wav", line)]
    assert listed == rows.clips[order][: report.WORST].tolist()


def test_one_fold_no_curves_and_no_mistakes(tmp_path: Path) -> None:
    make_run(tmp_path, ["dog", "cat"], folds=1, curves=False, skill=50.0)
    page = Page(report.write_report(tmp_path).read_text(encoding="utf-8"))
    assert "on fold 1 alone" in page.text
    assert "Every test clip was classified correctly" in page.text
    assert "Curves" not in page.text


def test_a_watched_test_fold_is_shown_beside_the_figure_and_is_no_result(tmp_path: Path) -> None:
    make_run(tmp_path, ["dog", "cat"])
    plain = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert "last step" in plain
    assert "best epoch on the test fold" not in plain
    for fold in (1, 2):
        path = tmp_path / f"fold_{fold}.json"
        record = json.loads(path.read_text())
        record["extra"] = {"watched": {"accuracy": 0.91, "step": 20, "epoch": 2}}
        path.write_text(json.dumps(record))
        with (tmp_path / f"fold_{fold}" / "metrics.jsonl").open("a") as file:
            file.write("\n")
            file.writelines(
                json.dumps({"step": step, "test/accuracy": 0.9}) + "\n" for step in (20, 40)
            )
    crossval.gather(tmp_path, [1, 2], {})
    html = report.write_report(tmp_path).read_text(encoding="utf-8")
    text = Page(html).text
    assert "91.0 %" in text
    assert re.search(r"best epoch on the test fold: 91\.0 % .*no result", text)
    assert html.count('class="watched"') == 2
    assert "test fold, watched only" in text
    assert 'class="watched"' not in plain


def test_without_a_result_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"crossval\.json is missing"):
        report.write_report(tmp_path)


def test_of_two_values_for_a_step_the_last_counts() -> None:
    lines = [{"step": 1, "x": 5.0}, {"step": 2, "x": 4.0}, {"step": 1, "x": 3.0}, {"step": 3}]
    assert plots._curve(lines, "x") == [(1, 3.0), (2, 4.0)]


def test_a_long_curve_keeps_its_course_in_few_points() -> None:
    curve = [(step, float(step)) for step in range(10_000)]
    thin = plots._thin(curve)
    assert len(thin) <= plots.MAX_POINTS
    assert thin[-1][0] == 9_999
    np.testing.assert_allclose([y for _, y in thin], [x for x, _ in thin], atol=50)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-30, 1e30])
def test_a_curve_of_any_scale_is_drawn(value: float) -> None:
    lines = [{"step": step, "train/loss": value} for step in range(3)]
    (panel,) = plots.curve_panels({1: lines})
    assert "nan" not in panel
    assert panel.count("<text") < 25


@pytest.mark.parametrize("classes", [2, 50, 120])
def test_confusion_figure_is_a_picture_that_depends_on_the_counts(classes: int) -> None:
    names = [f"$\\frac{{{i}$ 雨" for i in range(classes)]  # neither mathematics nor a known glyph
    empty = report.confusion_figure(np.zeros((classes, classes), int), names)
    full = report.confusion_figure(np.eye(classes, dtype=int) * 7, names)
    assert full.dtype == np.uint8
    assert full.ndim == 3
    assert full.shape[2] == 3
    assert full.shape == empty.shape
    assert (full != empty).any()


def test_spectrogram_figure_does_not_show_what_is_past_the_length() -> None:
    features = np.random.default_rng(0).normal(size=(3, 40, 16)).astype(np.float16)
    lengths, titles = np.array([40, 25, 0]), ["a", "b $x^", "empty"]
    picture = report.spectrogram_figure(features, lengths, titles)
    changed = features.copy()
    changed[1, 25:] = 99.0
    changed[2] = np.nan
    np.testing.assert_array_equal(picture, report.spectrogram_figure(changed, lengths, titles))
    changed[1, :25] += 1.0
    assert (picture != report.spectrogram_figure(changed, lengths, titles)).any()
