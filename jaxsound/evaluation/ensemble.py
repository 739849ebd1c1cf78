"""Several runs of the same folds, averaged.

python -m jaxsound.evaluation.ensemble RUN RUN ... --out DIR

For runs of several seeds, or of several networks: each clip's probabilities are the mean over the
runs, fold by fold, so that a fold's test clips are seen by none of the models that judge them. The
runs' own figures and the spread over them stand beside the average's, which is a result of its
own: `DIR` gets `ensemble.json`, and `crossval.json`, `predictions.csv` and `report.html` as a run
has them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound.errors import UserError, command
from jaxsound.evaluation import crossval, files, report, runs
from jaxsound.evaluation.crossval import Predictions, percent

_FIGURES = ("accuracy_mean", "accuracy_std", "accuracy_pooled", "macro_recall", "map3", "loss")


@command()
def main(argv: Sequence[str]) -> int:
    """Averages the runs that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.evaluation.ensemble",
        description="The mean of several runs' probabilities, on the same folds and clips.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's directory, or a pattern")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the result")
    options = parser.parse_args(argv)
    result = average(runs.find(options.runs), options.out)
    print(format_table(result), f"\nreport  {options.out / 'report.html'}", sep="\n")
    return 0


def average(directories: Sequence[Path], out: Path) -> dict[str, Any]:
    """Averages the runs' probabilities, and writes the result in `out`.

    Args:
      directories: of two or more runs; each must have finished the same folds.
      out: a directory of none of them.

    Returns:
      What `ensemble.json` holds: each run's accuracy and seed, their mean and sample standard
      deviation, and the average's figures.

    Raises:
      UserError: fewer than two runs; one is unfinished, or `out` is one; or they differ in
        classes, folds, clips, labels, or in whether the last or the best weights were tested.
    """
    if len(directories) < 2:
        raise UserError("name two runs or more: there is nothing to average")
    if out.resolve() in {path.resolve() for path in directories}:
        raise UserError(f"--out={out} is one of the runs; name another directory")
    results = {path: result_of(path) for path in directories}
    first, *others = directories
    for path in others:
        _check_alike(first, results[first], path, results[path])
    names = results[first]["class_names"]
    folds = [part["fold"] for part in results[first]["folds"]]
    rows = {fold: [_rows(path, fold, names) for path in directories] for fold in folds}
    for fold, (ours, *theirs) in rows.items():
        for path, other in zip(others, theirs, strict=True):
            _check_clips(first, ours, path, other, fold)
    for fold in folds:
        crossval.write_fold(out, _averaged(directories, fold, names, rows[fold]))
    pooled = crossval.gather(out, folds, _about(results))
    report.write_report(out)
    single = [results[path]["accuracy_mean"] for path in directories]
    result = {
        "runs": [_told(path, results[path]) for path in directories],
        "single_mean": float(np.mean(single)),
        "single_std": float(np.std(single, ddof=1)),
        "average": {key: pooled[key] for key in _FIGURES},
    }
    files.write(out / "ensemble.json", files.to_json(result))
    return result


