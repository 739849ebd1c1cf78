"""What the loop around the training step costs: everything but the step.

    python benchmarks/loop.py

The real loop of jaxsound/train.py between two evaluations (Grain's iterator, placing the batch, the
step, the writers of TensorBoard and metrics.jsonl every ten steps, the progress line) against the
same compiled step on one batch that is on the device already. Both in one process and with one
executable: two processes of one program differ by more than the goal of 5 %.
"""

import argparse
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import steps
from harness import Contestant, Row, main, scratch

STEPS = 20  # of a run
LIMIT = 1.05  # times the bare step's seconds


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """For each network, for both ways of feeding the device."""
    return [
        Row(
            area=f"loop around the step, {network}, {feed}",
            unit="s a step",
            contestants=[
                Contestant("jaxsound's loop", functools.partial(_loop, network, feed)),
                Contestant("the step alone", functools.partial(_bare, network, feed)),
            ],
            goals=(1 / LIMIT,),
            smaller=True,
            together=True,
        )
        for network in ("cnn", "transformer")
        for feed in ("stream", "resident")
    ]


@functools.cache
def _experiment(network: str, feed: str) -> Any:
    config = steps.configure(network)
    config.data.feed = feed
    return steps.experiment(config)


def _begin(network: str, feed: str) -> tuple[Any, Any, Any]:
    """The experiment, one fold's first state and its key."""
    from jaxsound.experiment import initial_state
    from jaxsound.training import state

    made = _experiment(network, feed)
    current = made.placement.stack([initial_state(made, 1)])
    key = made.placement.stack([state.stream_key(0, "train", 1)])
    return made, current, key


def _loop(network: str, feed: str) -> Callable[[], float]:
    from jaxsound import train
    from jaxsound.experiment import train_iterator

    made, current, key = _begin(network, feed)
    iterator = train_iterator(made, 1)
    progress = train.open_progress(made, [1], scratch(), 0, 0.0)
    now = 0

    def run() -> float:
        nonlocal current, now
        began = time.perf_counter()
        for _ in range(STEPS):
            batch = made.feed.place([next(iterator)])
            current, measures = made.train_step(current, batch, key)
            progress.stepped(now + 1, measures)
            now += 1
        float(measures["loss"])
        return (time.perf_counter() - began) / STEPS

    return run


def _bare(network: str, feed: str) -> Callable[[], float]:
    from jaxsound.experiment import train_iterator

    made, current, key = _begin(network, feed)
    with contextlib.closing(train_iterator(made, 1)) as iterator:
        batch = made.feed.place([next(iterator)])

    def run() -> float:
        nonlocal current
        began = time.perf_counter()
        for _ in range(STEPS):
            current, measures = made.train_step(current, batch, key)
        float(measures["loss"])
        return (time.perf_counter() - began) / STEPS

    return run


if __name__ == "__main__":
    main("loop", __file__, rows)
