"""Probes: small classifiers of what a frozen network makes of clips, chosen by validation alone.

The protocol is that of HEAR (Turian et al., 2022): for each fold every point of a grid is trained
on its training clips, the point that does best on its validation clips is kept, and the probe of
that point, as it was trained then, is tested on the fold's test clips. Unlike there, each fold
chooses for itself, embeddings are standardised by the training clips, and a probe is trained for a
fixed number of steps on all of these at once.

N clips, D values of an embedding, C classes, G points.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsound.data.folds import Split
from jaxsound.errors import UserError
from jaxsound.evaluation import metrics
from jaxsound.evaluation.crossval import duration, percent
from jaxsound.features.store import Store
from jaxsound.input import finished
from jaxsound.training.restore import Trained
from jaxsound.training.state import stream_key
from jaxsound.training.step import make_embed_step

STEPS = 300  # of Adam, whose rate falls as a cosine
_LEAST_STD = 1e-6  # of an embedding's column, over its greatest
Layers = list[dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of the grid.

    `l2` times half the sum of squared weights, biases apart, is added to the mean cross-entropy;
    `hidden` units with ReLU lie between embedding and classes, 0 for a linear probe.
    """

    hidden: int
    learning_rate: float
    l2: float


GRID = tuple(
    Point(hidden, rate, l2)
    for hidden, strengths in ((0, (1e-3, 1e-2, 1e-1, 1.0)), (256, (1e-3, 1e-2)))
    for rate in (1e-3, 1e-2)
    for l2 in strengths
)


@dataclasses.dataclass(frozen=True)
class Probe:
    """The probe that a fold has chosen, and what its validation clips said of every point."""

    point: Point
    layers: Layers
    mean: np.ndarray  # [D], of the training clips
    std: np.ndarray  # [D]
    validation: tuple[float, ...]  # accuracy of each point, in the grid's order

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """`[N, D]` -> `[N, C]` float32."""
        x = jnp.asarray((embeddings - self.mean) / self.std)
        return np.asarray(_forward(self.layers, x))


def embeddings(
    model: Trained,
    store: Store,
    clips: np.ndarray,
    classifier: Sequence[str] = ("head",),
    done: Callable[[int], Any] = lambda _: None,
) -> np.ndarray:
    """What a model's classifier sees of clips, cut as evaluation cuts them: `[N, D]` float32.

    Args:
      model: the network and its weights.
      store: the features of its frontend.
      clips: N of them.
      classifier: the network's last layers, which are left out.
      done: called with the number of clips that each batch has added.

    Raises:
      UserError: a clip's embedding is not finite; the clip is named.
    """
    run = jax.jit(make_embed_step(model.network, model.frames, classifier))
    size, rows = min(model.config.batch_size, max(len(clips), 1)), []
    for first in range(0, len(clips), size):
        part = clips[first : first + size]
        features, length = model.batch(finished.frames_of(store, np.resize(part, size)))
        seen = np.asarray(run(model.state, {"features": features, "length": length})[1])[
            : len(part)
        ]
        if not (finite := np.isfinite(seen).all(axis=1)).all():
            raise UserError(
                f"clip {store.clip_ids[part[~finite][0]]}: the network's embedding of it is not "
                "finite"
            )
        rows.append(seen)
        done(len(part))
    return np.concatenate(rows)


def check(splits: Mapping[int, Split]) -> None:
    """Refuses folds without validation clips, by a `UserError`."""
    for fold, split in splits.items():
        if not len(split.validation):
            raise UserError(
                f"config.data.validation: leaves fold {fold} without validation clips, which the "
                "probe is chosen by; hold out more"
            )


