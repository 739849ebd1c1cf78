"""Train every variant of a config over seeds and folds, and choose one by validation alone.

    python launch/sweep.py --config=configs/x.py --workdir=runs/x_sweep --seeds=0,1,2 [-- FLAG ...]

The variants are what `sweep()` in the config file returns: a list, each with keys and values, such
as

    def sweep():
        return [{"optimizer.peak_lr": rate} for rate in (5e-4, 1e-3, 2e-3)]

Runs follow one another, each in a directory of its own below --workdir; flags after `--` are
jaxsound.main's and the same for all, such as --config.folds=(1,2). The same command goes on with a
sweep that was stopped, and `sweep.json` and a table stand at its end. Variants are compared by
their validation splits; the test folds' figure is shown of the one that these have chosen.
"""

import argparse
import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound.config import validate
from jaxsound.errors import UserError, command
from jaxsound.evaluation import curves, files

PROGRAM = [sys.executable, "-m", "jaxsound.main"]
TAG = "validation/accuracy"
COMPARED = ("data.validation", "eval_every")  # without which there is no TAG
Variant = Mapping[str, Any]
Figures = dict[tuple[int, int], dict[str, float]]  # (seed, fold) -> validation and test accuracy


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and jaxsound.main's: everything after `--`."""
    parser = argparse.ArgumentParser(
        usage="python launch/sweep.py --config=FILE --workdir=DIR [--seeds=0,1,2] [-- FLAG ...]"
    )
    parser.add_argument("--config", required=True, help="with a sweep() beside get_config()")
    parser.add_argument("--workdir", required=True, type=Path, help="of the sweep")
    parser.add_argument("--seeds", default="0", help="with commas between them (0)")
    cut = list(argv).index("--") if "--" in argv else len(argv)
    options, flags = parser.parse_args(argv[:cut]), list(argv[cut + 1 :])
    numbers = options.seeds.split(",")
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        parser.error("--seeds wants different whole numbers with commas between them")
    options.seeds = [int(number) for number in numbers]
    for flag in ("--config=", "--workdir=", "--config.seed="):
        if any(given.startswith(flag) for given in flags):
            parser.error(f"{flag}... belongs before --, or is the sweep's own")
    return options, flags


def variants_of(config: str) -> dict[str, Variant]:
    """The variants of a config file by their names; each is checked before anything is trained.

    Args:
      config: the file, with its argument after a colon where it has one.

    Raises:
      UserError: no such file, no `sweep()` in it, or a variant that cannot be trained or compared.
    """
    path, _, argument = config.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config={path}: no such file")
    spec = importlib.util.spec_from_file_location("swept_config", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        line = " ".join(str(error).split())
        raise UserError(f"--config={path} cannot be read: {type(error).__name__}: {line}") from None
    if not hasattr(module, "sweep"):
        raise UserError(f"{path} has no sweep(), which says what to compare")
    found: dict[str, Variant] = {}
    for variant in module.sweep():
        name = name_of(variant)
        if name in found:
            raise UserError(f"{path}: sweep() has the variant {name} twice")
        _check(name, variant, module.get_config(argument))
        found[name] = variant
    if not found:
        raise UserError(f"{path}: sweep() is empty")
    return found


def name_of(variant: Variant) -> str:
    """A variant as the name of a folder: `optimizer.peak_lr=0.001,epochs=20`, or `base`."""
    text = ",".join(f"{key}={value}" for key, value in variant.items()) or "base"
    return re.sub(r"[^\w.=,+-]+", "_", text)


def _check(name: str, variant: Variant, config: Any) -> None:
    if "seed" in variant:
        raise UserError(f"variant {name}: the seeds are --seeds")
    try:
        config.update_from_flattened_dict(dict(variant))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"variant {name}: {' '.join(str(error).split())}") from None
    validate(config)
    if not (config.data.validation and config.eval_every):
        raise UserError(
            f"variant {name}: data.validation and eval_every must be above 0: variants are "
            "compared on the validation split"
        )


def check_flags(flags: Sequence[str], variants: Mapping[str, Variant]) -> None:
    """Refuses flags that would undo a variant, or the split that variants are compared on.

    Raises:
      UserError: a flag sets a key that a variant sets, or one of `COMPARED`.
    """
    for flag in flags:
        key = flag.removeprefix("--config.").partition("=")[0]
        if key in COMPARED:
            raise UserError(f"{flag}: set it in the config file, whose variants it compares")
        if any(key in variant for variant in variants.values()):
            raise UserError(f"{flag}: sweep() sets this key")


