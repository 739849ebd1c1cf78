"""What jaxsound's core does on an accelerator, beside torch.compile, on the same networks.

    python benchmarks/accelerator.py                        # all rows, most important first
    python benchmarks/accelerator.py --rows=1,6 --budget=540 --store=DIR
    python benchmarks/accelerator.py --small                # whole, on a CPU, to see that it runs

Needs jax, flax, optax and numpy; the peers need torch. DIR is a folder of the feature cache, or
its frames.npy, offsets.npy, labels.npy and folds.npy alone; without it 2000 clips of 50 classes
are made up. Every side of a row has a process of its own, and rounds go around them; those of
rows 6 and 7 are started anew for every round, one at a time, with empty caches. The peers compute
in bfloat16 by autocast, with float32 parameters, and take no notice of padding, of which there is
none. Where jax sees no accelerator the sizes are those of --small, and no goal is judged.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import accelerator_recipe as recipe
from accelerator_bench import Bench, Row, Side, table

ROOT = Path(__file__).parents[1]
PEERS = {"default": "torch.compile", "reduce-overhead": "torch.compile, CUDA graphs"}


def rows(modes: list[str], how: str, *, small: bool) -> list[Row]:
    """All comparisons, the most important first.

    Args:
      modes: of torch.compile.
      how: jaxsound trains the folds of row 6, "vmap" or "sequential".
      small: leaves out what a CPU has no time for.
    """
    found = [
        five_folds(6, "cnn", how, modes, under=60.0),
        large(1, "transformer", modes),
        large(2, "resnet", modes),
        side_by_side("transformer", goal=1.5),
        resident(),
        log_mel(),
        side_by_side("cnn"),
        five_folds(7, "transformer", "vmap", modes),
    ]
    return found[:-2] if small else found


def own(name: str, task: str, goal: float = 0.0, **options: Any) -> Side:
    return Side(name, "jax", task, options, goal)


def peers(modes: list[str], task: str, goal: float, **options: Any) -> list[Side]:
    return [
        Side(PEERS.get(mode, mode), "torch", task, options | {"mode": mode}, goal) for mode in modes
    ]


def five_folds(number: int, model: str, how: str, modes: list[str], under: float = 0.0) -> Row:
    options: dict[str, Any] = {"model": model, "how": how}
    sides = [own(f"jaxsound, {how}", "crossval", **options)]
    if how == "vmap":
        name = "jaxsound, vmap, 10 steps a call"
        sides.append(own(name, "crossval", **options, calls=10))
    sides += peers(modes, "crossval", goal=3.0, model=model)
    area = f"five folds to their accuracy, small {model}, compilation included"
    return Row(number, area, "s", tuple(sides), cold=True, under=under)


def large(number: int, model: str, modes: list[str]) -> Row:
    sides = [own("jaxsound", "step", model=model), *peers(modes, "step", goal=1.3, model=model)]
    name = {"transformer": "transformer of 12 layers", "resnet": "ResNet18"}[model]
    return Row(number, f"{name}, bfloat16, training", "clips/s", tuple(sides))


def side_by_side(model: str, goal: float = 0.0) -> Row:
    together = own("jaxsound, in one program", "folds", model=model, how="vmap")
    apart = own("one after another", "folds", goal, model=model, how="sequential")
    return Row(5, f"five folds, small {model}, training", "clips/s", (together, apart))


def resident() -> Row:
    sides = (
        own("jaxsound, resident epoch", "epoch", model="cnn", feed="resident"),
        own("the same step on one fixed batch", "epoch", 1 / 1.03, model="cnn", feed="fixed"),
        own("resident, 10 steps a call", "epoch", model="cnn", feed="resident", calls=10),
    )
    return Row(4, "epoch, small cnn, one fold", "clips/s", sides)


def log_mel() -> Row:
    sides = (
        own("jaxsound", "log_mel"),
        Side("torch.stft", "torch", "log_mel", {}, 1.0),
    )
    return Row(3, "log-mel on the device", "clips/s", sides)


def serve(spec: str) -> None:
    """A worker: prepares, then runs whenever it is asked, until its input ends."""
    framework, name, options, small, store = json.loads(spec)
    size = recipe.SMALL if small else recipe.FULL
    module = importlib.import_module(f"accelerator_{framework}")
    details = module.device()
    task = recipe.Task(options, size, Path(store))
    run = module.TASKS[name](task, details) if name else None
    print("ANSWER " + json.dumps(details), flush=True)
    for _ in sys.stdin:
        assert run is not None
        figure = run()
        print("ANSWER " + json.dumps(details | {"figure": figure}), flush=True)


def main() -> None:
    args = _parse()
    if args.worker:
        serve(args.worker)
        return
    bench = Bench(
        args.out, store=args.store, small=args.small, rounds=args.rounds, budget=args.budget
    )
    how = args.folds or ("sequential" if bench.small else "vmap")
    results = []
    for row in rows(args.torch_modes.split(","), how, small=bench.small):
        if not args.rows or str(row.number) in args.rows.split(","):
            results.append(bench.measure(row))
            bench.write(results)
    print(f"\n{bench.describe()}\n\n{table(results, judge=bench.judges)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out = Path(os.environ.get("OUT") or ROOT / "runs" / "bench")
    parser.add_argument("--rows", default="", help="such as 1,3,6")
    parser.add_argument("--store", type=Path, metavar="DIR", help="feature store to train on")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--rounds", type=int, default=0, help="5 (small: 3), and 1 of rows 6 and 7")
    parser.add_argument("--budget", type=float, default=1e6, help="seconds; what is left is named")
    parser.add_argument("--folds", choices=("vmap", "sequential"), help="of jaxsound in row 6")
    parser.add_argument("--torch-modes", default="default", help="default,reduce-overhead")
    parser.add_argument("--out", type=Path, default=out, help="folder of accelerator.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
