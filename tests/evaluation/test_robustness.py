"""The evaluator hears each fold's test clips by that fold's model, as the run itself heard them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

from jaxsound.data.dataset import prepare
from jaxsound.errors import UserError
from jaxsound.evaluation import robustness
from jaxsound.evaluation.corruptions import CORRUPTIONS, Corruption
from jaxsound.input import finished
from jaxsound.training.restore import Trained

SOME = tuple(c for c in CORRUPTIONS if c.name in ("noise", "speed"))


class Watched(Sequence[Any]):
    """Records that tell which were read."""

    def __init__(self, clips: Sequence[Any]) -> None:
        self.clips = clips
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: Any) -> Any:
        self.read.add(index)
        return self.clips[index]


@pytest.fixture(scope="module")
def opened(run: Path) -> finished.Finished:
    return finished.open_run(run)


@pytest.fixture(scope="module")
def clips(opened: finished.Finished) -> Sequence[Any]:
    return prepare(opened.config.data).clips


def test_clean_sound_gives_the_run_s_own_figures(
    opened: finished.Finished, clips: Sequence[Any]
) -> None:
    result = robustness.evaluate(opened, clips, SOME[:1])
    for fold in (1, 2):
        record = json.loads((opened.directory / f"fold_{fold}.json").read_text())
        assert result["clean"]["folds"][fold] == pytest.approx(record["accuracy"])
    assert result["clean_differing"] == 0
    assert result["clips"] == len(clips)


def test_each_fold_s_model_hears_its_own_test_clips_and_no_others(
    opened: finished.Finished, clips: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[int, set[int]] = {}
    watched = Watched(clips)

    def logits(model: Trained, frames: Sequence[np.ndarray]) -> np.ndarray:
        (fold,) = model.folds
        heard[fold] = heard.get(fold, set()) | watched.read
        watched.read = set()
        return np.zeros((len(frames), 3))

    monkeypatch.setattr(finished, "logits", logits)
    robustness.evaluate(opened, watched, SOME[:1])
    assert heard.keys() == {1, 2}
    for fold, indices in heard.items():
        assert indices == set(np.flatnonzero(opened.store.folds == fold).tolist())
        assert not indices & set(opened.split(fold).train.tolist())


def test_the_same_seed_gives_the_same_numbers_in_any_company(
    opened: finished.Finished, clips: Sequence[Any]
) -> None:
    both = robustness.evaluate(opened, clips, SOME, seed=3)
    again = robustness.evaluate(opened, clips, SOME[1:], seed=3)
    assert both["corruptions"][1:] == again["corruptions"]


def test_figures_are_means_over_folds_of_shares_of_clips(
    opened: finished.Finished, clips: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is always right by noise 1 and 2 in fold 1, and never else."""

    def said(model: Trained, _: Any, test: np.ndarray, condition: Any, seed: int) -> np.ndarray:
        right = model.folds == (1,) and condition is not None and condition[1] <= 2
        return (opened.store.labels[test] + (not right)) % 3

    monkeypatch.setattr(robustness, "_predicted", said)
    result = robustness.evaluate(opened, clips, SOME[:1])
    (noise,) = result["corruptions"]
    assert [part["accuracy_mean"] for part in noise["severities"]] == [0.5, 0.5, 0, 0, 0]
    assert noise["severities"][0]["folds"] == {1: 1.0, 2: 0.0}
    assert noise["severities"][0]["accuracy_std"] == pytest.approx(np.std([0, 1], ddof=1))
    assert noise["accuracy_mean"] == result["accuracy_mean"] == pytest.approx(0.2)
    table = robustness.format_table(result)
    assert "otherwise than in the run's predictions.csv" in table
    assert "50.0 %   50.0 %    0.0 %" in table


def test_it_is_a_command_that_leaves_a_table_a_file_and_a_figure(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert robustness.main([str(run), "--only=gain,mu-law", f"--out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "gain" in said
    assert "8, 6, 5, 4, 3 bits" in said
    result = json.loads((tmp_path / "robustness.json").read_text())
    assert [part["name"] for part in result["corruptions"]] == ["gain", "mu-law"]
    pixels = image.imread(tmp_path / "robustness.png")
    assert pixels.shape[0] > 200
    assert pixels.std() > 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["robustness.json", "robustness.png"]


def test_what_is_wrong_is_one_line(
    run: Path, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: object) -> str:
        assert robustness.main([str(arg) for arg in args]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        *_, line = said.err.splitlines()  # after the progress of preparing data
        assert line.startswith("error: ")
        return line

    assert "is no run's directory" in refused(tmp_path)
    assert "no corruption 'nose'; there are noise, low-pass" in refused(run, "--only=nose")
    fewer = tmp_path / "fewer"
    for name in ("bark", "bell", "rain"):
        (fewer / name).mkdir(parents=True)
        for i in range(6):
            (fewer / name / f"{i}.wav").write_bytes((folder / name / f"{i}.wav").read_bytes())
    line = refused(run, f"--config.data.manual_dir={fewer}", f"--config.data.cache_dir={tmp_path}")
    assert "was run on other clips" in line
    with pytest.raises(SystemExit):
        robustness.main([str(run), "--seed=-1"])
    assert "--seed must be 0 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        robustness.main([str(run), "--config.seed=1"])
    assert "--config.seed=1 is not understood" in capsys.readouterr().err


def test_a_checkpoint_of_another_fold_is_refused(
    run: Path, opened: finished.Finished, tmp_path: Path
) -> None:
    (tmp_path / "fold_1").symlink_to(run / "fold_2")
    moved = finished.Finished(tmp_path, opened.config, opened.store, (1,))
    with pytest.raises(UserError, match="of another fold"):
        moved.model(1)


def test_a_corruption_is_one_of_eight() -> None:
    assert all(isinstance(part, Corruption) for part in CORRUPTIONS)
    assert robustness._chosen("") == CORRUPTIONS
