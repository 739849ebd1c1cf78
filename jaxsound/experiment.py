"""An experiment: what all folds of a run share, and how one fold begins.

`train.py` has the loop; this is the table that it is laid on.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from jaxsound.config import follows_validation, frontend_config
from jaxsound.data import folds
from jaxsound.errors import UserError
from jaxsound.evaluation.evaluators import Classification, Predictions, Reconstruction
from jaxsound.features.store import Store
from jaxsound.input import pipeline, teacher
from jaxsound.job import stopping, workdir
from jaxsound.pretrained.weights import begun
from jaxsound.training import (
    finetune,
    finite,
    hearing,
    losses,
    optim,
    selection,
    sharding,
    state,
    step,
)

STEPS_PER_CALL = 8  # on accelerators, where starting a call may take longer than a small step
SMALL_WIDTH = 256  # of a transformer whose step alone does not fill an accelerator


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all folds share: data, compiled functions and lengths. Compiled once."""

    config: ml_collections.ConfigDict
    store: Store
    splits: dict[int, folds.Split]
    optimizer: optax.GradientTransformation
    placement: sharding.Placement
    feed: pipeline.Feed  # of training: features or sound
    eval_feed: pipeline.Feed  # always features
    initialise: Callable[..., tuple[Any, Any]]  # of a key, and of the fold whose it is
    train_step: Callable[..., Any]
    train_steps: Callable[..., Any]
    eval_step: Callable[..., Any]
    observe: Callable[..., state.TrainState]
    crop_frames: int
    crop_rows: int  # of the store that training is fed from: frames, or samples
    pad_frames: int
    steps_per_epoch: int
    learning_rate: np.ndarray  # [steps]
    clip_weights: np.ndarray | None  # of all clips of the store; None where they count alike
    targets: dict[int, np.ndarray] | None  # by fold [N, C], soft labels of a teacher

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs


def make_experiment(
    config: Any, store: Store, splits: dict[int, folds.Split], stacked: bool
) -> Experiment:
    """Network, optimiser, feed and the compiled functions.

    Raises:
      UserError: the devices do not divide the batch, a fold lacks validation clips to follow, or
        the published weights that are asked for cannot be read or are of another network.
    """
    longest = int(store.lengths.max())
    pad, _ = input_shape(config, longest)
    crop = _frames(config, config.data.crop_seconds or config.data.pad_seconds, longest)
    for fold, split in splits.items():
        if follows_validation(config) and not len(split.validation):
            raise UserError(
                f"config.data.validation={config.data.validation}: leaves fold {fold} without "
                "validation clips, which training is to follow; hold out more"
            )
    # Every fold takes the same number of steps, however its clips divide into batches.
    largest = max(len(split.train) for split in splits.values()) * (1 + config.augment.copies)
    steps_per_epoch = max(1, round(largest / config.batch_size))
    local = jax.local_devices() if config.crossval == "process" else None
    placement = sharding.Placement(sharding.make_mesh(config.batch_size, local), stacked=stacked)
    features = config.data.crop_bins or store.frames.shape[1]
    network, initialise = state.plan_network(
        config.model,
        features=features,
        classes=len(store.class_names),
        frames=pad,
        task=config.task,
    )
    finetune.check(config.pretrained, jax.eval_shape(initialise, jax.random.key(0))[0])
    network = dataclasses.replace(network, fixed_statistics=config.pretrained.fixed_statistics)
    steps = steps_per_epoch * config.epochs
    optimizer = optim.make_optimizer(config.optimizer, steps, steps_per_epoch)
    rates = jax.jit(jax.vmap(optim.schedule(config.optimizer, steps, steps_per_epoch)))
    optimizer = finetune.adapted(optimizer, config.pretrained, steps)
    hear, crop_rows = _hearing(config, store, placement)
    feed = eval_feed = _feed(config, store, placement)
    if store.sound is not None:
        feed = _feed(config, store.sound, placement, longest=crop_rows)
    until = config.augment.until
    mixing_steps = round(until * steps) if until < 1 else None
    one_step = step.make_train_step(network, optimizer, config, crop, hear, mixing_steps)
    one_eval = step.make_eval_step(network, pad)
    if config.task == "reconstruction":
        one_eval = step.make_error_step(network, pad, config)
    return Experiment(
        config=config,
        store=store,
        splits=splits,
        optimizer=optimizer,
        placement=placement,
        feed=feed,
        eval_feed=eval_feed,
        initialise=begun(initialise, config, features, workdir.digest_of_clips(store), splits),
        train_step=placement.jit_train(one_step),
        train_steps=placement.jit_train(one_step, several=True),
        eval_step=placement.jit_eval(one_eval),
        observe=placement.jit_observe(functools.partial(selection.observe, config)),
        crop_frames=crop,
        crop_rows=crop_rows or crop,
        pad_frames=pad,
        steps_per_epoch=steps_per_epoch,
        learning_rate=np.asarray(rates(np.arange(steps))),
        clip_weights=_clip_weights(config, store),
        targets=teacher.soft_targets(config, store, splits),
    )


