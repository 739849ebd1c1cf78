"""Timelines: neighbouring windows that agree are one segment; silence and doubt are gaps."""

import csv
import io
import json

import numpy as np
import pytest

from jaxsound.serving import output
from jaxsound.serving.prediction import Prediction, audacity_labels

SURE = {"a": (0.9, 0.1), "b": (0.2, 0.8), "?": (0.55, 0.45), "-": (0.9, 0.1)}


def prediction(windows: str) -> Prediction:
    """A letter for each window of 2 s, every second: "a", "b", "?" in doubt, "-" silent."""
    rows = np.array([SURE[letter] for letter in windows], np.float32)
    starts = np.arange(len(windows), dtype=float)
    return Prediction(
        classes=("a", "b"),
        seconds=len(windows) + 1.0,
        probabilities=rows.mean(0),
        embedding=np.zeros(4, np.float32),
        silent=set(windows) == {"-"},
        starts=starts,
        ends=starts + 2,
        windows=rows,
        quiet=np.array([letter == "-" for letter in windows]),
    )


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("a", [(0.0, 2.0, "a")]),
        ("aaa", [(0.0, 4.0, "a")]),
        ("aab", [(0.0, 2.5, "a"), (2.5, 4.0, "b")]),
        ("a-b", [(0.0, 1.5, "a"), (2.5, 4.0, "b")]),
        ("?aa?", [(1.5, 3.5, "a")]),
        ("a?a", [(0.0, 1.5, "a"), (2.5, 4.0, "a")]),
        ("--", []),
        ("??", []),
    ],
)
def test_timeline(windows: str, expected: list[tuple[float, float, str]]) -> None:
    found = prediction(windows).timeline(threshold=0.6)
    assert [(s.start, s.end, s.label) for s in found] == expected
    for segment in found:
        assert segment.probability == pytest.approx({"a": 0.9, "b": 0.8}[segment.label])


def test_top_is_sorted_and_cut() -> None:
    assert [name for name, _ in prediction("bbb").top(5)] == ["b", "a"]
    assert prediction("bbb").top(1) == [("b", pytest.approx(0.8))]
    assert prediction("bbb").label == "b"


def test_audacity_s_label_track() -> None:
    assert audacity_labels(prediction("aab").timeline()) == "0.000\t2.500\ta\n2.500\t4.000\tb\n"


@pytest.mark.parametrize("timeline", [False, True])
def test_every_format_says_the_same(timeline: bool) -> None:
    said = {}
    for name, kind in output.FORMATS.items():
        out = io.StringIO()
        writer = kind(out, 2, timeline, 0.5)
        for path, windows in (('odd, "name".wav', "aab"), ("other.wav", "bb")):
            writer.write(path, prediction(windows))
        writer.close()
        said[name] = out.getvalue()
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    objects = json.loads(said["json"])
    assert [o["path"] for o in objects] == ['odd, "name".wav', "other.wav"]
    if timeline:
        assert [(r["path"], r["class"]) for r in rows] == [
            (o["path"], s["class"]) for o in objects for s in o["timeline"]
        ]
    else:
        assert [r["class_1"] for r in rows] == [o["classes"][0]["class"] for o in objects]
    for item in objects:
        assert f"{item['path']}  {item['classes'][0]['class']}" in said["table"]


def test_json_of_nothing_is_an_empty_list() -> None:
    out = io.StringIO()
    output.Json(out, 5, False, 0.5).close()
    assert json.loads(out.getvalue()) == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0:00.0"), (59.96, "1:00.0"), (125.24, "2:05.2"), (3725.5, "1:02:05.5")],
)
def test_clock(seconds: float, expected: str) -> None:
    assert output.clock(seconds) == expected