def _about(results: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """What the average says of itself: its data is that of the first run, and so is `config`."""
    first = next(iter(results.values()))
    kept = ("publisher_folds", "clips_left_out", "citation", "licence", "homepage", "config")
    note = f"probabilities averaged over {len(results)} runs"
    return {key: first[key] for key in kept if key in first} | {
        "note": "; ".join(filter(None, [first["note"], note])),
        "runs": [str(path) for path in results],
    }


def _told(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    config = result.get("config") or {}
    network = config.get("model", {}).get("name")
    who = {"run": str(path), "seed": config.get("seed"), "network": network}
    return who | {key: result.get(key) for key in _FIGURES}


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a run, the runs' mean and spread, then the average."""
    shown = [*(part["run"] for part in result["runs"]), "mean of the runs", "averaged runs"]
    row = (f"{{:<{max(map(len, shown))}}}" + "  {:>6}  {:>16}").format
    lines = [row("run", "seed", "over folds")]
    for part in result["runs"]:
        seed = "" if part["seed"] is None else part["seed"]
        lines.append(row(part["run"], seed, _spread(part["accuracy_mean"], part["accuracy_std"])))
    lines += [
        row("mean of the runs", "", _spread(result["single_mean"], result["single_std"])),
        row("averaged runs", "", _spread(*(result["average"][key] for key in _FIGURES[:2]))),
        "",
        "  the spread of a run and of the average is over folds, that of the mean over runs",
    ]
    return "\n".join(lines)


def _spread(mean: float, std: float) -> str:
    return f"{percent(mean)} ± {100 * std:.1f}"


def result_of(directory: Path) -> dict[str, Any]:
    """The run's own result; raises `UserError` where it has none, or none that is whole."""
    path = directory / "crossval.json"
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: the run has no result yet; run it to its end"
        ) from None
    except ValueError:
        raise UserError(f"{path} is not whole; run the experiment's command again") from None
    if result.get("task"):
        raise UserError(f"{path} is of a run with task={result['task']!r}, which has no classes")
    return result


def _rows(directory: Path, fold: int, names: Sequence[str]) -> Predictions:
    """A fold's predictions in the order of clips' names."""
    rows = crossval.read_predictions(directory / f"fold_{fold}" / "predictions.csv", names)
    order = np.argsort(rows.clips, kind="stable")
    return Predictions(
        rows.clips[order],
        rows.folds[order],
        rows.groups[order],
        rows.labels[order],
        rows.probabilities[order],
    )


def _check_alike(
    first: Path, expected: Mapping[str, Any], path: Path, result: Mapping[str, Any]
) -> None:
    if result["class_names"] != expected["class_names"]:
        raise UserError(f"{first} and {path} have different classes")
    folds, there = ([part["fold"] for part in r["folds"]] for r in (result, expected))
    if folds != there:
        raise UserError(f"{first} has folds {there} and {path} folds {folds}")
    ours, theirs = result.get("weights", "last"), expected.get("weights", "last")
    if ours != theirs:
        raise UserError(f"{first} tests its {theirs} weights and {path} its {ours}")


def _check_clips(first: Path, rows: Predictions, path: Path, other: Predictions, fold: int) -> None:
    """One fold's test clips are the same ones in both runs.

    A clip has one fold, so what is tested in fold k of one run has trained no model of fold k of
    another that tests the same clips there.
    """
    if not np.array_equal(rows.clips, other.clips):
        odd = sorted(set(rows.clips.tolist()) ^ set(other.clips.tolist()))
        which = f", such as {odd[0]}" if odd else ""
        raise UserError(f"{first} and {path} test fold {fold} on different clips{which}")
    if not np.array_equal(rows.labels, other.labels):
        clip = rows.clips[np.flatnonzero(rows.labels != other.labels)[0]]
        raise UserError(f"{first} and {path} give clip {clip} of fold {fold} different labels")


def _averaged(
    directories: Sequence[Path], fold: int, names: Sequence[str], rows: Sequence[Predictions]
) -> crossval.FoldResult:
    records = [crossval.read_fold(path, fold) for path in directories]
    extras = [record["extra"] for record in records]
    keys = ("crossings", "weights", "monitor")
    extra = {key: extras[0][key] for key in keys if key in extras[0]}
    extra["weights_epoch"] = "/".join(str(part.get("weights_epoch")) for part in extras)
    return crossval.FoldResult(
        fold=fold,
        class_names=names,
        clip_ids=rows[0].clips,
        groups=rows[0].groups,
        labels=rows[0].labels,
        probabilities=np.stack([part.probabilities for part in rows]).mean(
            axis=0, dtype=np.float64
        ),
        steps=sum(record["steps"] for record in records),
        seconds=sum(record["seconds"] for record in records),
        clips=records[0]["clips"],
        extra=extra,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