def _clip_weights(config: Any, store: Store) -> np.ndarray | None:
    """What `loss.unverified_weight` makes of the labels that nobody has verified."""
    weight = config.loss.unverified_weight
    if weight == 1:
        return None
    verified = store.verified
    if not (verified >= 0).any():
        raise UserError(
            f"config.loss.unverified_weight={weight}: the data set does not tell which labels are "
            f"verified, or did not when its features were made in {store.path}; delete them if so"
        )
    return np.where(verified == 0, np.float32(weight), np.float32(1))


def _feed(
    config: Any, store: Store, placement: sharding.Placement, longest: int = 0
) -> pipeline.Feed:
    return pipeline.Feed(
        store,
        placement,
        batch_size=config.batch_size,
        resident=pipeline.fits(store, config),
        threads=config.data.read_threads,
        longest=longest,
    )


def _hearing(
    config: Any, store: Store, placement: sharding.Placement
) -> tuple[hearing.Hear | None, int]:
    """What makes features of samples, and how many of a clip it takes; nothing without sound."""
    if store.sound is None:
        return None, 0
    frontend = frontend_config(config)
    seconds = config.data.crop_seconds or config.data.pad_seconds
    size = min(round(seconds * frontend.sample_rate), int(store.sound.lengths.max()))
    if config.data.frames:  # the most samples that are so many frames
        size = (
            (config.data.frames - 1) * frontend.hop_length
            + frontend.first
            + frontend.hop_length
            - 1
        )
    hear = hearing.make_hearing(
        config.augment,
        frontend,
        size=size,
        classes=len(store.class_names),
        by_device=placement.by_device,
    )
    return hear, hearing.window(config.augment, size)


def side_by_side(config: Any, begun: bool | None) -> bool:
    """Whether folds are trained in one compiled program.

    "auto" goes on as a run was begun. Else it takes one program for small transformers on
    accelerators, whose steps leave a device waiting; on a CPU nothing waits, and convolutions
    with weights of their own for each fold are slow everywhere.
    """
    if config.crossval != "auto":
        return bool(config.crossval == "vmap")
    if config.early_stopping:
        return False
    if begun is not None:
        return begun
    model = config.model
    small = model.name == "transformer" and model.width <= SMALL_WIDTH
    return small and jax.default_backend() != "cpu"


def input_shape(config: Any, longest: int) -> tuple[int, int]:
    """Frames T and features M of what evaluation gives the network.

    Args:
      config: the whole configuration.
      longest: frames of the longest clip, where the configuration does not give exact frames.
    """
    bins = config.data.crop_bins or frontend_config(config).features
    return _frames(config, config.data.pad_seconds, longest), bins


def _frames(config: Any, seconds: float, longest: int) -> int:
    frontend = frontend_config(config)
    stretch = frontend.frames(round(seconds * frontend.sample_rate))
    return config.data.frames or min(stretch, longest)


def initial_state(experiment: Experiment, fold: int) -> state.TrainState:
    """One fold's state before its first step, with figures of its training split alone."""
    config, store, train = experiment.config, experiment.store, experiment.splits[fold].train
    params, stats = experiment.initialise(state.stream_key(config.seed, "init", fold), fold)
    fixed = (config.data.fixed_mean, config.data.fixed_std)
    mean, std = pipeline.normalisation(
        store, train, config.data.normalize, fixed, skip=config.nonfinite == "skip"
    )
    kind = "balanced" if config.loss.logit_adjustment else config.loss.class_weights
    weight = losses.class_weights(kind, store.labels[train], len(store.class_names))
    ema = config.optimizer.ema > 0
    new = state.create_state(
        params, stats, experiment.optimizer, mean=mean, std=std, class_weight=weight, ema=ema
    )
    return selection.begin(config, new) if follows_validation(config) else new


