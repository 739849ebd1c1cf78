"""Views are of the clip and of no padding; one view is the run itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxsound.evaluation import crossval, tta
from jaxsound.input import finished

FRAMES = 10


def clip_of(length: int) -> np.ndarray:
    return np.arange(length)[:, None] * np.ones(4)


@pytest.mark.parametrize("views", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [10, 11, 14, 37])
def test_crops_reach_from_end_to_end_at_even_distances(length: int, views: int) -> None:
    seen = [tta.view(clip_of(length), i, views, FRAMES)[:, 0] for i in range(views)]
    if length == FRAMES:
        assert all(sorted(part) == list(range(length)) for part in seen)
        return
    starts = np.array([part[0] for part in seen])
    assert all((np.diff(part) == 1).all() and len(part) == FRAMES for part in seen)
    middle = (length - FRAMES) // 2
    assert middle in starts or views == 2
    if views > 1:
        assert starts[0] == 0
        assert starts[-1] == length - FRAMES
        assert np.ptp(np.diff(starts)) <= 1


@pytest.mark.parametrize("length", [1, 2, 7, 10])
def test_a_short_clip_is_turned_round_within_its_own_length(length: int) -> None:
    first, *others = [tta.view(clip_of(length), i, 5, FRAMES)[:, 0] for i in range(5)]
    assert first.tolist() == list(range(length))
    for i, part in enumerate(others, start=1):
        assert part.tolist() == np.roll(np.arange(length), -(i * length // 5)).tolist()


def test_one_view_is_the_run_and_several_are_their_mean(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tta.main([str(run), f"--out={tmp_path / 'one'}", "--views=1"]) == 0
    assert tta.main([str(run), f"--out={tmp_path / 'three'}", "--views=3"]) == 0
    said = capsys.readouterr().out
    assert "3 views" in said
    opened = finished.open_run(run)
    for fold in (1, 2):
        name = f"fold_{fold}/predictions.csv"
        own, one, three = (
            crossval.read_predictions(place / name, opened.store.class_names)
            for place in (run, tmp_path / "one", tmp_path / "three")
        )
        np.testing.assert_allclose(one.probabilities, own.probabilities, atol=1e-6)
        assert three.clips.tolist() == own.clips.tolist()
        model = opened.model(fold)
        clips = finished.frames_of(opened.store, opened.split(fold).test)
        each = [
            tta.averaged(model, [tta.view(clip, i, 3, model.frames) for clip in clips], 1)
            for i in range(3)
        ]
        np.testing.assert_allclose(three.probabilities, np.mean(each, axis=0), atol=1e-6)
        assert np.abs(three.probabilities - own.probabilities).max() > 1e-4
    result = json.loads((tmp_path / "three" / "tta.json").read_text())
    own_result = json.loads((run / "crossval.json").read_text())
    assert result["plain"]["accuracy_mean"] == own_result["accuracy_mean"]
    assert "averaged over 3 views" in (tmp_path / "three" / "report.html").read_text()


def test_what_is_wrong_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tta.main([str(run), f"--out={run}"]) == 2
    assert "is the run; name another directory" in capsys.readouterr().err
    assert tta.main([str(tmp_path), f"--out={tmp_path / 'x'}"]) == 2
    assert "has no result yet" in capsys.readouterr().err
