"""A trace of some steps, which TensorBoard shows."""

import contextlib
from pathlib import Path
from typing import Any

import jax


class Profile:
    """Traces the steps from `first` up to `last`; a context manager, so that no trace stays open.

    TensorBoard needs its profile plugin (the extra `jaxsound[profile]`) to show the trace.
    """

    def __init__(self, span: str, directory: Path):
        """Does nothing yet.

        Args:
          span: "10:20" for the eleventh to the twentieth step; '' for none.
          directory: of the event files that the trace goes beside.
        """
        first, _, last = span.partition(":")
        self.first, self.last = (int(first), int(last)) if span else (-1, -1)
        self.directory = directory
        self.running = False

    def before(self, step: int, state: Any) -> None:
        """Begins or ends the trace before this step, whose `state` is still being computed."""
        if not self.running and self.first <= step < self.last:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self.directory)
            self.running = True
        elif self.running and step >= self.last:
            jax.block_until_ready(state)
            self._stop()

    def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
        """Around a call: in the trace it bears the step's number, by which TensorBoard adds up."""
        if not self.running:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self.running = False
        self.first = self.last  # a trace is taken once

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        if self.running:
            self._stop()
