"""Told to stop: SIGTERM and SIGINT end a run between two steps, with what it has done saved.

The exit status is 75 (EX_TEMPFAIL of sysexits.h: try again later) after SIGTERM, which a scheduler
can requeue on, and 130 after SIGINT. A second signal, a second or more after the first, ends the
process at once; one that comes sooner is the first again, from a launcher that passes it on.

In a job of several processes SIGTERM to any of them stops all at one step that they agree on:
JAX's preemption service, which `jax.distributed` starts, takes the signal.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

REQUEUE = 75
AGAIN_SECONDS = 1.0
STATUS = {signal.SIGTERM: REQUEUE, signal.SIGINT: 130}


class Stopped(BaseException):
    """This run was told to stop and has; the text says what is saved."""

    def __init__(self, number: int, text: str = "what was saved before is kept"):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}: {text}; the same command goes on from there")
        self.number = number
        self.status = STATUS[signal.Signals(number)]

    def report(self) -> int:
        """Prints the text and returns the exit status."""
        print(f"\n{self}", file=sys.stderr)
        return self.status


class _Told:
    """What this process was told, and whether it may be left anywhere or at a step's end alone."""

    number: int | None = None
    at = 0.0  # seconds, of the monotonic clock
    holding = False


_told = _Told()


@contextlib.contextmanager
def listen() -> Iterator[None]:
    """Takes both signals while it lasts; raises `Stopped` where nothing needs to be saved."""
    before = {number: signal.signal(number, _receive) for number in STATUS}
    _told.number, _told.holding = None, False
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _receive(number: int, _: Any) -> None:
    if _told.number is not None:
        if time.monotonic() > _told.at + AGAIN_SECONDS:
            os._exit(128 + number)
        return
    _told.number, _told.at = number, time.monotonic()
    if jax.distributed.is_initialized():
        os.kill(os.getpid(), signal.SIGTERM)  # which tells the other processes
    elif not _told.holding:
        raise Stopped(number)


def hold() -> None:
    """From here on there is something to save: the run is left by `check` alone."""
    _told.holding = True


def check(step: int | None = None, count: int = 1) -> None:
    """Raises `Stopped` if this run is to stop here, where its state is whole.

    Args:
      step: how many steps are done; None, within an evaluation, leaves jobs of several processes
        alone.
      count: how many of them since the last check, by which the processes find a common step.
    """
    if jax.process_count() == 1:
        if _told.number is not None:
            raise Stopped(_told.number)
    elif step is not None:
        calls = range(step - count + 1, step + 1)
        if any([multihost_utils.reached_preemption_sync_point(call) for call in calls]):
            raise Stopped(_told.number or signal.SIGTERM)


@contextlib.contextmanager
def saving(save: Callable[[], str]) -> Iterator[None]:
    """Where training happens: who is told to stop calls `save` before leaving.

    Args:
      save: returns when everything is on disk, with the words for what is.
    """
    try:
        yield
    except Stopped as stopped:
        if not _told.holding:
            raise
        text = save()
        if jax.process_count() > 1:  # one that leaves first may have the others killed
            multihost_utils.sync_global_devices("stopped")
        raise Stopped(stopped.number, text) from None
    finally:
        _told.holding = False
