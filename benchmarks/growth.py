"""How cost grows with the number of clips, their length and the size of the network.

    python benchmarks/growth.py                       # minutes; 3.2 GB of disk addresses, no blocks
    python benchmarks/growth.py --clips 400 4000

Every point has a process of its own. Clips are those of a feature store in `stream` mode whose
frames.npy is a sparse file of zeros, so reads cost what a warm page cache costs. "anonymous" is
the peak of memory that the process holds, without the pages of mapped files, which the system
may take back: that a set does not have to fit in memory shows there. The exponent beneath the
table is that of the power of the number of clips by which each cost grows from the second
largest point to the largest: 1 is linear, 2 quadratic.
"""

import argparse
import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np

Figures = dict[str, float]

ROOT = Path(__file__).parents[1]
CLIPS = (400, 4000, 40_000, 100_000)
SECONDS = (1, 5, 15, 60)
SIZES = {"tiny": (64, 2), "small": (128, 3), "medium": (256, 6), "base": (384, 12)}
RATE, HOP, BINS, CLASSES = 32000, 640, 64, 50
BATCH = 8  # of training steps; batches of the feed are of 32


class Memory:
    """Samples the memory that this process holds; `peak` in MiB."""

    def __init__(self) -> None:
        self.peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while status.exists():
            line = next(x for x in status.read_text().splitlines() if x.startswith("RssAnon"))
            self.peak = max(self.peak, int(line.split()[1]) / 1024)
            time.sleep(0.01)

    def figures(self) -> Figures:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"anonymous MiB": self.peak or math.nan, "with files MiB": most}


def seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def store_of(clips: int, folder: Path, frames: int) -> Any:
    """A store of `clips` clips, two to a source, in five folds."""
    from jaxsound.features.frontend import FrontendConfig
    from jaxsound.features.store import Store

    shape = (clips * frames, BINS)
    np.lib.format.open_memmap(folder / "frames.npy", "w+", np.float16, shape).flush()
    number = np.arange(clips)
    return Store(
        path=folder,
        frames=np.load(folder / "frames.npy", mmap_mode="r"),
        offsets=np.arange(clips + 1) * frames,
        labels=(number // 2 % CLASSES).astype(np.int32),
        folds=(1 + number // 2 % 5).astype(np.int32),
        groups=np.char.add("source", (number // 2).astype(str)),
        clip_ids=np.char.add("clip", number.astype(str)),
        class_names=tuple(f"class{i}" for i in range(CLASSES)),
        frontend=FrontendConfig(n_fft=1280, hop_length=HOP),
        publisher_folds=False,
        meta={},
    )


def with_crossings(store: Any, every: int) -> Any:
    """The same store in a publisher's folds, which divide every so many sources."""
    number = np.arange(len(store))
    divided = np.where(number % (2 * every) == 1, 1 + store.folds % 5, store.folds)
    return dataclasses.replace(store, folds=divided, publisher_folds=True)


def by_clips(clips: int) -> Figures:
    """Preparing folds and normalisation, starting the iterator, and reading batches of 32."""
    from jaxsound.data import folds
    from jaxsound.input import pipeline
    from jaxsound.training import sharding

    memory = Memory()
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(clips, Path(folder), frames=5 * RATE // HOP)
        crossing = with_crossings(store, every=10)
        found: Figures = {
            "make folds s": seconds(lambda: folds.assign(store.labels, store.groups, 5)),
            "split s": seconds(lambda: folds.split(store, 1)),
            "split, crossing sources s": seconds(lambda: folds.split(crossing, 1)),
        }
        train = folds.split(store, 1).train
        found["normalisation s"] = seconds(lambda: pipeline.normalisation(store, train, "per_bin"))
        placement = sharding.Placement(sharding.make_mesh(32), stacked=False)
        began = time.perf_counter()
        feed = pipeline.Feed(store, placement, batch_size=32, resident=False)
        batches = feed.train_iterator(train, 4 * RATE // HOP, seed=0)
        next(batches)
        found["first batch s"] = time.perf_counter() - began
        count = 300
        spent = seconds(lambda: [next(batches) for _ in range(count)])
        found["batches clips/s"] = 32 * count / spent
        batches.close()
    return found | memory.figures()


def by_seconds(length: int) -> Figures:
    """The frontend, reading batches and the training step of ESC-50's CNN, on longer clips."""
    import jax
    import jax.numpy as jnp

    from jaxsound.features.frontend import FrontendConfig, frontend

    memory = Memory()
    config = FrontendConfig(n_fft=1280, hop_length=HOP)
    waveform = jnp.zeros((1, length * RATE), jnp.float32)
    own = jnp.full(1, length * RATE, jnp.int32)
    jax.block_until_ready(frontend(config, waveform, own))
    count = max(3, 60 // length)
    spent = seconds(
        lambda: jax.block_until_ready([frontend(config, waveform, own) for _ in range(count)])
    )
    changes = {"channels": (24, 48, 96, 192), "convs": 1, "stem_kernel": 5, "stem_stride": 2}
    steps = training("cnn", changes, length * RATE // HOP)
    return {"frontend clips/s": count / spent} | steps | memory.figures()


def by_size(size: str) -> Figures:
    """The training step of transformers on clips of 5 s."""
    memory = Memory()
    width, depth = SIZES[size]
    changes = {"width": width, "depth": depth, "heads": width // 32, "stem": "frames"}
    return training("transformer", changes, 5 * RATE // HOP) | memory.figures()


def training(model: str, changes: dict[str, Any], frames: int) -> Figures:
    """Compiles and times a training step, BATCH clips of `frames` frames to a step."""
    import jax

    from jaxsound.config import default_config
    from jaxsound.training import optim, state, step

    config = default_config(model)
    config.model.update(changes)
    network, params, stats = state.build_network(
        config.model, features=BINS, classes=CLASSES, frames=frames, key=jax.random.key(0)
    )
    optimizer = optim.make_optimizer(config.optimizer, 1000, 100)
    now = state.create_state(
        params,
        stats,
        optimizer,
        mean=np.zeros(BINS),
        std=np.ones(BINS),
        class_weight=np.ones(CLASSES),
        ema=False,
    )
    train = jax.jit(step.make_train_step(network, optimizer, config, frames), donate_argnums=0)
    rng = np.random.default_rng(0)
    batch = {
        "features": rng.standard_normal((BATCH, frames, BINS), np.float32),
        "length": np.full(BATCH, frames, np.int32),
        "label": rng.integers(0, CLASSES, BATCH).astype(np.int32),
        "mask": np.ones(BATCH, bool),
    }
    key = state.stream_key(0, "train", 1)

    def run(steps: int) -> None:
        nonlocal now
        for _ in range(steps):
            now, _ = train(now, batch, key)
        jax.block_until_ready(now)

    first = seconds(lambda: run(1))
    spent = seconds(lambda: run(1))
    steps = max(1, min(20, round(2 / spent)))
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(now.params)),
        "first step s": first,
        "training clips/s": steps * BATCH / seconds(lambda: run(steps)),
    }


KINDS: dict[str, Callable[[Any], Figures]] = {
    "clips": by_clips,
    "seconds per clip": by_seconds,
    "transformer": by_size,
}


def measure(kind: str, point: Any) -> Figures:
    """One point, in a process of its own."""
    spec = json.dumps([kind, point])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, "--point", spec],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no word"]
        raise SystemExit(f"{kind} {point} ended early: {lines[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(kind: str, found: dict[Any, Figures]) -> str:
    """Markdown: a line for each point, and for clips the exponents."""
    columns = list(next(iter(found.values())))
    lines = [f"| {kind} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for point, figures in found.items():
        values = " | ".join(_short(figures[name]) for name in columns)
        lines.append(f"| {point} | {values} |")
    if kind == "clips" and len(found) > 1:
        values = " | ".join(_short(value) for value in exponents(found).values())
        lines.append(f"| exponent | {values} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def exponents(found: dict[int, Figures]) -> Figures:
    """By which power of the number of clips each figure grows between the last two points."""
    (few, before), (many, after) = list(found.items())[-2:]
    scale = math.log(many / few)
    return {name: math.log(after[name] / before[name]) / scale for name in after}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, nargs="*", default=CLIPS)
    parser.add_argument("--seconds", type=int, nargs="*", default=SECONDS)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.point:
        kind, point = json.loads(args.point)
        print(json.dumps(KINDS[kind](point)))
        return
    points = dict(zip(KINDS, (args.clips, args.seconds, args.sizes), strict=True))
    report: dict[str, Any] = {"machine": harness.machine(), "idle_before": harness.idle()}
    for kind, each in points.items():
        report[kind] = {}
        for point in each:
            print(f"{kind} {point} ...", file=sys.stderr)
            report[kind][point] = measure(kind, point)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "growth.json").write_text(json.dumps(report, indent=1) + "\n")
    idle = report["idle_before"]
    loud = f" (machine not quiet: {idle:.0%} idle)" if idle < harness.QUIET else ""
    print(f"\ngrowth: {harness.describe(report['machine'])}{loud}")
    for kind in points:
        if report[kind]:
            print(f"\n{table(kind, report[kind])}")


if __name__ == "__main__":
    main()
