"""Evaluators: plugins with a name and a schedule that look at a state."""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxsound.errors import UserError
from jaxsound.evaluation.metrics import EvalMetrics
from jaxsound.training import losses


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Logits `[N, C]` float32 of one fold's clips, in the order of `clips [N]`, and metrics.

    Of a network that reconstructs, errors `[N, 2]` in their place: its own, and the mean's.
    """

    clips: np.ndarray
    logits: np.ndarray
    metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Classification:
    """Runs a split of each fold through the network.

    Attributes:
      name: of the split, used for metric names.
      every: steps between runs; 0 for none.
      last: a step at which it runs in any case; 0 for none.
      clips: for each fold, the indices of its clips.
      labels: of all clips of the store, `[N]`.
      clip_ids: likewise.
      skip: clips without finite logits are named, and do not stop the run.
      between: called before each batch; what it raises goes through.
      batches: for each fold, a function from batch number to host batch.
      place: host batches to a device batch.
      eval_step: `(state, batch) -> logits`, over folds if they run side by side.
      batch_size: over all hosts.
      stacked: whether the folds run side by side.
    """

    name: str
    every: int
    last: int
    clips: list[np.ndarray]
    labels: np.ndarray
    clip_ids: np.ndarray
    skip: bool
    between: Callable[[], None]
    batches: list[Callable[[int], dict[str, np.ndarray]]]
    place: Callable[[list[dict[str, np.ndarray]]], dict[str, jax.Array]]
    eval_step: Callable[[Any, dict[str, jax.Array]], jax.Array]
    batch_size: int
    stacked: bool

    def due(self, step: int) -> bool:
        """Whether the schedule asks for a run before this step."""
        scheduled = step == self.last or (self.every and step % self.every == 0)
        return bool(step and scheduled and all(map(len, self.clips)))

    def __call__(self, state: Any, step: int) -> list[Predictions]:
        """Predictions for each fold.

        Raises:
          UserError: clips whose logits are not finite, if they are not to be skipped.
          RuntimeError: naming the evaluator and the step, if anything else goes wrong.
        """
        try:
            return self._run(state)
        except UserError:
            raise
        except Exception as error:
            raise RuntimeError(f"evaluator {self.name!r} failed at step {step}: {error}") from error

    def _run(self, state: Any) -> list[Predictions]:
        count = max(math.ceil(len(clips) / self.batch_size) for clips in self.clips)
        logits: list[list[np.ndarray]] = [[] for _ in self.clips]
        for i in range(count):
            self.between()
            out = self.eval_step(state, self.place([batch(i) for batch in self.batches]))
            for fold, fold_logits in enumerate(out if self.stacked else out[None]):
                logits[fold].append(np.asarray(fold_logits))
        return [
            self._predictions(clips, np.concatenate(rows))
            for clips, rows in zip(self.clips, logits, strict=True)
        ]

    def _predictions(self, clips: np.ndarray, logits: np.ndarray) -> Predictions:
        """`logits [N', C]` still hold the rows that filled up the last batches."""
        wrong = self._wrong(clips, logits, "logits", "all classes are taken as equally likely")
        logits[wrong] = 0
        label = np.resize(self.labels[clips], len(logits))
        metrics = {name: float(x) for name, x in _measure(logits, label, len(clips)).items()}
        return Predictions(clips, logits[: len(clips)], metrics)

    def _wrong(self, clips: np.ndarray, rows: np.ndarray, what: str, told: str) -> np.ndarray:
        """Which rows are not finite. The weights are, so it is the clips, and they are named."""
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if not len(wrong):
            return wrong
        found = np.unique(np.resize(clips, len(rows))[wrong])
        names = [str(name) for name in self.clip_ids[found]]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        line = f"{self.name} clips {', '.join(names[:8])}{more}: their {what} are not finite"
        if not self.skip:
            raise UserError(f"{line}; with config.nonfinite='skip', {told}")
        tqdm.write(f"{line}; {told}", file=sys.stderr)
        return wrong


class Reconstruction(Classification):
    """As `Classification`, of a network that reconstructs: `eval_step` gives errors `[B, 2]`.

    The metrics are their means over clips; those that are not finite are left out.
    """

    def _predictions(self, clips: np.ndarray, logits: np.ndarray) -> Predictions:
        errors = logits[: len(clips)]
        errors[self._wrong(clips, errors, "errors", "they are left out")] = np.nan
        means = [float(np.nanmean(column, dtype=np.float64)) for column in errors.T]
        return Predictions(clips, errors, dict(zip(("loss", "loss_of_mean"), means, strict=True)))


@jax.jit
def _measure(logits: jax.Array, label: jax.Array, count: int) -> dict[str, jax.Array]:
    """Figures of the first `count` clips. One program: many small ones take longer to compile."""
    target = losses.soft_labels(label, logits.shape[1])
    collection = EvalMetrics.single_from_model_output(
        loss=losses.cross_entropy(logits, target),
        logits=logits,
        labels=label,
        mask=jnp.arange(len(logits)) < count,
    )
    return collection.compute()
