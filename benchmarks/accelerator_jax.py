"""jaxsound's side of accelerator.py: the package's core alone, with jax, flax, optax and numpy."""

import functools
import platform
import time
from collections.abc import Callable
from typing import Any

import accelerator_recipe as recipe
import jax
import jax.numpy as jnp
import numpy as np

from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.training import optim, sharding, state, step

Run = Callable[[], float]
Details = dict[str, Any]


def device() -> Details:
    """What jax runs on."""
    first = jax.devices()[0]
    versions = {"jax": jax.__version__, "python": platform.python_version()}
    return {
        "device": first.device_kind,
        "accelerator": first.platform != "cpu",
        "versions": versions,
    }


class Trainer:
    """A configuration's network, optimiser and compiled steps, as jaxsound's own loop has them."""

    def __init__(
        self,
        config: Any,
        frames: int,
        bins: int,
        classes: int,
        steps: int,
        *,
        stacked: bool = False,
    ):
        """Compiles nothing yet.

        Args:
          config: of `recipe.configure`.
          frames: T. bins: M. classes: C.
          steps: of an epoch.
          stacked: one program for all folds.
        """
        self.config, self.frames = config, frames
        self.placement = sharding.Placement(sharding.make_mesh(config.batch_size), stacked=stacked)
        self._build = functools.partial(
            state.build_network, config.model, features=bins, classes=classes, frames=frames
        )
        self._ones = np.ones(classes, np.float32)
        self.optimizer = optim.make_optimizer(config.optimizer, steps * config.epochs, steps)
        self.network, params, _ = self._build(key=jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        one_step = step.make_train_step(self.network, self.optimizer, config, frames)
        self.train = self.placement.jit_train(one_step)
        self.train_several = self.placement.jit_train(one_step, several=True)
        self.evaluate = self.placement.jit_eval(step.make_eval_step(self.network, frames))

    def begin(self, statistics: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Any, Any]:
        """Placed states and keys of as many folds as there are means and deviations."""
        states, keys = [], []
        for fold, (mean, std) in enumerate(statistics):
            _, params, stats = self._build(key=state.stream_key(0, "init", fold))
            new = state.create_state(
                params,
                stats,
                self.optimizer,
                mean=mean,
                std=std,
                class_weight=self._ones,
                ema=self.config.optimizer.ema > 0,
            )
            states.append(new)
            keys.append(state.stream_key(0, "train", fold))
        return self.placement.stack(states), self.placement.stack(keys)

    def many(self) -> Callable[..., Any]:
        """Several steps to a call, on batches with a leading axis of steps."""

        def run(first: Any, batches: Any, frames: Any, key: Any) -> Any:
            return self.train_several(first, batches | {"frames": frames}, key)

        return run


def one_step(task: recipe.Task, details: Details) -> Run:
    """Clips/s of the training step of row 1 or 2, on one fixed batch."""
    model, size = task.options["model"], task.size
    config, (batch, frames, bins) = recipe.large(model, size)
    config.batch_size = batch
    trainer = Trainer(config, frames, bins, size.classes, steps=1000)
    rng = np.random.default_rng(0)
    data = trainer.placement.put_batch(
        {
            "features": rng.standard_normal((batch, frames, bins), np.float32),
            "length": np.full(batch, frames, np.int32),
            "label": rng.integers(0, size.classes, batch).astype(np.int32),
            "mask": np.ones(batch, bool),
        }
    )
    details |= {"parameters": trainer.parameters, "batch": batch, "dtype": size.dtype}
    if model == "resnet":
        details["width"] = getattr(config.model, "width", 64)
    else:
        details["flops"] = recipe.transformer_flops(config.model, frames, bins)
    zero, one = np.zeros(bins, np.float32), np.ones(bins, np.float32)
    return _timed(trainer, [(zero, one)], [data] * size.steps, batch, details)


def _timed(
    trainer: Trainer, statistics: Any, batches: list[Any], batch: int, details: Details
) -> Run:
    """Clips/s of steps on these batches, already on the device."""
    now, key = trainer.begin(statistics)

    def run() -> float:
        nonlocal now
        began = time.perf_counter()
        for data in batches:
            now, _ = trainer.train(now, data, key)
        jax.block_until_ready(now)
        return len(batches) * batch / (time.perf_counter() - began)

    began = time.perf_counter()
    run()
    details["first_run_s"] = round(time.perf_counter() - began, 2)
    return run


def log_mel(task: recipe.Task, details: Details) -> Run:
    """Clips/s of the default frontend on waveforms that are on the device."""
    clips, samples = task.size.audio
    rng = np.random.default_rng(0)
    waveform = jnp.asarray(rng.standard_normal((clips, samples), np.float32) * 0.1)
    own = jnp.full(clips, samples, jnp.int32)
    config = FrontendConfig()
    jax.block_until_ready(frontend(config, waveform, own))
    details |= {"batch": clips, "samples": samples}

    def run() -> float:
        began = time.perf_counter()
        for _ in range(task.size.steps):
            features = frontend(config, waveform, own)
        jax.block_until_ready(features)
        return task.size.steps * clips / (time.perf_counter() - began)

    return run


def _preset(task: recipe.Task, *, stacked: bool) -> tuple[Trainer, recipe.Clips, list[Any]]:
    """The small network, the clips, and every fold's normalisation."""
    clips = recipe.read(task.store)
    config = recipe.preset(task.options["model"], task.size)
    steps = recipe.steps_per_epoch(clips, config.batch_size)
    bins = clips.frames.shape[1]
    trainer = Trainer(config, clips.longest, bins, clips.classes, steps, stacked=stacked)
    training = [np.flatnonzero(clips.folds != fold) for fold in clips.tested]
    return trainer, clips, [recipe.normalisation(clips, train) for train in training]


def one_epoch(task: recipe.Task, details: Details) -> Run:
    """Clips/s of one fold's epoch; options["feed"] is "fixed", "resident" or "scan"."""
    trainer, clips, statistics = _preset(task, stacked=False)
    batch = trainer.config.batch_size
    frames = trainer.placement.put_replicated(clips.frames)
    fold, number = clips.tested[0], 0
    details |= {"batch": batch, "parameters": trainer.parameters}
    if task.options["feed"] == "fixed":
        order = recipe.epoch(clips, fold, batch, 0)
        first = {name: value[0] for name, value in order.items()}
        features = np.asarray(step.gather(first | {"frames": frames}, trainer.frames))
        first["features"] = features.astype(clips.frames.dtype)
        data = trainer.placement.put_batch(first)
        return _timed(trainer, statistics[:1], [data] * len(order["row"]), batch, details)
    now, key = trainer.begin(statistics[:1])
    advance = _advance(trainer, frames, task.options.get("calls", 1))

    def run() -> float:
        nonlocal now, number
        began = time.perf_counter()
        order = recipe.epoch(clips, fold, batch, number)
        number += 1
        now = advance(now, order, key)
        jax.block_until_ready(now)
        return order["row"].size / (time.perf_counter() - began)

    run()
    return run


def _advance(trainer: Trainer, frames: Any, calls: int) -> Callable[[Any, Any, Any], Any]:
    """`(state, index batches [S, ...], key) -> state`, with `calls` steps to a call."""
    many = trainer.many() if calls > 1 else None

    def advance(now: Any, order: recipe.Arrays, key: Any) -> Any:
        steps = len(order["row"])
        whole = steps - steps % calls if many else 0
        for i in range(0, whole, calls):
            assert many is not None
            data = jax.device_put({name: value[i : i + calls] for name, value in order.items()})
            now, _ = many(now, data, frames, key)
        for i in range(whole, steps):
            data = trainer.placement.put_batch({name: value[i] for name, value in order.items()})
            now, _ = trainer.train(now, data | {"frames": frames}, key)
        return now

    return advance


def _orders(clips: recipe.Clips, batch: int, number: int) -> recipe.Arrays:
    """Index batches `[S, K, B]` of one epoch of all folds."""
    orders = [recipe.epoch(clips, fold, batch, number) for fold in clips.tested]
    return {name: np.stack([order[name] for order in orders], 1) for name in orders[0]}


def all_folds(task: recipe.Task, details: Details) -> Run:
    """Clips/s of an epoch of all folds, one after another or side by side."""
    stacked = task.options["how"] == "vmap"
    trainer, clips, statistics = _preset(task, stacked=stacked)
    batch = trainer.config.batch_size
    frames = trainer.placement.put_replicated(clips.frames)
    advance = _advance(trainer, frames, 1)
    groups = [statistics] if stacked else [[one] for one in statistics]
    began = [trainer.begin(group) for group in groups]
    states, keys = [one[0] for one in began], [one[1] for one in began]
    details |= {"batch": batch, "parameters": trainer.parameters}

    def run() -> float:
        start = time.perf_counter()
        orders = _orders(clips, batch, 0)
        for i in range(len(groups)):
            own = orders if stacked else {name: value[:, i] for name, value in orders.items()}
            states[i] = advance(states[i], own, keys[i])
        jax.block_until_ready(states)
        return orders["row"].size / (time.perf_counter() - start)

    run()
    return run


def crossval(task: recipe.Task, details: Details) -> Run:
    """Trains and tests every fold: seconds, and the accuracy pooled over folds."""

    def run() -> float:
        began = time.perf_counter()
        stacked = task.options["how"] == "vmap"
        trainer, clips, statistics = _preset(task, stacked=stacked)
        batch = trainer.config.batch_size
        frames = trainer.placement.put_replicated(clips.frames)
        advance = _advance(trainer, frames, task.options.get("calls", 1))
        groups = [range(len(statistics))] if stacked else [[i] for i in range(len(statistics))]
        correct = 0
        for group in groups:
            now, key = trainer.begin([statistics[i] for i in group])
            for number in range(trainer.config.epochs):
                orders = _orders(clips, batch, number)
                own = {n: v if stacked else v[:, group[0]] for n, v in orders.items()}
                now = advance(now, own, key)
                if "first_epoch_s" not in details:
                    jax.block_until_ready(now)
                    details["first_epoch_s"] = round(time.perf_counter() - began, 2)
            correct += _correct(trainer, clips, frames, now, [clips.tested[i] for i in group])
        details["parameters"] = trainer.parameters
        details["accuracy"] = round(correct / len(clips.labels), 4)
        return time.perf_counter() - began

    return run


def _correct(trainer: Trainer, clips: recipe.Clips, frames: Any, now: Any, folds: list[int]) -> int:
    """How many test clips of these folds are told right."""
    batch = trainer.config.batch_size
    tests = [np.flatnonzero(clips.folds == fold) for fold in folds]
    right = 0
    for i in range(0, max(map(len, tests)), batch):
        parts = [test[i : i + batch] for test in tests]
        chosen = np.stack([np.resize(part if len(part) else [0], batch) for part in parts])
        data = recipe.index(clips, chosen if trainer.placement.stacked else chosen[0])
        logits = trainer.evaluate(now, trainer.placement.put_batch(data) | {"frames": frames})
        found = np.asarray(logits).reshape(len(folds), batch, -1).argmax(-1)
        for part, one in zip(parts, found, strict=True):
            right += int((one[: len(part)] == clips.labels[part]).sum())
    return right


TASKS: dict[str, Callable[[recipe.Task, Details], Run]] = {
    "step": one_step,
    "log_mel": log_mel,
    "epoch": one_epoch,
    "folds": all_folds,
    "crossval": crossval,
}
