"""What a run directory holds, and which run it belongs to."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from jaxsound import __version__
from jaxsound.errors import UserError
from jaxsound.features.store import Store
from jaxsound.training import selection

# Changing these between two starts changes neither the numbers nor what the directory means.
HARMLESS = frozenset(
    {
        "folds",
        "crossval",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "watch_test",
        "profile_steps",
        "steps_per_call",
        "wandb",
        "model.attention",
        "data.manual_dir",
        "data.cache_dir",
        "data.feed",
        "data.resident_gib",
        "data.read_threads",
    }
)


def check(directory: Path, config: ml_collections.ConfigDict) -> None:
    """Checks that a run in this directory is of the same experiment.

    Raises:
      UserError: with the keys that differ.
    """
    old = _record(directory)
    if old is None:
        return
    before, now = _flat(old["config"]), _flat(json.loads(config.to_json()))
    # Where training follows the validation split, how often it looks matters.
    harmless = HARMLESS - {"eval_every"} if selection.needed(config) else HARMLESS
    wrong = [
        f"config.{key}={before.get(key)!r} there and {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in harmless
    ]
    if wrong:
        raise UserError(
            f"{directory} holds another run ({'; '.join(wrong)}); name another --workdir"
        )


def finished(directory: Path, config: ml_collections.ConfigDict) -> dict[str, Any] | None:
    """The result of a run that was finished before, with all folds that the config asks for."""
    path = directory / "crossval.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    wanted = set(config.folds) or set(result["folds_available"])
    done = {fold["fold"] for fold in result["folds"]}
    return result if wanted <= done and not unfinished(directory, wanted) else None


def claim(directory: Path, config: ml_collections.ConfigDict, store: Store) -> None:
    """Makes the directory and writes `config.json`, or finds that it was begun with this data.

    Raises:
      UserError: the directory cannot be written, or belongs to a run on other clips.
    """
    clips = _digest_of_clips(store)
    old = _record(directory)
    if old is not None:
        if old["clips"] != clips:
            raise UserError(
                f"{directory} holds a run on other clips, labels or folds than the data has now; "
                "name another --workdir"
            )
        return
    if jax.process_index() != 0:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f"config.{os.getpid()}.tmp"
        record = {"config": json.loads(config.to_json()), "clips": clips}
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(directory / "config.json")
    except OSError as error:
        raise UserError(f"--workdir={directory}: {error.strerror}") from None


def _record(directory: Path) -> dict[str, Any] | None:
    path = directory / "config.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        return record if {"config", "clips"} <= record.keys() else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _digest_of_clips(store: Store) -> str:
    digest = hashlib.sha256()
    for column in (store.clip_ids, store.labels, store.folds, store.offsets):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def unfinished(directory: Path, folds: Iterable[int]) -> list[int]:
    """The folds without a result."""
    return [fold for fold in folds if not (directory / f"fold_{fold}.json").exists()]


def share_of_process(folds: list[int]) -> list[int]:
    """This process's folds, of those that `launch/` or Slurm's processes share out by turns."""

    def number(name: str, slurm: str, default: str) -> int:
        return int(os.environ.get(f"JAXSOUND_{name}") or os.environ.get(slurm) or default)

    count = number("NUM_PROCESSES", "SLURM_NTASKS", "1")
    index = number("PROCESS_ID", "SLURM_PROCID", "0")
    return [fold for fold in folds if fold % count == index]


def side_by_side(directory: Path) -> bool | None:
    """How the folds of this directory were begun: in one program or not; None if none was."""
    begun = [path.parent.name for path in directory.glob("fold_*/checkpoints")]
    return any(name.count("_") > 1 for name in begun) if begun else None


def checkpoints(directory: Path, folds: list[int]) -> Path:
    """Where the checkpoints of one fold, or of several trained side by side, are."""
    return directory / ("fold_" + "_".join(map(str, folds))) / "checkpoints"


def about_checkpoint(
    config: ml_collections.ConfigDict, store: Store, folds: list[int], frames: int
) -> dict[str, Any]:
    """What inference needs beside the state, as JSON: config, class names, sizes, version.

    `features` are the frontend's columns, of which the network may see `config.data.crop_bins`;
    `frames` is the longest stretch of a clip that evaluation sees.
    """
    return {
        "config": json.loads(config.to_json()),
        "class_names": list(store.class_names),
        "features": int(store.frames.shape[1]),
        "frames": frames,
        "folds": folds,
        "jaxsound": __version__,
    }
