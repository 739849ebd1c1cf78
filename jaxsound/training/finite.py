"""Numbers gone wrong: a loss or gradient of NaN or infinity is found, named and never saved."""

import collections
import functools
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxsound.errors import UserError
from jaxsound.training.state import TrainState

_CALLS_BEHIND = 4  # of the device, so that nothing waits for a step that is still being computed
_CALLS_BEHIND_ON_CPU = 1  # where each of them holds memory of its own for its temporaries
_MOST_SKIPPED = 100  # steps in a row: by then nothing is being learned
_CLIPS_NAMED = 8


class Watch:
    """Follows the `finite` flag of every step, a few calls behind the device.

    How far behind is fixed, so that all processes of a job stop at the same step.
    """

    def __init__(
        self,
        folds: Sequence[int],
        clips_of: Callable[[int, int], str],
        *,
        skip: bool,
        stacked: bool,
    ):
        """Watches the steps of one fold, or of several side by side.

        Args:
          folds: those trained here.
          clips_of: of a fold and a step, counted from 1: words for the clips that it was made of.
          skip: the step left the weights as they were; say so and go on.
          stacked: whether metrics and state have an axis of folds.
        """
        self.folds = folds
        self.clips_of = clips_of
        self.skip = skip
        self.pending: collections.deque[tuple[int, dict[str, jax.Array], int]] = collections.deque()
        self.in_a_row = np.zeros(len(folds), int)
        self.first = int(stacked)
        self.behind = _CALLS_BEHIND_ON_CPU if jax.default_backend() == "cpu" else _CALLS_BEHIND

    def took(self, step: int, metrics: dict[str, jax.Array], count: int = 1) -> None:
        """Takes the metrics of `count` steps, the last of them `step`, and checks earlier ones.

        Raises:
          UserError: a step's loss or gradient was not finite, and steps are not skipped.
        """
        self.pending.append((step, metrics, count))
        if len(self.pending) > self.behind:
            self._look(*self.pending.popleft())

    def settle(self, step: int, state: TrainState | None = None) -> None:
        """Waits for all steps so far and checks them, and the state if it is to be saved.

        Raises:
          UserError: as `took`, or a number of the state is not finite.
        """
        while self.pending:
            self._look(*self.pending.popleft())
        if state is None:
            return
        finite = np.atleast_1d(_finite_state(state, self.first))
        for fold in np.asarray(self.folds)[~finite]:
            raise UserError(
                f"fold {fold}, step {step}: weights or the optimiser's state hold NaN or infinity; "
                "nothing of it was saved; lower optimizer.peak_lr"
            )

    def _look(self, last: int, metrics: dict[str, jax.Array], count: int) -> None:
        finite = np.asarray(metrics["finite"]).reshape(len(self.folds), count)
        if finite.all():
            self.in_a_row[:] = 0
            return
        names = ("loss", "gradient_norm")
        values = {name: np.asarray(metrics[name]).reshape(finite.shape) for name in names}
        for i in range(count):
            for k, fold in enumerate(self.folds):
                self.in_a_row[k] = 0 if finite[k, i] else self.in_a_row[k] + 1
                if not finite[k, i]:
                    found = ", ".join(f"{name} is {values[name][k, i]}" for name in names)
                    self._tell(fold, last - count + 1 + i, found, int(self.in_a_row[k]))

    def _tell(self, fold: int, step: int, found: str, in_a_row: int) -> None:
        line = f"fold {fold}, step {step}: {found}; {self.clips_of(fold, step)}"
        if not self.skip:
            raise UserError(
                f"{line}; nothing was saved since. config.nonfinite='skip' leaves such steps out"
            )
        if in_a_row > _MOST_SKIPPED:
            raise UserError(f"{line}; the {in_a_row}th step in a row without an update")
        tqdm.write(f"{line}; this step was skipped", file=sys.stderr)


@functools.partial(jax.jit, static_argnums=1)
def _finite_state(state: TrainState, first: int) -> jax.Array:
    """Whether all that training changes is finite: a scalar, or `[K]` if `first` is 1."""
    trees = (state.params, state.stats, state.opt_state, state.ema)
    leaves = [x for x in jax.tree.leaves(trees) if jnp.issubdtype(x.dtype, jnp.floating)]
    flags = [jnp.isfinite(x).all(axis=tuple(range(first, x.ndim))) for x in leaves]
    return functools.reduce(jnp.logical_and, flags)


def name_clips(clip_ids: Sequence[str], frames: Sequence[np.ndarray]) -> str:
    """Words for clips: those with a wrong number among their features, or else all of them.

    Args:
      clip_ids: of B clips.
      frames: their features, each `[T, M]`.
    """
    wrong = [
        f"{name} holds {part[~np.isfinite(part)][0]} in its features"
        for name, part in zip(clip_ids, frames, strict=True)
        if not np.isfinite(part).all()
    ]
    listed = wrong or [str(name) for name in clip_ids]
    more = len(listed) - _CLIPS_NAMED
    return (
        ("" if wrong else "its clips: ")
        + ", ".join(listed[:_CLIPS_NAMED])
        + (f" and {more} more" if more > 0 else "")
    )
