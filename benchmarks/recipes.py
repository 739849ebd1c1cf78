"""What a training step of each recipe costs: network, frontend and augmentation, on clips of noise.

    python benchmarks/recipes.py [NAME...] [--steps=5]

NAME is that of a file in `configs/recipes/`; all of them otherwise. Each is measured in a process
of its own: the first step, compilation included; the median of those after it; and the most memory
that the process had, or on an accelerator the device. What a recipe costs is its steps (in its
docstring) times that median, besides evaluation, reading and writing.
"""

import argparse
import importlib
import multiprocessing
import resource
import statistics
import time
from pathlib import Path

import hearing
import jax

RECIPES = Path(__file__).parents[1] / "configs" / "recipes"


def measure(name: str, steps: int) -> None:
    """Prints a recipe's line."""
    config = importlib.import_module(f"configs.recipes.{name}").get_config()
    store = hearing.stores(config, 2 * config.batch_size)
    began = time.perf_counter()
    side = hearing.Side(config, store)
    first = time.perf_counter() - began
    step = statistics.median(side.run()[0] for _ in range(steps)) / 1e3
    held = (jax.devices()[0].memory_stats() or {}).get(
        "peak_bytes_in_use", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    print(f"{name:<24} {config.batch_size:>5} {first:9.1f} {step:9.3f} {held / 2**30:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = sorted(path.stem for path in RECIPES.glob("*.py"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(every))
    parser.add_argument("--steps", type=int, default=5, help="timed")
    args = parser.parse_args()
    if unknown := set(args.names) - set(every):
        parser.error(f"no recipe {', '.join(sorted(unknown))} among {', '.join(every)}")
    print(f"{'recipe':<24} {'batch':>5} {'first, s':>9} {'step, s':>9} {'GiB':>9}", flush=True)
    for name in args.names or every:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(name, args.steps)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name}: failed with {process.exitcode}")


if __name__ == "__main__":
    main()
