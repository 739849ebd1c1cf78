"""Test-time augmentation: a run's models look at several views of each test clip.

python -m jaxsound.evaluation.tta RUN --out DIR [--views 5]

Of a clip that is longer than the model's input the views are crops at even distances, the first at
its start and the last at its end; any other clip is turned round within its own length by even
steps. Probabilities are averaged over the views, fold by fold. The figure stands beside the run's
own, which has one view: `DIR` gets `tta.json`, and `crossval.json`, `predictions.csv` and
`report.html` as a run has them. Turning round is a view of the same sound only to a model that was
trained with it (`augment.shift` or `augment.time_roll`).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np
from scipy import special

from jaxsound.cache import cache_root, keep_programs
from jaxsound.errors import UserError, command
from jaxsound.evaluation import crossval, ensemble, files, report
from jaxsound.evaluation.crossval import percent
from jaxsound.input import finished
from jaxsound.input.finished import Finished
from jaxsound.job import workdir
from jaxsound.training.restore import Trained


@command()
def main(argv: Sequence[str]) -> int:
    """Evaluates the run that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.evaluation.tta",
        description="A run's accuracy with several views of each test clip.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the result")
    parser.add_argument("--views", type=int, default=5, metavar="V", help="of each clip (5)")
    options, changes = finished.parse(parser, argv)
    if options.views < 1:
        parser.error("--views must be 1 or more")
    absl.logging.set_verbosity(absl.logging.ERROR)
    if options.out.resolve() == options.run.resolve():
        raise UserError(f"--out={options.out} is the run; name another directory")
    own = ensemble.result_of(options.run)
    keep_programs(cache_root(changes.get("data.cache_dir", "")))
    run = finished.open_run(options.run, changes)
    result = evaluate(run, own, options.views, options.out)
    print(format_table(result), f"\nreport  {options.out / 'report.html'}", sep="\n")
    return 0


def view(clip: np.ndarray, number: int, views: int, frames: int) -> np.ndarray:
    """One of the views of a clip's frames `[t, M]`: `[min(t, frames), M]`.

    Args:
      clip: all of its frames.
      number: 0 to `views - 1`. Of an odd number of crops the middle one is what evaluation sees;
        of turns, the first.
      views: how many there are.
      frames: the most that the model is given.
    """
    spare = len(clip) - frames
    if spare <= 0:
        return np.roll(clip, -(number * len(clip) // views), axis=0)
    start = spare // 2 if views == 1 else number * spare // (views - 1)
    return clip[start : start + frames]


def evaluate(run: Finished, own: Mapping[str, Any], views: int, out: Path) -> dict[str, Any]:
    """Averages over views on each fold's test clips, by that fold's model, and writes `out`.

    Args:
      run: whose folds that are done are evaluated.
      own: what its `crossval.json` holds.
      views: of each clip.
      out: a directory that is not the run's.

    Returns:
      What `tta.json` holds.

    Raises:
      UserError: a checkpoint is missing, damaged, or of another fold.
    """
    for fold in run.folds:
        model, split = run.model(fold), run.split(fold)
        clips = finished.frames_of(run.store, split.test)
        record = crossval.read_fold(run.directory, fold)
        crossval.write_fold(
            out,
            crossval.FoldResult(
                fold=fold,
                class_names=run.store.class_names,
                clip_ids=run.store.clip_ids[split.test],
                groups=run.store.groups[split.test],
                labels=run.store.labels[split.test],
                probabilities=averaged(model, clips, views),
                **{key: record[key] for key in ("steps", "seconds", "clips", "extra")},
            ),
        )
    note = f"probabilities averaged over {views} views of each test clip"
    about = workdir.about_data(run.store) | {"config": run.config.to_dict()}
    about["note"] = "; ".join(filter(None, [about["note"], note]))
    pooled = crossval.gather(out, run.folds, about)
    report.write_report(out)
    result = {
        "run": str(run.directory),
        "views": views,
        "folds": [
            {
                "fold": part["fold"],
                "plain": crossval.read_fold(run.directory, part["fold"])["accuracy"],
                "views": part["accuracy"],
            }
            for part in pooled["folds"]
        ],
        **{
            name: {key: figures[key] for key in ("accuracy_mean", "accuracy_std")}
            for name, figures in (("plain", own), ("averaged", pooled))
        },
    }
    files.write(out / "tta.json", files.to_json(result))
    return result


def averaged(model: Trained, clips: Sequence[np.ndarray], views: int) -> np.ndarray:
    """Probabilities `[N, C]` float64, the mean over the views of each clip."""
    total = np.zeros((len(clips), len(model.class_names)))
    for number in range(views):
        seen = [view(clip, number, views, model.frames) for clip in clips]
        total += special.softmax(finished.logits(model, seen).astype(np.float64), axis=1)
    return total / views


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a fold, then the means."""
    row = "{:>6}  {:>14}  {:>14}".format
    lines = [row("fold", "one view", f"{result['views']} views")]
    for part in result["folds"]:
        lines.append(row(part["fold"], percent(part["plain"]), percent(part["views"])))
    means = [
        f"{percent(part['accuracy_mean'])} ± {100 * part['accuracy_std']:.1f}"
        for part in (result["plain"], result["averaged"])
    ]
    return "\n".join([*lines, row("mean", *means)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
