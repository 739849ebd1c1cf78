"""The result of a run that reconstructs: errors on its folds' test clips, and no accuracy.

`fold_k/errors.csv`, then `fold_k.json`, then `crossval.json`, as `crossval.py` has predictions.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound.evaluation import crossval, files

TASK = "reconstruction"


def write_fold(
    workdir: Path, fold: int, clip_ids: np.ndarray, errors: np.ndarray, about: Mapping[str, Any]
) -> Path:
    """Writes `fold_k/errors.csv`, then `fold_k.json`; returns the path of the latter.

    Args:
      workdir: the run's.
      fold: k.
      clip_ids: of its N test clips.
      errors: `[N, 2]` of the network, and of predicting the mean; NaN for clips left out.
      about: `clips`, `steps`, `seconds` and `extra`, as `crossval.FoldResult` has them.
    """
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("clip", "loss", "loss_of_mean"))
    out.writerows(
        (clip, *map("{:.9g}".format, row)) for clip, row in zip(clip_ids, errors, strict=True)
    )
    files.write(workdir / f"fold_{fold}" / "errors.csv", text.getvalue())
    loss, of_mean = (float(np.nanmean(column, dtype=np.float64)) for column in errors.T)
    record = {"task": TASK, "fold": fold, "loss": loss, "loss_of_mean": of_mean, **about}
    path = workdir / f"fold_{fold}.json"
    files.write(path, files.to_json(record))
    return path


def gather(workdir: Path, folds: Iterable[int], about: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `crossval.json` of the folds' records and returns it.

    Returns:
      loss_mean and loss_std over folds (the sample standard deviation; 0 for one), loss_of_mean,
      folds, clips_used, crossings, protocol, weights, versions, and `about`.

    Raises:
      UserError: a fold's record cannot be read.
    """
    records = [crossval.read_fold(workdir, fold, TASK) for fold in sorted(folds)]
    losses = [record["loss"] for record in records]
    crossings: list[Any] = []
    for record in records:
        crossings += [part for part in record["extra"]["crossings"] if part not in crossings]
    result = {
        "task": TASK,
        "loss_mean": float(np.mean(losses)),
        "loss_std": float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0,
        "loss_of_mean": float(np.mean([record["loss_of_mean"] for record in records])),
        "weights": records[0]["extra"]["weights"],
        "protocol": "Mean squared error over the masked parts of the test clips, in standard "
        "deviations of the training clips. Labels were not looked at; this is no accuracy.",
        "folds": [record | record["extra"] for record in records],
        "clips_used": sum(record["clips"]["test"] for record in records),
        "crossings": crossings,
        "versions": crossval.versions(),
        **{"note": "", "clips_left_out": [], **about},
    }
    text = files.to_json(result)
    files.write(workdir / "crossval.json", text)
    return json.loads(text)


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a fold, then the mean, and what to do with it."""
    row = "{:>6}  {:>8}  {:>11}  {:>6}  {:>7}  {:>9}".format
    lines = [row("fold", "loss", "of the mean", "clips", "steps", "time")]
    for fold in result["folds"]:
        figures = f"{fold['loss']:.4f}", f"{fold['loss_of_mean']:.4f}"
        time = crossval.duration(fold["seconds"])
        lines.append(row(fold["fold"], *figures, fold["clips"]["test"], fold["steps"], time))
    return "\n".join([*lines, "", f"  {headline(result)}", *(f"  {x}" for x in remarks(result))])


def headline(result: Mapping[str, Any]) -> str:
    """The figure: "reconstruction loss 0.412 ± 0.010 over 5 folds, last step; ..."."""
    return f"reconstruction loss {result['loss_mean']:.3f} {spread(result)}"


def spread(result: Mapping[str, Any]) -> str:
    """What follows the figure, with that of predicting the mean, which needs no network."""
    folds, of_mean = result["folds"], f"the mean has {result['loss_of_mean']:.3f}"
    if len(folds) == 1:
        return f"on fold {folds[0]['fold']} alone, {crossval.weights(result)}; {of_mean}"
    deviation = f"± {result['loss_std']:.3f} over {len(folds)} folds"
    return f"{deviation}, {crossval.weights(result)}; {of_mean}"


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know besides, and where the encoder goes from here."""
    return [
        *crossval.remarks(result),
        "no accuracy: labels were not looked at; to train a classifier from it, "
        "--config.pretrained.weights=RUN/fold_k, or RUN for fold k from fold k",
    ]
