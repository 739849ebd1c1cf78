"""The training loop: prepare, train every fold, evaluate, gather.

`experiment.py` sets the table, `train_folds` is the loop, and `results.py` is what it leaves. A run
directory holds `config.json`, a folder and a `fold_k.json` for each fold, and at the end
`crossval.json`, `predictions.csv` and `report.html`.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from jaxsound.data import folds
from jaxsound.evaluation import images
from jaxsound.experiment import (
    Experiment,
    evaluator,
    finite_watch,
    initial_state,
    make_experiment,
    observed,
    side_by_side,
    steps_per_call,
    take_steps,
    train_iterator,
)
from jaxsound.input.stores import prepare_store
from jaxsound.job import hosts, stopping, workdir
from jaxsound.pretrained import files
from jaxsound.results import finish, weights_tested, write_fold
from jaxsound.training import selection, state, wandb_writer
from jaxsound.training.checkpoint import Checkpoints
from jaxsound.training.profiling import Profile
from jaxsound.training.progress import Progress


def run(config: ml_collections.ConfigDict, directory: Path) -> dict[str, Any] | None:
    """Runs the experiment, or what is left of it.

    Returns:
      The cross-validated result; None when another process has it or will have it.
    """
    files.pin(config.pretrained, workdir.weights_of_finished(directory, config))
    workdir.check(directory, config)
    result = workdir.finished(directory, config)
    hosts.agree({"configuration": workdir.shared_config(config), "result": str(bool(result))})
    if result:
        print(f"{directory} was finished before; this is its result.\n")
        return result
    writes = jax.process_index() == 0 or config.crossval == "process"
    wandb_writer.check(config.wandb if writes else "")
    store = prepare_store(config)
    available = workdir.available_folds(store)
    splits = {
        fold: folds.split(store, fold, validation=config.data.validation, seed=config.seed)
        for fold in sorted(set(config.folds)) or available
    }
    again = workdir.extended(directory, config)
    todo = list(splits) if again else workdir.unfinished(directory, splits)
    if config.crossval == "process":
        todo = workdir.share_of_process(todo)
    hosts.agree({"clips": workdir.digest_of_clips(store), "folds that are left": str(todo)})
    stacked = side_by_side(config, workdir.side_by_side(directory)) and len(splits) > 1
    # Side by side, all folds go on together, even those whose result is already written.
    groups = [list(splits)] if stacked else [[fold] for fold in todo]
    experiment = make_experiment(config, store, splits, stacked) if todo else None
    # Only now: what cannot run leaves no record behind.
    workdir.claim(directory, config, store)
    if experiment:
        with workdir.lock(directory, shared=config.crossval == "process"):
            for group in groups:
                train_folds(experiment, group, directory)
    if jax.process_index() != 0:
        return None
    if workdir.unfinished(directory, splits):
        print("This process's folds are done; the last process to finish writes the result.")
        return None
    return finish(config, store, directory)


def train_folds(experiment: Experiment, group: list[int], directory: Path) -> None:
    """Trains one fold, or several side by side, from wherever they stand to their last step."""
    config, placement, steps = experiment.config, experiment.placement, experiment.steps
    current = placement.stack([initial_state(experiment, fold) for fold in group])
    key = placement.stack([state.stream_key(config.seed, "train", fold) for fold in group])
    iterators = {fold: train_iterator(experiment, fold) for fold in group}
    with contextlib.ExitStack() as closing:
        for iterator in iterators.values():
            closing.callback(iterator.close)
        folder = workdir.checkpoints(directory, group)
        closing.enter_context(workdir.lock(folder.parent))
        checkpoints = closing.enter_context(Checkpoints(folder))
        current, start, seconds = checkpoints.restore(current, iterators)
        progress = closing.enter_context(
            open_progress(experiment, group, directory, start, seconds)
        )
        profile = closing.enter_context(
            Profile(config.profile_steps, directory / f"fold_{group[0]}")
        )
        about = workdir.about_checkpoint(config, experiment.store, group, experiment.pad_frames)
        feeds = [iterators[fold] for fold in group]
        every = config.eval_every
        validate = evaluator(experiment, group, "validation", every=every, last=steps)
        watched = {"every": every, "last": steps} if config.watch_test else {}
        watch = evaluator(experiment, group, "test", **watched)
        numbers = finite_watch(experiment, group)
        save_every = config.checkpoint_every * experiment.steps_per_epoch
        ends = selection.stops(config, current)

        def save() -> None:
            progress.settle()
            numbers.settle(now, current)
            checkpoints.save(now, current, iterators, about, progress.seconds)

        def save_and_wait() -> str:
            save()
            checkpoints.wait()
            return f"step {now} of fold {', '.join(map(str, group))} is saved"

        closing.enter_context(stopping.saving(save_and_wait))
        count = steps_per_call(experiment, start)
        for now in range(start, steps + 1, count):
            if validate.due(now):
                numbers.settle(now)
                found = validate(current, now)
                progress.evaluated(now, "validation", found)
                current = observed(experiment, current, found)
                ends = selection.stops(config, current)
            if watch.due(now):
                progress.evaluated(now, "test", watch(current, now))
            if ends or now == steps:
                break
            if save_every and now > start and now % save_every == 0:
                save()
            stopping.check(now, count)
            checkpoints.check()
            profile.before(now, current)
            with profile.step(now):
                current, measures = take_steps(experiment, current, feeds, key, count)
            stopping.hold()
            progress.stepped(now + count, measures, count)
            numbers.took(now + count, measures, count)

        progress.finish()
        save()
        name = "test" if config.select == "last" else "test_best"
        test = evaluator(experiment, group, "test")(selection.chosen(current), now)
        progress.evaluated(now, name, test)
        if config.task == "classification":
            drawn = [functools.partial(images.confusion, experiment.store, part) for part in test]
            progress.image(now, f"{name}/confusion", drawn)
        if placement.stacked:
            save_apart(experiment, group, current, iterators, directory, now, progress.seconds)
    # Only now, with checkpoints and curves on disk, does a fold count as done.
    tested = np.atleast_1d(selection.step_tested(current)).tolist()
    seconds = progress.seconds / len(group)
    for fold, predictions, step in zip(group, test, tested, strict=True):
        about_weights = weights_tested(experiment, directory / f"fold_{fold}", step)
        if jax.process_index() == 0 or config.crossval == "process":
            write_fold(experiment, directory, fold, predictions, now, seconds, about_weights)


def open_progress(
    experiment: Experiment, group: list[int], directory: Path, start: int, seconds: float
) -> Progress:
    """Opens the writers; a new run begins with its configuration and a look at its clips."""
    config, store = experiment.config, experiment.store
    progress = Progress(
        directory,
        group,
        start=start,
        total=experiment.steps,
        seconds=seconds,
        batch_size=config.batch_size,
        log_every=config.log_every,
        learning_rate=experiment.learning_rate,
        enabled=jax.process_index() == 0 or config.crossval == "process",
        wandb=config.wandb,
        config=config.to_dict(),
    )
    if start == 0:
        progress.text("config", "    " + str(config).replace("\n", "\n    "))
        trains = [experiment.splits[fold].train for fold in group]
        shown = [train[:: max(len(train) // 8, 1)][:8] for train in trains]
        drawn = [functools.partial(images.spectrograms, store, clips) for clips in shown]
        progress.image(0, "train/clips", drawn)
    return progress


def save_apart(
    experiment: Experiment,
    group: list[int],
    current: Any,
    iterators: Any,
    directory: Path,
    steps: int,
    seconds: float,
) -> None:
    """Leaves folds trained side by side the checkpoints that one after another would leave."""
    for i, fold in enumerate(group):
        alone = jax.tree.map(lambda x, i=i: x[i], current)
        about = workdir.about_checkpoint(
            experiment.config, experiment.store, [fold], experiment.pad_frames
        )
        with Checkpoints(workdir.checkpoints(directory, [fold])) as checkpoints:
            checkpoints.save(steps, alone, {fold: iterators[fold]}, about, seconds)
