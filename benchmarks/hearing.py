"""What a training step costs that hears sound: the frontend inside it, and each augmentation.

    python benchmarks/hearing.py [--clips=32] [--rounds=5] [--rows NAME...]

The network and batch of `configs/esc10_waveform.py` on clips of noise of 5 s. Each line is a
compiled step of its own; rounds go around all of them. The table has medians: ms of a step, and ms
of processors' time for it, which other work on the machine disturbs less.
"""

import argparse
import importlib
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import steps

CLIPS = 64
TURNED_ON: dict[str, dict[str, Any]] = {
    "features": {"data.input": "features"},
    "sound": {},
    "+ shift and loop": {"augment.shift": True, "augment.loop": 0.5},
    "+ speed": {"augment.speed": 1.25},
    "+ between class, A-weighted": {"augment.between_class": 0.5},
    "+ between class, RMS": {"augment.between_class": 0.5, "augment.loudness": "rms"},
    "+ level and polarity": {"augment.level_db": 6.0, "augment.polarity": True},
    "+ noise": {"augment.noise": 0.3},
    "+ equaliser and low-pass": {"augment.equaliser_db": 6.0, "augment.low_pass": 0.2},
}


def stores(config: Any, clips: int = CLIPS) -> Any:
    """Features and samples of as many clips of noise."""
    import dataclasses

    from jaxsound.config import frontend_config
    from jaxsound.features.frontend import samples_of

    store = steps.synthetic_store(config, clips)
    frontend = frontend_config(config)
    length = round(config.data.pad_seconds * frontend.sample_rate)
    noise = np.random.default_rng(0).normal(0, 3000, (clips * length, 1)).astype(np.int16)
    sound = dataclasses.replace(
        store, frames=noise, offsets=np.arange(clips + 1) * length, frontend=samples_of(frontend)
    )
    return dataclasses.replace(store, sound=None if config.data.input == "features" else sound)


class Side:
    """A compiled step, its state and one batch."""

    def __init__(self, config: Any, store: Any):
        from jaxsound.data import folds
        from jaxsound.experiment import initial_state, make_experiment, train_iterator
        from jaxsound.training import state

        split = folds.split(store, 1, validation=0.0, seed=0)
        self.made = make_experiment(config, store, {1: split}, stacked=False)
        self.state = self.made.placement.stack([initial_state(self.made, 1)])
        self.key = self.made.placement.stack([state.stream_key(0, "train", 1)])
        iterator = train_iterator(self.made, 1)
        self.batch = self.made.feed.place([next(iterator)])
        iterator.close()
        self.run()

    def run(self) -> tuple[float, float]:
        """Milliseconds of a step, and of processors in it."""
        began, worked = time.perf_counter(), time.process_time()
        self.state, metrics = self.made.train_step(self.state, self.batch, self.key)
        jax.block_until_ready(metrics)
        return 1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - worked)


def side(changes: dict[str, Any], clips: int) -> Side:
    """`configs/esc10_waveform.py` with batches of so many clips, and changed."""
    config = importlib.import_module("configs.esc10_waveform").get_config("plain")
    config.update_from_flattened_dict({"batch_size": clips, "data.validation": 0.0} | changes)
    return Side(config, stores(config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=32, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="*", default=[], help="some of them; features always")
    args = parser.parse_args()
    everything: dict[str, Any] = {}
    for changes in TURNED_ON.values():
        everything |= {k: v for k, v in changes.items() if k.startswith("augment.")}
    everything["augment.loudness"] = "a_weighted"
    wanted = {"features", *(args.rows or (*TURNED_ON, "everything"))}
    sides = {
        name: side(changes, args.clips)
        for name, changes in (TURNED_ON | {"everything": everything}).items()
        if name in wanted
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            times[name].append(side.run())
    middle = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    print(f"{Path(__file__).stem}: batches of {args.clips}, {jax.devices()[0].device_kind}")
    print(f"{'':<30} {'step':>8} {'processors':>12} {'more, a clip':>14}")
    for name, (wall, worked) in middle.items():
        more = (worked - middle["features"][1]) / args.clips
        print(f"{name:<30} {wall:8.1f} {worked:12.1f} {more:+14.2f}")


if __name__ == "__main__":
    main()