def choose(
    values: np.ndarray,
    labels: np.ndarray,
    split: Split,
    classes: int,
    *,
    grid: Sequence[Point] = GRID,
    steps: int = STEPS,
    seed: int = 0,
    done: Callable[[int], Any] = lambda _: None,
) -> Probe:
    """The probe that does best on a fold's validation clips; test clips are not looked at.

    The greatest accuracy wins, among equals the least cross-entropy.

    Args:
      values: `[N, D]`, embeddings of all clips.
      labels: `[N]`.
      split: the fold's; only its training and validation clips are used.
      classes: C.
      grid: the points.
      steps: of each.
      seed: of the initial values of hidden layers.
      done: called with the number of steps taken since it was called last, for all points.
    """
    mean, std = standardisation(values[split.train])
    train, held = ((values[part] - mean) / std for part in (split.train, split.validation))
    truth = labels[split.validation]
    found: dict[Point, tuple[float, float, Layers]] = {}
    for hidden in dict.fromkeys(point.hidden for point in grid):
        points = [point for point in grid if point.hidden == hidden]
        key = stream_key(seed, "probe", hidden)
        layers = fit(points, train, labels[split.train], classes, steps=steps, key=key, done=done)
        for point, own in zip(points, layers, strict=True):
            logits = _forward(own, jnp.asarray(held))
            loss = float(_cross_entropy(logits, jnp.asarray(truth)))
            said = np.asarray(logits).argmax(axis=1)
            found[point] = (float(np.mean(said == truth)), loss, own)
    best = max(grid, key=lambda point: (found[point][0], -found[point][1]))
    accuracies = tuple(found[point][0] for point in grid)
    return Probe(best, found[best][2], mean, std, accuracies)


def standardisation(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation `[D]` float32 of `[N, D]`; a column that does not vary is left alone."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    varies = std > _LEAST_STD * max(float(std.max()), 1e-30)
    return mean.astype(np.float32), np.where(varies, std, 1).astype(np.float32)


def fit(
    points: Sequence[Point],
    x: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    steps: int,
    key: jax.Array,
    done: Callable[[int], Any] = lambda _: None,
) -> list[Layers]:
    """Trains the probes of several points side by side, all of one number of hidden units.

    Args:
      points: G of them.
      x: `[N, D]` float32, standardised.
      labels: `[N]`.
      classes: C.
      steps: of Adam (Kingma and Ba, 2015), each on all clips.
      key: of the initial values.
      done: called after each step, with 1.

    Returns:
      The layers of each.
    """
    sizes = [x.shape[1], *([points[0].hidden] if points[0].hidden else []), classes]
    layers = _initial(sizes, key)
    layers = jax.tree.map(lambda value: jnp.stack([value] * len(points)), layers)
    moments = jax.vmap(optax.scale_by_adam().init)(layers)
    rates = jnp.asarray([point.learning_rate for point in points], jnp.float32)
    l2 = jnp.asarray([point.l2 for point in points], jnp.float32)
    inputs, truth = jnp.asarray(x, jnp.float32), jnp.asarray(labels, jnp.int32)
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))
    for share in falling.astype(np.float32):
        layers, moments = _step(layers, moments, rates * share, l2, inputs, truth)
        done(1)
    return [jax.tree.map(lambda value, i=i: value[i], layers) for i in range(len(points))]


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _step(
    layers: Layers, moments: Any, rates: jax.Array, l2: jax.Array, x: jax.Array, labels: jax.Array
) -> tuple[Layers, Any]:
    """One step of every point."""

    def loss(layers: Layers, l2: jax.Array) -> jax.Array:
        squares = sum(jnp.square(layer["kernel"]).sum() for layer in layers)
        return _cross_entropy(_forward(layers, x), labels) + l2 / 2 * squares

    def one(layers: Layers, moments: Any, rate: jax.Array, l2: jax.Array) -> tuple[Layers, Any]:
        slopes, moments = optax.scale_by_adam().update(jax.grad(loss)(layers, l2), moments)
        return jax.tree.map(lambda value, slope: value - rate * slope, layers, slopes), moments

    return jax.vmap(one)(layers, moments, rates, l2)


