"""What a run leaves for its reader: a fold's result, and all folds' pooled."""

from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from jaxsound.evaluation import crossval, curves, images, reconstruction, report
from jaxsound.evaluation.evaluators import Predictions
from jaxsound.experiment import Experiment
from jaxsound.features.store import Store
from jaxsound.job import workdir
from jaxsound.training.writer import METRICS_FILE, make_writer

CLASSIFIED = (
    *("accuracy_mean", "accuracy_std", "accuracy_pooled"),
    *("macro_f1", "macro_recall", "map3"),
)
RECONSTRUCTED = ("loss_mean", "loss_std", "loss_of_mean")


def weights_tested(experiment: Experiment, directory: Path, step: int) -> dict[str, Any]:
    """Which weights gave a fold's figure, and the test fold's best epoch if it was watched."""
    config, per_epoch = experiment.config, experiment.steps_per_epoch
    about = {"weights": config.select, "weights_step": step, "weights_epoch": step // per_epoch}
    if config.select == "best":
        about["monitor"] = config.monitor
    if config.watch_test and (best := curves.best(directory / METRICS_FILE, "test/accuracy")):
        step, accuracy = best
        about["watched"] = {"accuracy": accuracy, "step": step, "epoch": step // per_epoch}
    return about


def write_fold(
    experiment: Experiment,
    directory: Path,
    fold: int,
    predictions: Predictions,
    steps: int,
    seconds: float,
    about_weights: dict[str, Any],
) -> None:
    """Writes a fold's result: what it made of its test clips, and whose weights those are."""
    store, split, clips = experiment.store, experiment.splits[fold], predictions.clips
    about: dict[str, Any] = {
        "steps": steps,
        "seconds": seconds,
        "clips": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "extra": {"crossings": list(split.crossings), **about_weights},
    }
    if experiment.config.task == reconstruction.TASK:
        ids, errors = store.clip_ids[clips], predictions.logits
        reconstruction.write_fold(directory, fold, ids, errors, about)
        return
    result = crossval.FoldResult(
        fold=fold,
        class_names=store.class_names,
        clip_ids=store.clip_ids[clips],
        groups=store.groups[clips],
        labels=store.labels[clips],
        probabilities=np.asarray(jax.nn.softmax(predictions.logits)),
        **about,
    )
    crossval.write_fold(directory, result)


def finish(config: ml_collections.ConfigDict, store: Store, directory: Path) -> dict[str, Any]:
    """Pools all folds that are done, earlier ones too, into result, report and curves."""
    about = workdir.about_data(store) | {"config": config.to_dict()}
    available = about["folds_available"]
    missing = workdir.unfinished(directory, available)
    reconstructs = config.task == reconstruction.TASK
    gather = reconstruction.gather if reconstructs else crossval.gather
    result = gather(directory, [k for k in available if k not in missing], about)
    report.write_report(directory)
    writer = make_writer(
        directory / "crossval", resume_step=0, wandb=config.wandb, config=config.to_dict()
    )
    steps = max(fold["steps"] for fold in result["folds"])
    names = RECONSTRUCTED if reconstructs else CLASSIFIED
    writer.write_scalars(steps, {f"crossval/{name}": result[name] for name in names})
    if not reconstructs:
        writer.write_images(steps, {"crossval/confusion": images.pooled_confusion(result)[None]})
    writer.close()
    return result


def format_table(result: dict[str, Any]) -> str:
    """A run's result for a terminal."""
    of = reconstruction if result.get("task") == reconstruction.TASK else crossval
    return of.format_table(result)
