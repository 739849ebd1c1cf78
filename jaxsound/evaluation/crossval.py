"""Folds in, one believable result out: `fold_k.json` and `predictions.csv` to `crossval.json`.

A fold's predictions are on disk before its `fold_k.json`, and every file is renamed into place,
so a fold counts as done exactly when its `fold_k.json` is there. As a command this is `runs.py`.
"""

import csv
import dataclasses
import importlib.metadata
import io
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound.errors import UserError
from jaxsound.evaluation import files, metrics

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
COLUMNS = ("clip", "fold", "truth", "prediction", "group")


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """The predictions of one fold's last or best weights on its N test clips, over C classes.

    `clips` counts the fold's clips: {"train": int, "validation": int, "test": int}. `extra` is
    anything JSON can hold. Read here: "crossings" (a list of dicts), "weights" ("last", or "best"
    on validation by "monitor"), "weights_epoch", and "watched", the epoch with the best accuracy
    on the test fold itself: {"accuracy": float, "step": int, "epoch": int}.
    """

    fold: int
    class_names: Sequence[str]
    clip_ids: np.ndarray  # [N] str
    groups: np.ndarray  # [N] str
    labels: np.ndarray  # [N] int
    probabilities: np.ndarray  # [N, C] float32
    steps: int
    seconds: float
    clips: Mapping[str, int]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The rows of a `predictions.csv`, with truth as an index into the class names."""

    clips: np.ndarray  # [N] str
    folds: np.ndarray  # [N] int
    groups: np.ndarray  # [N] str
    labels: np.ndarray  # [N] int
    probabilities: np.ndarray  # [N, C] float32

    @property
    def predicted(self) -> np.ndarray:
        """[N] int: the most probable class."""
        return self.probabilities.argmax(axis=1)


def write_fold(workdir: str | os.PathLike[str], result: FoldResult) -> Path:
    """Writes `fold_k/predictions.csv`, then `fold_k.json`; returns the path of the latter.

    Raises:
      UserError: a probability is not finite, which is what a diverged training leaves behind.
    """
    workdir, names = Path(workdir), list(result.class_names)
    wrong = int((~np.isfinite(result.probabilities).all(axis=1)).sum())
    if wrong:
        raise UserError(
            f"fold {result.fold}: the probabilities of {wrong} of {len(result.labels)} test clips "
            "are not finite; the training diverged: lower optimizer.peak_lr or clip gradients"
        )
    rows = Predictions(
        np.asarray(result.clip_ids),
        np.full(len(result.labels), result.fold),
        np.asarray(result.groups),
        np.asarray(result.labels),
        np.asarray(result.probabilities, np.float32),
    )
    files.write(workdir / f"fold_{result.fold}" / "predictions.csv", _to_csv(rows, names))
    record = {
        "fold": result.fold,
        **_measures(rows, names),
        "clips": result.clips,
        "steps": result.steps,
        "seconds": result.seconds,
        "extra": result.extra,
    }
    path = workdir / f"fold_{result.fold}.json"
    files.write(path, files.to_json(record))
    return path


def gather(
    workdir: str | os.PathLike[str], folds: Iterable[int], about: Mapping[str, Any]
) -> dict[str, Any]:
    """As `pool`, of a run whose directory holds every fold of `folds`."""
    return pool({fold: Path(workdir) for fold in folds}, about, workdir)


def pool(
    places: Mapping[int, Path], about: Mapping[str, Any], out: str | os.PathLike[str]
) -> dict[str, Any]:
    """Pools the folds' files into `predictions.csv` and `crossval.json`; returns the latter.

    Args:
      places: for each fold the directory that `write_fold` has written it in.
      about: what the result should say of itself. Read here: publisher_folds (bool),
        clips_left_out (list of {"clip", "reason"}), note (str), config (a mapping). All of it is
        copied into the result.
      out: the directory of both files.

    Returns:
      accuracy_mean and accuracy_std over folds (the sample standard deviation, ddof=1; 0 for one
      fold), accuracy_pooled (over clips) with ci95, macro figures, per_class and confusion of the
      pooled confusion matrix, map3, folds, crossings, protocol, versions, and `about`.

    Raises:
      UserError: a fold's files are missing, or are of another set of classes.
    """
    folds = sorted(places)
    records = [read_fold(places[fold], fold) for fold in folds]
    names = records[0]["class_names"]
    for record in records:
        if record["class_names"] != names:
            raise UserError(
                f"{places[record['fold']]}: fold_{record['fold']}.json has other classes than "
                f"fold_{folds[0]}.json; give each experiment its own workdir"
            )
    parts = [read_predictions(places[k] / f"fold_{k}" / "predictions.csv", names) for k in folds]
    rows = _concatenate(parts)
    files.write(Path(out) / "predictions.csv", _to_csv(rows, names))
    result = _pool(records, rows, names, about)
    text = files.to_json(result)
    files.write(Path(out) / "crossval.json", text)
    return json.loads(text)


def read_predictions(path: str | os.PathLike[str], class_names: Sequence[str]) -> Predictions:
    """The rows of a `predictions.csv`; every probability as it was, to the bit."""
    path = Path(path)
    try:
        with path.open(newline="", **files.TEXT) as file:  # type: ignore[call-overload]
            header, *rows = list(csv.reader(file))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; run its fold again (with task='reconstruction' there is none)"
        ) from None
    if header != _header(class_names):
        raise UserError(f"{path} has other columns than the run's classes; run its fold again")
    index = {name: i for i, name in enumerate(class_names)}
    first = len(COLUMNS)
    return Predictions(
        clips=np.array([row[0] for row in rows], dtype=str),
        folds=np.array([row[1] for row in rows], dtype=np.int64),
        groups=np.array([row[4] for row in rows], dtype=str),
        labels=np.array([index[row[2]] for row in rows], dtype=np.int64),
        probabilities=np.array([row[first:] for row in rows], dtype=np.float32).reshape(
            len(rows), len(class_names)
        ),
    )


def format_table(crossval: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a fold, then mean and spread, pooled and interval."""
    row = "{:>6}  {:>8}  {:>8}  {:>6}  {:>7}  {:>9}".format
    lines = [row("fold", "accuracy", "macro F1", "clips", "steps", "time")]
    for fold in crossval["folds"]:
        figures = percent(fold["accuracy"]), percent(fold["macro_f1"])
        clips = fold["clips"].get("test", 0)
        lines.append(row(fold["fold"], *figures, clips, fold["steps"], duration(fold["seconds"])))
    low, high = crossval["ci95"]
    interval = f"95 % interval {100 * low:.1f} to {percent(high)} over {crossval['groups']} sources"
    if len(crossval["folds"]) > 1:
        pooled = percent(crossval["accuracy_pooled"])
        lines += ["", f"  mean    {headline(crossval)}", f"  pooled  {pooled}, {interval}"]
    else:
        lines += ["", f"  {headline(crossval)}, {interval}"]
    return "\n".join(lines + [f"  {text}" for text in remarks(crossval)])


