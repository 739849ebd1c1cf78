"""Whether a run's probabilities mean what they say, and would by temperature scaling.

python -m jaxsound.evaluation.calibration RUN [--out DIR]

Each fold's temperature is fitted on that fold's validation clips, which its model was not trained
on, and then applied to its test clips; nothing is fitted on a test fold. Prints both figures, plain
and scaled, and writes `calibration.json` and `reliability.png`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np
from scipy import optimize, special

from jaxsound.cache import cache_root, keep_programs
from jaxsound.errors import UserError, command
from jaxsound.evaluation import crossval, files, metrics, plots
from jaxsound.evaluation.crossval import Predictions
from jaxsound.input import finished
from jaxsound.input.finished import Finished

LARGEST = 20.0  # temperature, and the inverse of the smallest
_AT_BOUND = 0.999  # of a bound's logarithm
_LEAST = 1e-12  # probability, as `metrics.cross_entropy` has it
FIGURES = ("nll", "brier", "ece", "accuracy")


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which logits are divided for the least cross-entropy.

    From 1 / 20 to 20: where every clip is right, or none, the best one has no bounds. Guo et al.
    2017, "On calibration of modern neural networks", section 4.2.

    Args:
      logits: [N, C], or logarithms of probabilities.
      labels: [N].
    """
    logits = np.asarray(logits, np.float64)
    true = logits[np.arange(len(labels)), labels]

    def loss(logarithm: float) -> float:
        inverse = np.exp(-logarithm)
        return float(np.mean(special.logsumexp(logits * inverse, axis=1) - true * inverse))

    bound = np.log(LARGEST)
    found = optimize.minimize_scalar(
        loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [N, C] as their logits divided by `temperature` give them; float64."""
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST))
    return special.softmax(logs / temperature, axis=1)


def figures(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`FIGURES` of probabilities [N, C]: cross-entropy in nats, Brier score, ECE and accuracy."""
    return {
        "nll": float(metrics.cross_entropy(probabilities, labels).mean()),
        "brier": metrics.brier_score(probabilities, labels),
        "ece": metrics.calibration_error(probabilities, labels),
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == labels)),
    }


@command()
def main(argv: Sequence[str]) -> int:
    """Calibrates the run that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.evaluation.calibration",
        description="A run's calibration on its test clips, plain and by temperature scaling.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of both files; RUN if not given")
    options, changes = finished.parse(parser, argv)
    absl.logging.set_verbosity(absl.logging.ERROR)
    keep_programs(cache_root(changes.get("data.cache_dir", "")))
    result = calibrate(finished.open_run(options.run, changes))
    out = options.out or options.run
    files.write(out / "calibration.json", files.to_json(result))
    picture = plots.reliability_figure(
        {part: result[part]["reliability"] for part in ("plain", "scaled")}
    )
    plots.write_png(out / "reliability.png", picture)
    print(format_table(result), f"\nfigure  {out / 'reliability.png'}", sep="\n")
    return 0


def calibrate(run: Finished) -> dict[str, Any]:
    """Fits each fold's temperature on its validation clips and measures it on its test clips.

    Returns:
      What `calibration.json` holds.

    Raises:
      UserError: the run has held out no clips for validation, or has a broken fold.
    """
    if not run.config.data.validation:
        raise UserError(
            f"{run.directory}: config.data.validation=0: no clips were held out that a temperature "
            "could be fitted on; the test clips are not for that"
        )
    rows, temperatures, counts = [], {}, {}
    for fold in run.folds:
        held = run.split(fold).validation
        if not len(held):
            raise UserError(f"{run.directory}: fold {fold} has no validation clips")
        said = finished.logits(run.model(fold), finished.frames_of(run.store, held))
        temperatures[fold] = fit_temperature(said, run.store.labels[held])
        counts[fold] = len(held)
        path = run.directory / f"fold_{fold}" / "predictions.csv"
        rows.append(crossval.read_predictions(path, run.store.class_names))
    return {
        "run": str(run.directory),
        "fitted_on": "each fold's own validation clips",
        "weights": run.config.select,
        "folds": [
            {
                "fold": fold,
                "temperature": temperatures[fold],
                "validation_clips": counts[fold],
                "plain": figures(part.probabilities, part.labels),
                "scaled": figures(scaled(part.probabilities, temperatures[fold]), part.labels),
            }
            for fold, part in zip(run.folds, rows, strict=True)
        ],
        "plain": _pooled(rows, {fold: 1.0 for fold in run.folds}),
        "scaled": _pooled(rows, temperatures),
    }


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a fold, then all folds' clips together."""
    row = "{:>6}  {:>11}  {:>14}  {:>15}  {:>15}  {:>15}".format
    lines = [row("fold", "temperature", "fitted on", "NLL", "Brier", "ECE")]
    for fold in result["folds"]:
        clips = f"{fold['validation_clips']} clips"
        lines.append(row(fold["fold"], f"{fold['temperature']:.3f}", clips, *_both(fold)))
    lines += [row("all", "", "", *_both(result)), "", "  plain > scaled, on the test clips"]
    bounds = np.log([fold["temperature"] for fold in result["folds"]]) / np.log(LARGEST)
    if (np.abs(bounds) > _AT_BOUND).any():
        lines.append(
            f"  a temperature at its bound, {1 / LARGEST:g} or {LARGEST:g}: its validation clips "
            "are all right, or all wrong, or too few to fit one"
        )
    if result["weights"] == "best":
        lines.append("  the weights were chosen on the same validation clips, which flatters them")
    return "\n".join(lines)


def _both(part: Mapping[str, Any]) -> list[str]:
    return [f"{part['plain'][name]:.3f} > {part['scaled'][name]:.3f}" for name in FIGURES[:3]]


def _pooled(rows: Sequence[Predictions], temperatures: Mapping[int, float]) -> dict[str, Any]:
    """Figures and diagram of all folds' test clips together, each by its fold's temperature."""
    parts = zip(rows, temperatures.values(), strict=True)
    probabilities = np.concatenate([scaled(part.probabilities, t) for part, t in parts])
    labels = np.concatenate([part.labels for part in rows])
    diagram = metrics.reliability(probabilities, labels)
    return {**figures(probabilities, labels), "reliability": diagram}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
