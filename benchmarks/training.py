"""One training step on all cores: the networks of ESC-50's configurations, batch of 32.

    python benchmarks/training.py

Peers: PyTorch eager (goal: 0.5x for the CNN, whose convolutions XLA computes slowly on CPUs, and
0.9x for the transformer) and torch.compile, for context. Same layers and number of parameters;
dropout on, augmentation off.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import steps
from harness import Contestant, Row, main

GOALS = {"cnn": 0.5, "transformer": 0.9}
STEPS = 10


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """One for each network."""
    return [_row(network, args.out / f"{network}_parameters.txt") for network in GOALS]


def _row(network: str, counts: Path) -> Row:
    peer = functools.partial(steps.torch_step, network, counts)
    contestants = {
        "jaxsound": functools.partial(steps.jaxsound_step, network, counts),
        "torch eager": functools.partial(peer, compiled=False),
        "torch.compile": functools.partial(peer, compiled=True),
    }
    return Row(
        area=f"training step, {network}",
        unit="s",
        contestants=[Contestant(n, functools.partial(_timed, p)) for n, p in contestants.items()],
        goals=(GOALS[network], 0),
        smaller=True,
    )


def _timed(prepare: Callable[[], steps.Step]) -> Callable[[], float]:
    """Seconds per step, over as many as take a second or two."""
    step = prepare()
    step(1)

    def run() -> float:
        began = time.perf_counter()
        step(STEPS)
        return (time.perf_counter() - began) / STEPS

    return run


if __name__ == "__main__":
    main("training", __file__, rows)
