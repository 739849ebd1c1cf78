"""Weights that a run of ours has left, for another run to begin with.

They are read from its checkpoints, by their paths in the network; the classifier, or what a network
that reconstructs has in its place, stays behind.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsound.errors import UserError
from jaxsound.pretrained.entries import Entry, Layout
from jaxsound.pretrained.entries import Path as Names
from jaxsound.training.restore import restore

ALL = 0  # the fold that stands for every one
_LEFT = ("head", "head_norm", "hidden", "score")  # of the classifier
# What need not be the same there: it changes nothing that was learnt, or shapes tell.
_FREE = frozenset(
    (
        *("pool", "hidden", "dropout", "drop_path", "drop_tokens", "drop_times", "drop_bins"),
        *("layer_scale", "zero_init_residual", "attention", "dtype", "remat"),
        *("lora_rank", "lora_alpha"),
    )
)


def folds(where: str) -> dict[int, Path]:
    """The folds of a run's directory, or of a fold's own `ALL`; {} where it is neither."""
    path = Path(where).expanduser()
    if (path / "checkpoints").is_dir():
        return {ALL: path}
    found = {p.parent.name.removeprefix("fold_"): p.parent for p in path.glob("fold_*/checkpoints")}
    return {int(name): found[name] for name in sorted(found) if name.isdecimal()}


def read(fold: Path) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """SHA-256, tensors by their paths, and the `model` and `frontend` sections, of one fold.

    They are the weights that the run tested.

    Raises:
      UserError: as `restore`.
    """
    trained = restore(fold, classifies=False)
    tensors = {
        ".".join(map(str, path)): np.asarray(leaf)
        for tree in (trained.params, trained.stats)
        for path, leaf in _flat(tree)
        if path[0] not in _LEFT
    }
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    model, frontend = (trained.config[key].to_dict() for key in ("model", "frontend"))
    return digest.hexdigest(), tensors, {**model, "frontend": frontend}


def layout(config: Any, paths: Iterable[Names]) -> Layout:
    """Our own names, for a network with parameters and statistics at these `paths`.

    Args:
      config: the `model` section of the configuration.
      paths: such as `("blocks", 0, "norm_1", "scale")`.
    """
    entries = tuple(
        Entry(path, (".".join(map(str, path)),)) for path in paths if path[0] not in _LEFT
    )
    fields = {key: key for key in config if key not in _FREE}
    return Layout("a run of jaxsound's", "", entries, fields=fields)


def check(config: Any, about: Mapping[str, Any], clips: str, wanted: Iterable[int]) -> None:
    """Checks that a run's weights hear what this one hears, and have not heard its test clips.

    Args:
      config: the whole configuration.
      about: what `read` tells of one of its folds.
      clips: the digest of this run's clips (`workdir.digest_of_clips`).
      wanted: the folds that this run tests on.

    Raises:
      UserError: another frontend, a fold that the run has not, or one that is not this run's own
        of the same clips.
    """
    where = config.pretrained.weights
    for key, there in about["frontend"].items():
        here = config.frontend[key]
        if key != "dtype" and here != there:
            raise UserError(f"config.frontend.{key}={here!r}: it was {there!r} in {where}")
    found = folds(where)
    for fold in wanted:
        if fold not in found and ALL not in found:
            first = next(iter(found.values()))
            raise UserError(
                f"config.pretrained.weights={where!r}: it has no fold {fold}; {str(first)!r} is "
                "one that all folds can begin with, if it was trained on other clips"
            )
    if ALL not in found or _clips(found[ALL].parent) != clips:
        return
    number = found[ALL].resolve().name.removeprefix("fold_")
    for fold in wanted:
        if str(fold) != number:
            raise UserError(
                f"config.pretrained.weights={where!r}: trained on test clips of fold {fold}; "
                f"name {str(found[ALL].parent)!r}, whose fold k was not trained on fold k's"
            )


def _clips(directory: Path) -> str:
    try:
        return str(json.loads((directory / "config.json").read_bytes())["clips"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _flat(tree: Any) -> Iterable[tuple[Names, Any]]:
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names: list[Any] = [
            getattr(k, "key", getattr(k, "idx", getattr(k, "name", None))) for k in keys
        ]
        yield tuple(names[:-1] if names[-1] == "value" else names), leaf
