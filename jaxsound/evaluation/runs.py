"""Folds of several runs in, one result out.

python -m jaxsound.evaluation.crossval RUN ... [--out DIR] [--partial]

For folds that were trained apart, each with `--config.folds=(k,)` on a machine of its own, or as
the tasks of an array job: writes `crossval.json`, `predictions.csv` and `report.html`.
"""

import argparse
import glob
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsound.errors import UserError, command
from jaxsound.evaluation import crossval, report
from jaxsound.job import workdir


@command()
def main(argv: list[str]) -> int:
    """Gathers what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.evaluation.crossval",
        description="Gathers the folds of one or several runs into one result.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's directory, or a pattern")
    parser.add_argument("--out", type=Path, help="where to; the run's directory if there is one")
    parser.add_argument("--partial", action="store_true", help="even if folds are missing")
    options = parser.parse_args(argv)
    result = gather(options.runs, options.out, partial=options.partial)
    out = options.out or next(iter(find(options.runs)))
    print(crossval.format_table(result), f"\nreport  {out / 'report.html'}", sep="\n")
    return 0


def find(patterns: Sequence[str]) -> list[Path]:
    """The run directories of these paths and patterns, each once.

    Raises:
      UserError: one is none, or a pattern matches nothing.
    """
    found = [Path(name) for pattern in patterns for name in sorted(glob.glob(pattern)) or [pattern]]
    for path in found:
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: no config.json there, so it is no run's directory")
    return list({path.resolve(): path for path in found}.values())


def gather(
    patterns: Sequence[str], out: Path | None = None, *, partial: bool = False
) -> dict[str, Any]:
    """Pools the folds of these runs as if one run had trained them all.

    Args:
      patterns: run directories, or patterns of them.
      out: where the three files go; a single run's own directory if it is not given.
      partial: go on without folds that are missing, and say so in the result's note.

    Returns:
      What `crossval.json` holds.

    Raises:
      UserError: a fold is missing or unfinished; the runs are of different experiments or clips;
        two hold a fold with different predictions; or a file is missing or not whole.
    """
    directories = find(patterns)
    if out is None and len(directories) > 1:
        raise UserError("several runs: name the directory for the result with --out=DIR")
    records = {path: _record(path) for path in directories}
    _check_alike(records)
    about = _about(records)
    places = _places(directories)
    missing = [fold for fold in about["folds_available"] if fold not in places]
    if missing:
        line = "; ".join(_why(fold, directories) for fold in missing)
        if not partial or not places:
            raise UserError(f"{line}" + ("" if partial else "; --partial gathers the others"))
        names = ", ".join(map(str, missing))
        note = f"partial: fold{'s' if len(missing) > 1 else ''} {names} missing"
        about["note"] = "; ".join(filter(None, [about["note"], note]))
    about["runs"] = {str(fold): str(place) for fold, place in sorted(places.items())}
    out = out or directories[0]
    result = crossval.pool(places, about, out)
    report.write_report(out, places)
    if missing:
        print(line, file=sys.stderr)
    return result


def _record(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        task = record["config"].get("task", "classification")
        found = {key: record[key] for key in ("config", "clips")} | {"data": record.get("data")}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not whole or not of a run") from None
    if task != "classification":
        raise UserError(f"{directory} is a run with task={task!r}, which has no classes")
    return found


def _check_alike(records: Mapping[Path, Mapping[str, Any]]) -> None:
    (first, expected), *others = records.items()
    keys = workdir.flat(expected["config"])
    for path, record in others:
        now = workdir.flat(record["config"])
        differing = [
            f"config.{key}={keys.get(key)!r} and {now.get(key)!r}"
            for key in sorted(keys.keys() | now.keys())
            if key not in workdir.HARMLESS and keys.get(key) != now.get(key)
        ]
        if differing:
            raise UserError(f"{first} and {path} are different runs: {'; '.join(differing)}")
        if record["clips"] != expected["clips"]:
            raise UserError(f"{first} and {path} were trained on other clips, labels or folds")


def _about(records: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs say of their data; all say the same."""
    path, record = next(iter(records.items()))
    if record["data"] is None:
        raise UserError(
            f"{path / 'config.json'} does not say which folds there are; start it again"
        )
    return record["data"] | {"config": record["config"]}


def _places(directories: Sequence[Path]) -> dict[int, Path]:
    """Where each finished fold is."""
    places: dict[int, Path] = {}
    for directory in directories:
        for path in sorted(directory.glob("fold_*.json")):
            fold = int(path.stem.removeprefix("fold_"))
            if fold not in places:
                places[fold] = directory
            elif _predictions(places[fold], fold) != _predictions(directory, fold):
                raise UserError(
                    f"{places[fold]} and {directory} both hold fold {fold}, with different "
                    "predictions; leave one of them out"
                )
    return places


def _predictions(directory: Path, fold: int) -> bytes:
    path = directory / f"fold_{fold}" / "predictions.csv"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run its fold again") from None


def _why(fold: int, directories: Sequence[Path]) -> str:
    begun = [path for path in directories if (path / f"fold_{fold}").is_dir()]
    where = " and ".join(map(str, begun))
    return f"fold {fold} {f'has not finished in {where}' if begun else 'is in none of the runs'}"