def train(
    options: argparse.Namespace, flags: Sequence[str], variants: Mapping[str, Variant]
) -> int:
    """Trains what is left of every run; returns the status of the first that fails, or 0."""
    for seed in options.seeds:  # seeds outside: a sweep that is stopped has compared all variants
        for name, variant in variants.items():
            given = [f"--config.{key}={value}" for key, value in variant.items()]
            place = f"--workdir={run_of(options.workdir, name, seed)}"
            print(f"\n{name}, seed {seed}", flush=True)
            command = [*PROGRAM, f"--config={options.config}", place, f"--config.seed={seed}"]
            if status := _run([*command, *given, *flags]):
                print(f"{name}, seed {seed}: status {status}; the same command goes on from there")
                return status
    return 0


def run_of(workdir: Path, name: str, seed: int) -> Path:
    """The directory of one run."""
    return workdir / name / f"seed_{seed}"


def _run(command: Sequence[str]) -> int:
    """The status of a command, which is told of SIGTERM and has the time that it needs to save."""
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        return process.wait()
    except KeyboardInterrupt:  # the command has had it too
        return process.wait() or 130
    finally:
        signal.signal(signal.SIGTERM, before)


def figures_of(workdir: Path, name: str, seeds: Sequence[int]) -> Figures:
    """Validation and test accuracy of a variant's runs, of the weights that were tested.

    Raises:
      UserError: a run has left no validation accuracy at that step.
    """
    found: Figures = {}
    for seed in seeds:
        run = run_of(workdir, name, seed)
        for path in sorted(run.glob("fold_*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            fold, step = record["fold"], record["extra"].get("weights_step", record["steps"])
            lines = curves.read(run / f"fold_{fold}" / "metrics.jsonl")
            values = [line[TAG] for line in lines if line["step"] == step and TAG in line]
            if not values or values[-1] is None:
                raise UserError(f"{run}: fold {fold} has no {TAG} at step {step}")
            found[seed, fold] = {"validation": values[-1], "test": record["accuracy"]}
    return found


def compare(found: Mapping[str, Figures], seeds: Sequence[int]) -> dict[str, Any]:
    """The sweep's result.

    Returns:
      What `sweep.json` holds: for each variant the mean over runs and folds of its validation
      accuracy, its sample standard deviation over seeds, and the mean and standard deviation of
      its difference to the first variant in the same seed and fold; the variant of the highest
      mean (of equal ones the first), and its test accuracy alone.

    Raises:
      UserError: the variants have finished different folds.
    """
    first, base = next(iter(found.items()))
    rows = []
    for name, figures in found.items():
        if figures.keys() != base.keys() or not figures:
            raise UserError(f"{first} and {name} have finished different seeds or folds")
        apart = [figures[key]["validation"] - base[key]["validation"] for key in base]
        rows.append(
            {
                "variant": name,
                "validation": _over_seeds(figures, "validation", seeds),
                "difference": {"mean": float(np.mean(apart)), "std": _std(apart)},
                "runs": [
                    {"seed": seed, "fold": fold, "validation": value["validation"]}
                    for (seed, fold), value in figures.items()
                ],
            }
        )
    chosen = max(rows, key=lambda row: row["validation"]["mean"])["variant"]
    return {
        "seeds": list(seeds),
        "chosen_by": TAG,
        "variants": rows,
        "chosen": chosen,
        "chosen_test": _over_seeds(found[chosen], "test", seeds),
    }


def _over_seeds(figures: Figures, name: str, seeds: Sequence[int]) -> dict[str, float]:
    means = [np.mean([v[name] for (s, _), v in figures.items() if s == seed]) for seed in seeds]
    return {"mean": float(np.mean(means)), "std": _std(means)}


def _std(values: Sequence[Any]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def format_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal: a line a variant, then the one that validation has chosen."""
    wide = max(len(row["variant"]) for row in result["variants"])
    line = (f"{{:<{wide}}}" + "  {:>16}  {:>16}").format
    lines = [line("variant", "validation", "to the first")]
    for row in result["variants"]:
        figure = _spread(row["validation"])
        apart = _spread(row["difference"], sign="+") if row is not result["variants"][0] else ""
        lines.append(line(row["variant"], figure, apart))
    count = len(result["seeds"])
    lines += [
        "",
        f"  chosen by {TAG}: {result['chosen']}",
        f"  its test accuracy: {_spread(result['chosen_test'])} % over {count} "
        f"seed{'s' if count > 1 else ''}; differences are by seed and fold, in points",
    ]
    return "\n".join(lines)


def _spread(figure: Mapping[str, float], sign: str = "") -> str:
    return f"{100 * figure['mean']:{sign}.1f} ± {100 * figure['std']:.1f}"


@command()
def main(argv: Sequence[str]) -> int:
    """Runs the sweep, or what is left of it; returns the exit status."""
    options, flags = parse(argv)
    variants = variants_of(options.config)
    check_flags(flags, variants)
    if status := train(options, flags, variants):
        return status
    found = {name: figures_of(options.workdir, name, options.seeds) for name in variants}
    result = compare(found, options.seeds)
    files.write(options.workdir / "sweep.json", files.to_json(result))
    print(f"\n{format_table(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
