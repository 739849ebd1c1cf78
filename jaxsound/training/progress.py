"""What the user sees while training: the progress line, TensorBoard and `metrics.jsonl`."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from jaxsound.bars import bar
from jaxsound.training.writer import make_writer


class Evaluated(Protocol):
    """What an evaluator returns of a fold, as far as it is reported here."""

    @property
    def metrics(self) -> dict[str, float]: ...


class Progress:
    """Reports the steps of one fold, or of several side by side, one step behind the device."""

    def __init__(
        self,
        directory: Path,
        folds: Sequence[int],
        *,
        start: int,
        total: int,
        seconds: float,
        batch_size: int,
        log_every: int,
        learning_rate: np.ndarray,
        enabled: bool,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
    ):
        """Opens a writer for each fold.

        Args:
          directory: the run's.
          folds: those trained here.
          start: steps already done.
          total: steps to be done in all.
          seconds: already spent.
          batch_size: clips per step and fold.
          log_every: steps between writes.
          learning_rate: of each step, `[total]`; times a step's own scale.
          enabled: False on every host but the first.
          wandb: Weights & Biases project to write to as well; '' for none.
          config: what is shown there.
        """
        self.writers = [
            make_writer(
                directory / f"fold_{fold}",
                enabled=enabled,
                resume_step=start,
                wandb=wandb,
                config=config,
            )
            for fold in folds
        ]
        self.total = total
        self.clips_per_step = batch_size * len(folds)
        self.log_every = log_every
        self.learning_rate = learning_rate
        self.pending: tuple[int, dict[str, jax.Array], int] | None = None
        self.written: tuple[int, float] | None = None
        self.timed = False
        self.began = time.monotonic() - seconds
        names = "-".join(str(fold) for fold in dict.fromkeys((folds[0], folds[-1])))
        self.bar = bar(
            total=total,
            initial=start,
            desc=f"fold {names}" if len(folds) == 1 else f"folds {names}",
            unit="step",
            disable=not enabled,
            leave=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar:20}| step {n}/{total}"
            " {postfix} [{elapsed}<{remaining}]",
        )

    @property
    def seconds(self) -> float:
        """Spent on these folds, over all starts."""
        return time.monotonic() - self.began

    def stepped(self, step: int, metrics: dict[str, jax.Array], count: int = 1) -> None:
        """Takes the metrics of `count` steps, still being computed, and writes the ones before.

        Args:
          step: the last of them.
          metrics: of several steps with a last axis for them.
          count: how many.
        """
        previous, self.pending = self.pending, (step, metrics, count)
        if previous is not None:
            self._write(*previous)
        if step == self.total:
            self.finish()

    def settle(self) -> None:
        """Writes all there is, so that curves are never behind a checkpoint. Waits."""
        if self.pending is not None:
            self._write(*self.pending)
            self.pending = None
        for writer in self.writers:
            writer.flush()

    def finish(self) -> None:
        """Writes the last step's metrics. The step may come early, by early stopping."""
        if self.pending is not None:
            self.total = self.bar.total = self.pending[0]
            self._write(*self.pending)
            self.pending = None

    def _write(self, last: int, metrics: dict[str, jax.Array], count: int) -> None:
        self._advance(last)
        steps = range(last - count + 1, last + 1)
        due = [step for step in steps if not step % self.log_every or step == self.total]
        if not due:
            return
        found = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
        for step in due:
            values = {
                name: value[..., step - steps.start].reshape(-1) if count > 1 else value
                for name, value in found.items()
            }
            values.pop("finite", None)
            scale = values.pop("learning_rate_scale", np.ones(len(self.writers)))
            values["learning_rate"] = self.learning_rate[step - 1] * scale
            common = {**self._speed(step), **_device_memory()} if step == due[-1] else {}
            for i, writer in enumerate(self.writers):
                scalars = {name: float(value[i]) for name, value in values.items()} | common
                writer.write_scalars(step, {f"train/{name}": v for name, v in scalars.items()})
        speed = (
            f", {common['clips_per_second']:.0f} clips/s" if "clips_per_second" in common else ""
        )
        self.bar.set_postfix_str(f"loss {values['loss'].mean():.3f}{speed}", refresh=False)

    def _advance(self, last: int) -> None:
        """Moves the bar. What is left is reckoned from the second call on: the first compiled."""
        if self.timed:
            self.bar.update(last - self.bar.n)
            return
        self.timed = True
        self.bar.n = self.bar.initial = self.bar.last_print_n = last
        self.bar.last_print_t = time.time()
        self.bar.refresh()

    def _speed(self, step: int) -> dict[str, float]:
        """Since the last write; nothing right after the start or an evaluation."""
        before, self.written = self.written, (step, time.monotonic())
        if before is None or before[0] == step:
            return {}
        seconds = (self.written[1] - before[1]) / (step - before[0])
        return {"clips_per_second": self.clips_per_step / seconds, "step_seconds": seconds}

    def evaluated(self, step: int, split: str, predictions: Sequence[Evaluated]) -> None:
        """Writes what an evaluator found, for each fold."""
        for writer, found in zip(self.writers, predictions, strict=True):
            writer.write_scalars(step, {f"{split}/{k}": v for k, v in found.metrics.items()})
        self.written = None

    def image(self, step: int, name: str, draw: Sequence[Callable[[], np.ndarray]]) -> None:
        """Writes an RGB image `[H, W, 3]` uint8 for each fold, drawn by the thread that writes."""
        for writer, drawn in zip(self.writers, draw, strict=True):
            writer.write_images(step, {name: lambda drawn=drawn: drawn()[None]})

    def text(self, name: str, text: str) -> None:
        """Writes the same text for each fold."""
        for writer in self.writers:
            writer.write_texts(0, {name: text})

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the line and waits for the writers."""
        self.bar.close()
        for writer in self.writers:
            writer.flush()
            writer.close()


def _device_memory() -> dict[str, float]:
    stats = jax.local_devices()[0].memory_stats()
    return {"device_memory_gib": stats["peak_bytes_in_use"] / 2**30} if stats else {}
