"""What a run directory holds, and which run it belongs to."""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from clu.asynclib import AsyncError

from jaxsound import __version__
from jaxsound.config import follows_validation
from jaxsound.data.folds import ONLY_TRAINS
from jaxsound.errors import UserError
from jaxsound.features.frontend import FrontendConfig
from jaxsound.features.store import Store
from jaxsound.keys import MODEL_COMMON, MODELS, SECTIONS, TOP

# Changing these between two starts changes neither the numbers nor what the directory means.
HARMLESS = frozenset(
    {
        "folds",
        "nonfinite",
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


OF_A_HOST = frozenset({"data.manual_dir", "data.cache_dir"})

# By these schedules a step's learning rate does not depend on how many steps there are.
OPEN_ENDED = frozenset({"constant", "step", "plateau"})


def check(directory: Path, config: ml_collections.ConfigDict) -> None:
    """Checks that a run in this directory is of the same experiment; says what else has changed.

    Keys that the run's version did not have yet are at their defaults. Epochs may be added where
    the schedule allows it: the run then goes on as one that had them from the start.

    Raises:
      UserError: with the keys that differ.
    """
    old = _record(directory)
    if old is None:
        return
    now = flat(json.loads(config.to_json()))
    before = {key: _default(key, now["model.name"]) for key in now} | flat(old["config"])
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    # Where training follows the validation split, how often it looks matters.
    harmless = HARMLESS - {"eval_every"} if follows_validation(config) else HARMLESS
    if "epochs" in changed and not (why := _not_extended(before["epochs"], config)):
        harmless = harmless | {"epochs"}
    told = {
        key: f"config.{key}={before.get(key)!r} there and {now.get(key)!r} now" for key in changed
    }
    if wrong := [told[key] for key in changed if key not in harmless]:
        reason = f"; {why}" if "epochs" in changed and "epochs" not in harmless else ""
        raise UserError(
            f"{directory} holds another run ({'; '.join(wrong)}{reason}); name another --workdir"
        )
    if old.get("code", code := _code()) != code:
        told["code"] = "jaxsound's own files are others; from here on numbers may differ"
    if told and jax.process_index() == 0:
        print(f"{directory} goes on: {'; '.join(told.values())}", file=sys.stderr)


def _default(key: str, model: str) -> Any:
    """Of a key that a record lacks, as JSON has it."""
    section, _, name = key.rpartition(".")
    if section == "frontend":
        return getattr(FrontendConfig, name, None)
    keys = MODELS[model] | MODEL_COMMON if section == "model" else SECTIONS.get(section, TOP)
    value = keys[name].default if name in keys else None
    return list(value) if isinstance(value, tuple) else value


def _not_extended(before: int, config: ml_collections.ConfigDict) -> str:
    """Why a run of so many epochs cannot go on to those that the config has; '' if it can."""
    schedule = config.optimizer.schedule
    if config.epochs < before:
        return "epochs can be added and not taken away"
    if schedule not in OPEN_ENDED:
        return f"optimizer.schedule={schedule!r} lays its learning rates over all epochs"
    if config.optimizer.warmup_fraction:
        return "optimizer.warmup_fraction is a share of all epochs"
    if follows_validation(config) and before % config.eval_every:
        return f"validation was looked at after {before} epochs, which eval_every does not divide"
    return ""


def _code() -> str:
    """SHA-256 of the modules whose change can change a run's numbers."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for room in ("features", "input", "models", "training"):
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def lock(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps other runs out of a directory; the lock goes with this process, however it ends.

    Of a job's processes the first has it for all. On network filesystems it holds between hosts as
    far as their `flock` does (NFS 4 and Lustre mounted with `flock`, not with `localflock`).

    Args:
      directory: made if it is not there.
      shared: others may share it, such as the processes that train folds of their own.

    Raises:
      UserError: another process has it.
    """
    if jax.process_index() != 0:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{directory} is in use by another run; wait for it, or name another --workdir"
            ) from None
        except OSError as error:
            why = f"{directory}: no locks on this filesystem ({error.strerror})"
            print(f"{why}; let no two runs write there", file=sys.stderr)
        yield


@contextlib.contextmanager
def storage(directory: Path) -> Iterator[None]:
    """Turns what goes wrong with the files of a run into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ and not isinstance(cause, OSError):
            cause = cause.__cause__
        if not isinstance(cause, OSError) and not isinstance(error, AsyncError):
            raise
        why = " ".join(str(cause).split())[:200]  # TensorFlow's writer has errors of its own
        if isinstance(cause, OSError) and cause.strerror:
            why = cause.strerror + (f" ({cause.filename})" if cause.filename else "")
        raise UserError(
            f"--workdir={directory}: {why}; what was saved before is kept, and the same command "
            "goes on from there"
        ) from error


def finished(directory: Path, config: ml_collections.ConfigDict) -> dict[str, Any] | None:
    """The result of a run that was finished before, with all folds that the config asks for."""
    path = directory / "crossval.json"
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None  # it is made again of the folds' results
    wanted = set(config.folds) or set(result["folds_available"])
    done = {fold["fold"] for fold in result["folds"]}
    complete = wanted <= done and not unfinished(directory, wanted)
    return result if complete and not extended(directory, config) else None


def weights_of_finished(directory: Path, config: ml_collections.ConfigDict) -> str:
    """The SHA-256 of the published weights, of the config's name, that a finished run began with.

    It is '' where the run is not finished, or began with none or with those of another name.
    """
    if not finished(directory, config) or (record := _record(directory)) is None:
        return ""
    began = record["config"].get("pretrained", {})
    return str(began["sha256"]) if began.get("weights") == config.pretrained.weights else ""


def extended(directory: Path, config: ml_collections.ConfigDict) -> bool:
    """Whether the config has more epochs than the run has had so far."""
    old = _record(directory)
    return old is not None and bool(flat(old["config"])["epochs"] < config.epochs)


def claim(directory: Path, config: ml_collections.ConfigDict, store: Store) -> None:
    """Makes the directory and writes `config.json`, or finds that it was begun with this data.

    Raises:
      UserError: the directory cannot be written, or belongs to a run on other clips.
    """
    clips = digest_of_clips(store)
    old = _record(directory)
    if old is not None and old["clips"] != clips:
        raise UserError(
            f"{directory} holds a run on other clips, labels or folds than the data has now; "
            "name another --workdir"
        )
    more = extended(directory, config)
    if jax.process_index() != 0 or (old is not None and not more):
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if old is not None:
            _reopen(directory, old["config"]["epochs"])
        temporary = directory / f"config.{os.getpid()}.tmp"
        record = {
            "config": json.loads(config.to_json()),
            "clips": clips,
            "code": _code(),
            "data": about_data(store),
        }
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(directory / "config.json")
    except OSError as error:
        raise UserError(f"--workdir={directory}: {error.strerror}") from None


def about_data(store: Store) -> dict[str, Any]:
    """What a result says of its data set, as JSON."""
    return {
        "folds_available": available_folds(store),
        "publisher_folds": store.publisher_folds,
        "clips_left_out": store.meta["left_out"],
        **{key: store.meta[key] for key in ("note", "citation", "licence", "homepage")},
    }


def available_folds(store: Store) -> list[int]:
    """The folds that can be tested on."""
    return sorted(set(store.folds.tolist()) - {ONLY_TRAINS})


def _reopen(directory: Path, epochs: int) -> None:
    """Puts the results of fewer epochs beside, so that their folds count as unfinished."""
    for path in [*directory.glob("fold_*.json"), directory / "crossval.json"]:
        if path.exists():
            path.rename(path.with_suffix(f".{epochs}_epochs"))


def _record(directory: Path) -> dict[str, Any] | None:
    path = directory / "config.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        return record if {"config", "clips"} <= record.keys() else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def shared_config(config: ml_collections.ConfigDict) -> str:
    """What all processes of a job must have alike: all but where a host keeps its files."""
    keys = flat(json.loads(config.to_json()))
    return json.dumps({k: v for k, v in keys.items() if k not in OF_A_HOST}, sort_keys=True)


def digest_of_clips(store: Store) -> str:
    """SHA-256 of ids, labels, folds and lengths."""
    digest = hashlib.sha256()
    for column in (store.clip_ids, store.labels, store.folds, store.offsets):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


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