def headline(crossval: Mapping[str, Any]) -> str:
    """The figure to quote: "84.2 % ± 2.1 over 5 folds, last step"."""
    return f"{percent(crossval['accuracy_mean'])} {spread(crossval)}"


def spread(crossval: Mapping[str, Any]) -> str:
    """What follows the figure: "± 2.1 over 5 folds, last step", or "on fold 3 alone, ..."."""
    folds = crossval["folds"]
    if len(folds) == 1:
        return f"on fold {folds[0]['fold']} alone, {weights(crossval)}"
    return f"± {100 * crossval['accuracy_std']:.1f} over {len(folds)} folds, {weights(crossval)}"


def weights(crossval: Mapping[str, Any]) -> str:
    """Whose figure it is: "last step", or "best on validation (epochs 12, 30, 7)"."""
    if crossval.get("weights", "last") == "last":
        return "last step"
    epochs = [str(fold["weights_epoch"]) for fold in crossval["folds"]]
    return f"best on validation (epoch{'s' if len(epochs) > 1 else ''} {', '.join(epochs)})"


def remarks(crossval: Mapping[str, Any]) -> list[str]:
    """What a reader of the figure must know besides: a partial copy, clips left out, crossings."""
    texts = [crossval["note"]] if crossval["note"] else []
    if watched := crossval.get("watched"):
        epochs = ", ".join(map(str, watched["epochs"]))
        texts.append(
            f"best epoch on the test fold: {percent(watched['accuracy_mean'])} (epoch"
            f"{'s' if len(watched['epochs']) > 1 else ''} {epochs}); it was chosen on the test "
            "fold and is therefore no result"
        )
    if count := len(crossval["clips_left_out"]):
        texts.append(f"{count} {'clip was' if count == 1 else 'clips were'} left out")
    if count := len(crossval["crossings"]):
        texts.append(
            f"the publisher's folds divide {count} source recording{'s' if count > 1 else ''}"
        )
    return texts


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """41 s, 2 m 05 s, 1 h 07 m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def _measures(rows: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
    """Every figure of a set of predictions."""
    confusion = metrics.confusion_matrix(rows.labels, rows.predicted, len(class_names))
    summary = metrics.summary(confusion)
    table = summary.pop("per_class")
    loss = metrics.cross_entropy(rows.probabilities, rows.labels)
    return {
        **summary,
        "loss": float(loss.mean()) if len(loss) else None,
        "map3": metrics.map_at_k(rows.probabilities, rows.labels, 3),
        "brier": metrics.brier_score(rows.probabilities, rows.labels),
        "ece": metrics.calibration_error(rows.probabilities, rows.labels),
        "per_class": [
            {"class": name, **{column: values[i] for column, values in table.items()}}
            for i, name in enumerate(class_names)
        ],
        "confusion": confusion,
        "class_names": list(class_names),
    }


def _pool(
    records: Sequence[Mapping[str, Any]],
    rows: Predictions,
    class_names: Sequence[str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    accuracies = [record["accuracy"] for record in records]
    measures = _measures(rows, class_names)
    pooled = measures.pop("accuracy")
    figures = ("accuracy", "macro_f1", "macro_recall", "map3", "loss", "brier", "ece")
    columns = ("fold", *figures, "clips", "steps", "seconds")
    extras = [record["extra"] for record in records]
    crossings: list[Any] = []
    for extra in extras:
        new = extra.get("crossings", ())
        crossings += [crossing for crossing in new if crossing not in crossings]
    about = {"note": "", "clips_left_out": [], **about}
    return {
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0,
        "accuracy_pooled": pooled,
        "ci95": metrics.bootstrap_interval(rows.predicted == rows.labels, rows.groups),
        "weights": extras[0].get("weights", "last"),
        "watched": _watched(extras),
        "protocol": _protocol(records, bool(about.get("publisher_folds"))),
        "folds": [
            {column: record.get(column) for column in columns}  # earlier versions had fewer
            | {key: extra.get(key) for key in ("weights_epoch", "watched")}
            for record, extra in zip(records, extras, strict=True)
        ],
        **measures,
        "reliability": metrics.reliability(rows.probabilities, rows.labels),
        "clips_used": len(rows.labels),
        "groups": len(np.unique(rows.groups)),
        "crossings": crossings,
        "versions": versions(),
        **about,
    }


def _watched(extras: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean and epochs of the folds' best accuracies on the test fold, where all were watched."""
    watched = [extra["watched"] for extra in extras if extra.get("watched")]
    if len(watched) < len(extras):
        return None
    return {
        "accuracy_mean": float(np.mean([best["accuracy"] for best in watched])),
        "epochs": [best["epoch"] for best in watched],
    }


