"""How much a run still hears when recordings are worse than those it was trained on.

python -m jaxsound.evaluation.robustness RUN [--seed N] [--only noise,gain] [--out DIR]

Eight corruptions in five severities, each fold's model on that fold's own test clips and on no
others. Prints a table, and writes `robustness.json` and `robustness.png`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np

from jaxsound.bars import bar
from jaxsound.cache import cache_root, keep_programs
from jaxsound.data.ahead import ahead
from jaxsound.data.dataset import Record, prepare
from jaxsound.errors import UserError, command
from jaxsound.evaluation import crossval, files, plots
from jaxsound.evaluation.corruptions import CORRUPTIONS, Corruption, corrupt
from jaxsound.evaluation.crossval import percent
from jaxsound.features import clip
from jaxsound.features.frontend import FrontendConfig
from jaxsound.input import finished
from jaxsound.input.finished import Finished
from jaxsound.training.restore import Trained

SEVERITIES = range(1, 6)
Condition = tuple[Corruption, int] | None  # and its severity; None is the clean sound


@command()
def main(argv: Sequence[str]) -> int:
    """Evaluates what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.evaluation.robustness",
        description="A run's accuracy on its own test clips, corrupted.",
    )
    names = ", ".join(corruption.name for corruption in CORRUPTIONS)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance (0)")
    parser.add_argument("--only", default="", metavar="A,B", help=f"some of: {names}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of both files; RUN if not given")
    options, changes = finished.parse(parser, argv)
    if options.seed < 0:
        parser.error("--seed must be 0 or more")
    absl.logging.set_verbosity(absl.logging.ERROR)
    chosen = _chosen(options.only)
    keep_programs(cache_root(changes.get("data.cache_dir", "")))
    run = finished.open_run(options.run, changes)
    result = evaluate(run, prepare(run.config.data).clips, chosen, options.seed)
    out = options.out or options.run
    files.write(out / "robustness.json", files.to_json(result))
    plots.write_png(out / "robustness.png", plots.robustness_figure(result))
    print(format_table(result), f"\nfigure  {out / 'robustness.png'}", sep="\n")
    return 0


def evaluate(
    run: Finished,
    clips: Sequence[Record],
    chosen: Sequence[Corruption] = CORRUPTIONS,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of each fold's model on that fold's test clips, clean and corrupted.

    Args:
      run: whose folds that are done are evaluated.
      clips: the records of `run.store`, in its order.
      chosen: which corruptions.
      seed: of what they leave to chance; the same seed gives the same numbers.

    Returns:
      What `robustness.json` holds.

    Raises:
      UserError: a checkpoint is missing, damaged, or of another fold.
    """
    conditions: list[Condition] = [None, *((c, s) for c in chosen for s in SEVERITIES)]
    accuracy: dict[Condition, dict[int, float]] = {condition: {} for condition in conditions}
    differing = 0
    total = len(run.folds) * len(conditions)
    with bar(total=total, desc="robustness", unit="pass") as passes:
        for fold in run.folds:
            model, test = run.model(fold), run.split(fold).test
            labels = run.store.labels[test]
            for condition in conditions:
                said = _predicted(model, clips, test, condition, seed)
                accuracy[condition][fold] = float(np.mean(said == labels))
                if condition is None:
                    differing += _differing(run, fold, test, said)
                passes.update()
    return {
        "run": str(run.directory),
        "seed": seed,
        "clips": sum(len(run.split(fold).test) for fold in run.folds),
        "classes": len(run.store.class_names),
        "clean": _pooled(accuracy[None]),
        "clean_differing": differing,
        "accuracy_mean": float(np.mean([_mean(accuracy[c]) for c in conditions if c])),
        "corruptions": [_of_corruption(c, accuracy) for c in chosen],
    }


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a corruption, a column a severity."""
    wide = max(len(part["name"]) for part in result["corruptions"])
    row = (f"{{:<{wide}}}" + "  {:>7}" * 6 + "  {}").format
    lines = [row("severity", *SEVERITIES, "mean", "levels")]
    for part in result["corruptions"]:
        figures = [percent(level["accuracy_mean"]) for level in part["severities"]]
        levels = ", ".join(f"{level['level']:g}" for level in part["severities"])
        figures.append(percent(part["accuracy_mean"]))
        lines.append(row(part["name"], *figures, f"{levels} {part['unit']}"))
    clean, folds = result["clean"], len(result["clean"]["folds"])
    lines += [
        "",
        f"  clean      {percent(clean['accuracy_mean'])} ± {100 * clean['accuracy_std']:.1f} over "
        f"{folds} fold{'s' if folds > 1 else ''}, {result['clips']} test clips",
        f"  corrupted  {percent(result['accuracy_mean'])}, mean over all of the above",
    ]
    if result["clean_differing"]:
        lines.append(
            f"  {result['clean_differing']} clean clips are classified otherwise than in the run's "
            "predictions.csv: this machine or version computes other numbers"
        )
    return "\n".join(lines)


def _chosen(only: str) -> tuple[Corruption, ...]:
    known = {corruption.name: corruption for corruption in CORRUPTIONS}
    names = [name.strip() for name in only.split(",") if name.strip()] or list(known)
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"--only={only}: no corruption {unknown[0]!r}; there are {', '.join(known)}"
        )
    return tuple(known[name] for name in names)