def _initial(sizes: Sequence[int], key: jax.Array) -> Layers:
    """Hidden layers by He et al. (2015); the last one begins at zero."""
    layers: Layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        shape, last = (inputs, outputs), i == len(sizes) - 2
        drawn = jax.nn.initializers.he_normal()(jax.random.fold_in(key, i), shape)
        kernel = jnp.zeros(shape) if last else drawn
        layers.append({"kernel": kernel, "bias": jnp.zeros(outputs)})
    return layers


def _forward(layers: Layers, x: jax.Array) -> jax.Array:
    for i, layer in enumerate(layers):
        x = (jax.nn.relu(x) if i else x) @ layer["kernel"] + layer["bias"]
    return x


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def measure(
    values: Callable[[int], np.ndarray],
    store: Store,
    splits: Mapping[int, Split],
    *,
    grid: Sequence[Point] = GRID,
    steps: int = STEPS,
    seed: int = 0,
    done: Callable[[int], Any] = lambda _: None,
) -> dict[str, Any]:
    """Chooses and tests a probe on each fold.

    Args:
      values: `[N, D]`, embeddings of all clips for a fold.
      store: labels and sources of the clips.
      splits: by fold.
      grid: see `choose`, and so are the others.

    Returns:
      accuracy_mean and accuracy_std (over folds, ddof=1), accuracy_pooled with its interval ci95
      over sources, and for each fold of `folds` its accuracy, the point and what validation said.
    """
    folds: list[dict[str, Any]] = []
    correct, groups = [], []
    for fold, split in splits.items():
        mine = values(fold)
        start = time.perf_counter()
        probe = choose(
            mine,
            store.labels,
            split,
            len(store.class_names),
            grid=grid,
            steps=steps,
            seed=seed,
            done=done,
        )
        right = probe.logits(mine[split.test]).argmax(axis=1) == store.labels[split.test]
        correct.append(right)
        groups.append(store.groups[split.test])
        parts = ("train", "validation", "test")
        folds.append(
            {
                "fold": fold,
                "accuracy": float(right.mean()),
                "chosen": dataclasses.asdict(probe.point),
                "validation_accuracy": max(probe.validation),
                "validation_of_grid": probe.validation,
                "clips": {part: len(getattr(split, part)) for part in parts},
                "crossings": len(split.crossings),
                "seconds": time.perf_counter() - start,
            }
        )
    accuracy = [part["accuracy"] for part in folds]
    hits = np.concatenate(correct)
    return {
        "accuracy_mean": float(np.mean(accuracy)),
        "accuracy_std": float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else 0.0,
        "accuracy_pooled": float(hits.mean()),
        "ci95": metrics.bootstrap_interval(hits, np.concatenate(groups)),
        "groups": len(np.unique(np.concatenate(groups))),
        "folds": folds,
        "grid": [dataclasses.asdict(point) for point in grid],
        "steps": steps,
    }


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a fold, then mean and spread, pooled and interval."""
    row = "{:>6}  {:>8}  {:>10}  {:>7}  {:>6}  {:>6}  {:>8}".format
    lines = [row("fold", "accuracy", "validation", "hidden", "rate", "l2", "time")]
    for part in result["folds"]:
        point = part["chosen"]
        chosen = point["hidden"] or "none", f"{point['learning_rate']:g}", f"{point['l2']:g}"
        figures = percent(part["accuracy"]), percent(part["validation_accuracy"])
        lines.append(row(part["fold"], *figures, *chosen, duration(part["seconds"])))
    count = len(result["folds"])
    over = (
        f"± {100 * result['accuracy_std']:.1f} over {count} folds" if count > 1 else "on one fold"
    )
    low, high = result["ci95"]
    return "\n".join(
        [
            *lines,
            "",
            f"  mean    {percent(result['accuracy_mean'])} {over}",
            f"  pooled  {percent(result['accuracy_pooled'])}, 95 % interval {100 * low:.1f} to "
            f"{percent(high)} over {result['groups']} sources",
        ]
    )