def _protocol(records: Sequence[Mapping[str, Any]], publisher_folds: bool) -> str:
    whose = "the publisher's" if publisher_folds else "our own, divided by source recording"
    listed = ", ".join(str(record["fold"]) for record in records)
    monitor = records[0]["extra"].get("monitor")
    best = f"that were best on the validation split by {monitor}"
    which = best if monitor else "of the last step"
    return (
        f"Weights {which}, on test fold{'s' if len(records) > 1 else ''} {listed}; nothing "
        f"was chosen with a test fold's clips; the folds are {whose}."
    )


def versions() -> dict[str, str]:
    """Of what made a result: Python, jaxsound and `PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in ("jaxsound", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_fold(workdir: Path, fold: int, task: str = "classification") -> dict[str, Any]:
    """What `write_fold` has written, here or in `reconstruction.py`.

    Raises `UserError` where it is missing, not whole, or of a run with another task.
    """
    path = workdir / f"fold_{fold}.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: fold {fold} has not finished; run it first") from None
    except json.JSONDecodeError:
        raise UserError(f"{path} is not whole; remove it and run fold {fold} again") from None
    if (there := record.get("task", "classification")) != task:
        raise UserError(f"{path} is of a run with task={there!r}; this takes one of {task}")
    return record


def _concatenate(parts: Sequence[Predictions]) -> Predictions:
    fields = [field.name for field in dataclasses.fields(Predictions)]
    return Predictions(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def _header(class_names: Sequence[str]) -> list[str]:
    return [*COLUMNS, *(f"p_{name}" for name in class_names)]


def _to_csv(rows: Predictions, class_names: Sequence[str]) -> str:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(_header(class_names))
    for i, predicted in enumerate(rows.predicted):
        out.writerow(
            [
                rows.clips[i],
                rows.folds[i],
                class_names[rows.labels[i]],
                class_names[predicted],
                rows.groups[i],
                *(f"{p:.9g}" for p in rows.probabilities[i]),  # 9 digits name a float32 exactly
            ]
        )
    return text.getvalue()


if __name__ == "__main__":
    from jaxsound.evaluation import runs  # which imports this module

    sys.exit(runs.main(sys.argv[1:]))