def train_iterator(experiment: Experiment, fold: int) -> Any:
    """One fold's training batches; its state goes into the checkpoint."""
    return experiment.feed.train_iterator(
        *_batches(experiment, fold),
        weights=experiment.clip_weights,
        targets=experiment.targets[fold] if experiment.targets else None,
    )


def _batches(experiment: Experiment, fold: int) -> tuple[np.ndarray, int, int, int, bool]:
    """What a fold's batches depend on: clips, rows of a crop, seed, copies, and balanced or not."""
    config, train = experiment.config, experiment.splits[fold].train
    seed, balanced = state.stream_seed(config.seed, fold), config.data.sampling == "balanced"
    return train, experiment.crop_rows, seed, config.augment.copies, balanced


def finite_watch(experiment: Experiment, group: list[int]) -> finite.Watch:
    """What looks out for NaN and infinity while these folds are trained."""
    store = experiment.store

    def clips_of(fold: int, step: int) -> str:
        clips = np.unique(experiment.feed.clips_of(step, *_batches(experiment, fold)))
        parts = [store.frames[store.offsets[i] : store.offsets[i + 1]] for i in clips]
        return finite.name_clips(store.clip_ids[clips], parts)

    skip = experiment.config.nonfinite == "skip"
    return finite.Watch(group, clips_of, skip=skip, stacked=experiment.placement.stacked)


def steps_per_call(experiment: Experiment, start: int) -> int:
    """How many steps go into a call of the device, so that calls end where something is due.

    Args:
      experiment: whose epochs, evaluations and checkpoints count.
      start: step that the loop begins with.
    """
    config = experiment.config
    most = config.steps_per_call or (1 if jax.default_backend() == "cpu" else STEPS_PER_CALL)
    epochs = math.gcd(config.epochs, config.eval_every, config.checkpoint_every)
    together = math.gcd(epochs * experiment.steps_per_epoch, start)
    return next(count for count in range(most, 0, -1) if together % count == 0)


def take_steps(
    experiment: Experiment,
    current: state.TrainState,
    iterators: Sequence[Any],
    key: Any,
    count: int,
) -> tuple[state.TrainState, state.Metrics]:
    """The next `count` steps, with the next batches of each fold's iterator.

    Returns:
      The state, and metrics, of several steps with a last axis for them.
    """
    batches = [[next(iterator) for iterator in iterators] for _ in range(count)]
    if count == 1:
        return experiment.train_step(current, experiment.feed.place(batches[0]), key)
    return experiment.train_steps(current, experiment.feed.place_several(batches), key)


def observed(
    experiment: Experiment, current: state.TrainState, found: Sequence[Predictions]
) -> state.TrainState:
    """The state that knows what validation showed of it; the same one where nothing follows it."""
    if current.selection is None:
        return current
    values = [np.float32(part.metrics[experiment.config.monitor]) for part in found]
    return experiment.observe(current, experiment.placement.stack(values))


def evaluator(
    experiment: Experiment, group: list[int], split: str, *, every: int = 0, last: int = 0
) -> Classification:
    """An evaluator of one split of these folds, `every` so many epochs and at the `last` step."""
    clips = [getattr(experiment.splits[fold], split) for fold in group]
    kind = Reconstruction if experiment.config.task == "reconstruction" else Classification
    return kind(
        name=split,
        every=every * experiment.steps_per_epoch,
        last=last,
        clips=clips,
        labels=experiment.store.labels,
        clip_ids=experiment.store.clip_ids,
        skip=experiment.config.nonfinite == "skip",
        between=stopping.check,
        batches=[experiment.eval_feed.eval_batches(part, experiment.pad_frames) for part in clips],
        place=experiment.eval_feed.place,
        eval_step=experiment.eval_step,
        batch_size=experiment.config.batch_size,
        stacked=experiment.placement.stacked,
    )
