"""Where a trained model looks: the gradient of a class's logit, times the input."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxsound.data.dataset import Dataset
from jaxsound.errors import UserError
from jaxsound.evaluation import crossval, metrics
from jaxsound.explore import canvas
from jaxsound.explore.survey import Clip, Survey, features, load, mel_centres, seconds_of, spread
from jaxsound.training.restore import Trained, restore
from jaxsound.training.state import Network
from jaxsound.training.step import normalise

RIGHT, WRONG = 12, 8  # clips shown
SMOOTH = 2.0  # standard deviation of the smoothing, in frames and bins


@dataclasses.dataclass(frozen=True)
class Look:
    """A clip, and where its fold's model looked."""

    title: str
    seconds: float
    features: np.ndarray  # [T, M] as the model was given them, before normalisation
    weight: np.ndarray  # [T, M] from 0 to 1
    centres: np.ndarray | None  # [M] Hz, where columns are mel bins


@functools.partial(jax.jit, static_argnames="network")
def gradient_times_input(
    network: Network,
    params: Any,
    stats: Any,
    inputs: jax.Array,
    length: jax.Array,
    label: jax.Array,
) -> jax.Array:
    """`|g * x|`, with g the gradient of a class's logit in x: `[B, T, M]`.

    Source: Shrikumar et al., "Not just a black box", 2016.

    Args:
      network: static.
      params: weights.
      stats: BatchNorm's running statistics.
      inputs: normalised features `[B, T, M]`, zero past the length.
      length: `[B]` valid frames.
      label: `[B]` the class asked about.
    """

    def logit(x: jax.Array) -> jax.Array:
        logits, _ = network.apply(params, stats, x, length, train=False)
        return jnp.take_along_axis(logits, label[:, None], axis=1).sum()

    return jnp.abs(jax.grad(logit)(inputs) * inputs)


def looks(workdir: Path, dataset: Dataset, survey: Survey) -> Iterator[tuple[bool, Look]]:
    """Clips that the run got right, one for each of some classes, then its worst mistakes.

    Every clip is shown to the model of the fold that tested it.

    Yields:
      Whether the run got it right, and the look.

    Raises:
      UserError: the run has no result yet, or is of other clips or classes.
    """
    rows, index = _predictions(workdir, survey)
    models: dict[int, Trained] = {}
    for is_right, picked in zip((True, False), _pick(rows), strict=True):
        for row in picked:
            fold = int(rows.folds[row])
            if fold not in models:
                models[fold] = restore(workdir / f"fold_{fold}")
            clip = load(dataset, index[rows.clips[row]])
            yield is_right, look(clip, models[fold], rows.probabilities[row])


def look(clip: Clip, model: Trained, probabilities: np.ndarray) -> Look:
    """Where the model looks for the clip's true class.

    Args:
      clip: whole.
      model: that tested it.
      probabilities: `[C]` that it gave.
    """
    config = model.frontend
    batch, length = model.batch([features(clip, config).astype(config.dtype)])
    inputs = normalise(jnp.asarray(batch), jnp.asarray(length), model.mean, model.std)
    first = (config.features - model.network.features) // 2
    bins = slice(first, first + model.network.features)  # the middle, as in evaluation
    weight = gradient_times_input(
        model.network,
        model.params,
        model.stats,
        inputs[..., bins],
        jnp.asarray(length),
        jnp.array([clip.label]),
    )
    frames = int(length[0])
    smooth = _smoothed(np.asarray(weight)[0, :frames])
    is_mel = config.kind in ("mel", "log_mel") and not (config.delta or config.resize_bins)
    return Look(
        title=_title(clip, model.class_names, probabilities),
        seconds=seconds_of(frames, clip, config),
        features=batch[0, :frames, bins],
        weight=smooth / max(float(np.quantile(smooth, 0.998)), 1e-12),
        centres=mel_centres(config)[bins] if is_mel else None,
    )


def _smoothed(weight: np.ndarray) -> np.ndarray:
    """`[T, M]` under a Gaussian in both directions, edges repeated."""
    reach = round(4 * SMOOTH)
    bell = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / SMOOTH))
    for axis in (0, 1):
        ends = [(reach, reach) if i == axis else (0, 0) for i in (0, 1)]
        padded = np.pad(weight, ends, mode="edge")
        convolve = functools.partial(np.convolve, bell / bell.sum(), mode="valid")
        weight = np.apply_along_axis(convolve, axis, padded)
    return weight


def figure(looks: Sequence[Look]) -> Figure:
    """The spectrogram in grey, and over it in colour what mattered."""
    is_mel = looks[0].centres is not None
    drawing, axes = canvas.panels(len(looks), 1.75, "time, s", "frequency, Hz" if is_mel else "")
    for panel, seen in zip(axes, looks, strict=True):
        low, high = canvas.limits([seen.features], 0.02, 0.999)
        canvas.picture(panel, seen.features, seen.seconds, low, high, "gray")
        image = canvas.picture(panel, seen.weight, seen.seconds, 0.0, 1.0, "plasma")
        image.set_alpha(np.clip(1.6 * seen.weight.T - 0.15, 0.0, 0.9))
        if seen.centres is not None:
            canvas.hertz_ticks(panel, seen.centres)
        panel.set_title(seen.title, fontsize=8)
    return drawing


def _predictions(workdir: Path, survey: Survey) -> tuple[crossval.Predictions, dict[str, int]]:
    """The run's rows, and where each clip is in the data set."""
    rows = crossval.read_predictions(workdir / "predictions.csv", survey.class_names)
    index = {clip: i for i, clip in enumerate(survey.clip_ids.tolist())}
    if strangers := sorted(set(rows.clips.tolist()) - index.keys()):
        raise UserError(
            f"--workdir={workdir}: tested {len(strangers)} clips that this data set has not, such "
            f"as {strangers[0]}; give the --config and data flags of that run"
        )
    return rows, index


def _pick(rows: crossval.Predictions) -> tuple[list[int], list[int]]:
    """A clip that was right for each of at most RIGHT classes, and the WRONG worst mistakes.

    Of a class's clips it is the one of middling confidence: the surest is not the usual one.
    """
    right = []
    hits = rows.predicted == rows.labels
    for label in spread(np.unique(rows.labels[hits]).tolist(), RIGHT):
        of_class = np.flatnonzero(hits & (rows.labels == label))
        order = np.argsort(rows.probabilities[of_class, label], kind="stable")
        right.append(int(of_class[order[len(order) // 2]]))
    loss = metrics.cross_entropy(rows.probabilities, rows.labels)
    wrong = np.flatnonzero(~hits)
    return right, wrong[np.argsort(-loss[wrong], kind="stable")][:WRONG].tolist()


def _title(clip: Clip, names: Sequence[str], probabilities: np.ndarray) -> str:
    predicted = int(probabilities.argmax())
    share = f"{100 * probabilities[predicted]:.0f} %"
    if predicted == clip.label:
        return f"{canvas.shown(clip.name, 24)}, {share}"
    taken = f"{canvas.shown(names[predicted], 18)}, {share}"
    return f"{canvas.shown(clip.name, 18)}\ntaken for {taken}"