def _predicted(
    model: Trained, clips: Sequence[Record], test: np.ndarray, condition: Condition, seed: int
) -> np.ndarray:
    """`[N]`, the class that is said of each test clip."""

    def heard(index: int) -> np.ndarray:
        return _frames(model.frontend, clips[int(index)], condition, seed)

    return finished.logits(model, list(ahead(heard, test))).argmax(axis=1)


def _frames(
    frontend: FrontendConfig, record: Record, condition: Condition, seed: int
) -> np.ndarray:
    """Frames `[t, M]`, computed as a feature store computes them."""
    if condition is not None:
        rate, clip_id = int(record["sample_rate"]), str(record["clip_id"])
        audio = corrupt(*condition, np.asarray(record["audio"]), rate, seed=seed, clip_id=clip_id)
        record = {**record, "audio": audio}
    return clip.transform(frontend, record)[0]


def _differing(run: Finished, fold: int, test: np.ndarray, said: np.ndarray) -> int:
    """How many clips the run itself has classified otherwise.

    Raises:
      UserError: the run was not tested on these clips.
    """
    path = run.directory / f"fold_{fold}" / "predictions.csv"
    rows = crossval.read_predictions(path, run.store.class_names)
    if not np.array_equal(rows.clips, run.store.clip_ids[test]):
        raise UserError(f"{path}: fold {fold} was tested on other clips than the data has now")
    return int((rows.predicted != said).sum())


def _of_corruption(
    corruption: Corruption, accuracy: Mapping[Condition, Mapping[int, float]]
) -> dict[str, Any]:
    severities = [
        {"severity": severity, "level": level, **_pooled(accuracy[corruption, severity])}
        for severity, level in zip(SEVERITIES, corruption.levels, strict=True)
    ]
    return {
        "name": corruption.name,
        "unit": corruption.unit,
        "accuracy_mean": float(np.mean([part["accuracy_mean"] for part in severities])),
        "severities": severities,
    }


def _pooled(folds: Mapping[int, float]) -> dict[str, Any]:
    """Mean and sample standard deviation over folds, and the folds' own figures."""
    spread = float(np.std(list(folds.values()), ddof=1)) if len(folds) > 1 else 0.0
    return {"accuracy_mean": _mean(folds), "accuracy_std": spread, "folds": dict(folds)}


def _mean(folds: Mapping[int, float]) -> float:
    return float(np.mean(list(folds.values())))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
