"""Five folds of ESC-10 from wav files to crossval.json, each side as one whole process.

    python benchmarks/crossval.py --recordings=DIR

Imports, preparation, compilation, training and results are included, and on jaxsound's side
checkpoints, TensorBoard, predictions and the report too. Same network, batch and epochs
(esc10_small.py and torch_crossval.py). Cold: jaxsound has no prepared data, no features and no
compiled programs. Warm: it finds what an earlier run has left; the torch script
keeps nothing, so it computes its features each time.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import recordings
from harness import ROOT, Contestant, Row, main, note, scratch

NETWORKS = ("cnn", "transformer")


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """For each network: from nothing, and with the store warm."""
    root = recordings.esc10(args)
    return [row for network in NETWORKS for row in _rows(network, root)]


def _rows(network: str, root: Path) -> Sequence[Row]:
    torch = Contestant("torch and librosa script", functools.partial(_torch, network, root))
    cold = functools.partial(_jaxsound, network, root, warm=False)
    warm = functools.partial(_jaxsound, network, root, warm=True)
    shared = {"unit": "s", "smaller": True}
    return [
        Row(
            area=f"five folds of ESC-10, small {network}, from files",
            contestants=[Contestant("jaxsound, cold", cold), torch],
            goals=(1,),
            rounds=2,
            warm_up=False,
            **shared,
        ),
        Row(
            area=f"five folds of ESC-10, small {network}, store warm",
            contestants=[Contestant("jaxsound, warm", warm), torch],
            goals=(3,),
            rounds=2,
            **shared,
        ),
    ]


def _jaxsound(network: str, root: Path, *, warm: bool) -> Callable[[], float]:
    kept = scratch()

    def run() -> float:
        folder, cache = scratch(), kept if warm else scratch()
        command = [sys.executable, "-m", "jaxsound.main"]
        command += [f"--config=benchmarks/esc10_small.py:network={network}"]
        command += [f"--config.data.manual_dir={root}", f"--workdir={folder / 'run'}"]
        return _seconds("jaxsound", command, folder / "run", {"JAXSOUND_CACHE": str(cache)})

    return run


def _torch(network: str, root: Path) -> Callable[[], float]:
    def run() -> float:
        folder = scratch()
        command = [sys.executable, "benchmarks/torch_crossval.py"]
        command += [f"--data={root}", f"--network={network}", f"--out={folder}"]
        return _seconds("torch", command, folder, {})

    return run


def _seconds(side: str, command: list[str], out: Path, environment: dict[str, str]) -> float:
    """Of the whole process, which must leave a result."""
    environment = os.environ | environment
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # its place is beside the features
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    result = json.loads((out / "crossval.json").read_text())
    note(f"{side}'s accuracy is {result['accuracy_mean']:.3f}")
    shutil.rmtree(out)
    return seconds


if __name__ == "__main__":
    main("crossval", __file__, rows)
