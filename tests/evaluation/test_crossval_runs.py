"""Folds of runs apart are gathered into one run's result, or what is wrong is said in a line."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxsound.evaluation import crossval, runs
from tests.evaluation.test_crossval import make_fold

DATA = {
    "folds_available": [1, 2, 3],
    "publisher_folds": True,
    "clips_left_out": [],
    "note": "",
    "citation": "",
    "licence": "CC0",
    "homepage": "",
}


def make_run(directory: Path, *folds: int, clips: str = "same", **keys: Any) -> Path:
    """A run directory with these folds finished, of an experiment with these keys."""
    directory.mkdir(parents=True)
    config = {"epochs": 3, "folds": list(folds), "data": {"name": "own", "cache_dir": "/a"}} | keys
    record = {"config": config, "clips": clips, "code": "x", "data": DATA}
    (directory / "config.json").write_text(json.dumps(record))
    for fold in folds:
        crossval.write_fold(directory, make_fold(fold, 10 + fold))
    return directory


def gather(*args: object) -> int:
    return runs.main([str(arg) for arg in args])


@pytest.fixture
def apart(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path / name, k) for name, k in (("a", 1), ("b", 2), ("c", 3))]


def test_runs_apart_give_the_result_of_one_run(
    apart: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    together = make_run(tmp_path / "together", 1, 2, 3)
    assert gather(together) == 0
    assert gather(*apart, "--out", tmp_path / "out") == 0
    out, one = (json.loads((p / "crossval.json").read_text()) for p in (tmp_path / "out", together))
    assert out.pop("runs") == {str(k): str(path) for k, path in enumerate(apart, start=1)}
    assert one.pop("runs") == {str(k): str(together) for k in (1, 2, 3)}
    assert out.pop("config") | {"folds": 0} == one.pop("config") | {"folds": 0}
    assert out == one
    assert out["licence"] == "CC0"
    assert (tmp_path / "out/predictions.csv").read_bytes() == (
        together / "predictions.csv"
    ).read_bytes()
    assert "over 3 folds" in (tmp_path / "out/report.html").read_text()
    assert "over 3 folds" in capsys.readouterr().out


def test_patterns_are_filled_in_and_curves_are_found(apart: list[Path], tmp_path: Path) -> None:
    for k, path in enumerate(apart, start=1):
        lines = [{"step": s, "train/loss": 1 / s, "validation/loss": 1 / s} for s in (1, 2, 3)]
        text = "\n".join(map(json.dumps, lines))
        (path / f"fold_{k}" / "metrics.jsonl").write_text(text + "\n")
    assert gather(f"{tmp_path}/[abc]", apart[0], "--out", tmp_path / "out") == 0
    assert "<svg" in (tmp_path / "out/report.html").read_text()


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert gather(*args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_a_fold_that_is_missing_or_failed_is_named(
    apart: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (apart[2] / "fold_3.json").unlink()  # it was killed before its end
    line = refused(capsys, *apart, "--out", out)
    assert f"fold 3 has not finished in {apart[2]}; --partial" in line
    line = refused(capsys, apart[0], apart[2], "--out", out)
    assert "fold 2 is in none of the runs; fold 3 has not finished" in line
    assert not out.exists()
    assert gather(apart[0], apart[2], "--out", out, "--partial") == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert "partial: folds 2, 3 missing" in said.out
    assert "partial: folds 2, 3 missing" in (out / "report.html").read_text()
    result = json.loads((out / "crossval.json").read_text())
    assert [fold["fold"] for fold in result["folds"]] == [1]
    assert "fold 1 is in none" in refused(capsys, apart[2], "--partial")
    (apart[1] / "fold_2" / "predictions.csv").unlink()
    assert "fold_2/predictions.csv is missing" in refused(capsys, apart[1], "--partial")
    (apart[0] / "fold_1.json").write_text("{")
    assert "fold_1.json is not whole" in refused(capsys, apart[0], "--partial")


def test_runs_of_different_experiments_are_refused_with_the_keys(
    apart: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = make_run(tmp_path / "more", 2, epochs=4, data={"name": "other", "cache_dir": "/b"})
    line = refused(capsys, apart[0], more, apart[2], "--out", tmp_path / "out")
    assert "config.data.name='own' and 'other'; config.epochs=3 and 4" in line
    assert "cache_dir" not in line
    other = make_run(tmp_path / "clips", 2, clips="others")
    line = refused(capsys, apart[0], other, apart[2], "--out", tmp_path / "out")
    assert "other clips, labels or folds" in line


def test_a_fold_may_come_twice_if_it_is_the_same(
    apart: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = make_run(tmp_path / "again", 2)
    assert gather(*apart, again, "--out", tmp_path / "out") == 0
    capsys.readouterr()
    fold = make_fold(2, 12)
    flipped = np.ascontiguousarray(fold.probabilities[:, ::-1])
    crossval.write_fold(again, dataclasses.replace(fold, probabilities=flipped))
    line = refused(capsys, *apart, again, "--out", tmp_path / "out")
    assert f"{apart[1]} and {again} both hold fold 2, with different predictions" in line


def test_what_is_no_run_and_a_result_without_a_place_are_refused(
    apart: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "name the directory" in refused(capsys, *apart)
    assert "no config.json there" in refused(capsys, tmp_path / "nothing*")
    (apart[0] / "config.json").write_text("[]")
    assert "not whole or not of a run" in refused(capsys, apart[0])


def test_it_is_a_command(apart: list[Path]) -> None:
    command = [sys.executable, "-m", "jaxsound.evaluation.crossval", *apart, "--out", apart[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "over 3 folds" in done.stdout
