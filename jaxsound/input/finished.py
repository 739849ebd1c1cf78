"""Finished runs, opened again: each fold's model, and the clips that it has not seen."""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
import numpy as np

from jaxsound.data.folds import Split
from jaxsound.data.folds import split as split_of
from jaxsound.errors import UserError
from jaxsound.features.store import Store
from jaxsound.input.stores import prepare_store
from jaxsound.job import workdir
from jaxsound.training.restore import Trained, config_of, restore


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run whose folds, or some of them, have come to their end."""

    directory: Path
    config: ml_collections.ConfigDict
    store: Store  # of the very clips that the run was trained and tested on
    folds: tuple[int, ...]  # those that are done

    def split(self, fold: int) -> Split:
        """What the fold was trained, validated and tested on."""
        share, seed = self.config.data.validation, self.config.seed
        return split_of(self.store, fold, validation=share, seed=seed)

    def model(self, fold: int) -> Trained:
        """The fold's own model, which was not trained on that fold's test clips.

        Raises:
          UserError: its checkpoint is missing, damaged, or of another fold or other classes.
        """
        place = self.directory / f"fold_{fold}"
        model = restore(place)
        if model.folds != (fold,) or model.class_names != self.store.class_names:
            raise UserError(f"{place}: the checkpoint is of another fold or of other classes")
        return model


def open_run(directory: Path, changes: Mapping[str, str] | None = None) -> Finished:
    """Opens a run's directory, and prepares its data where that is not at hand.

    Args:
      directory: the run's.
      changes: where its data is now, of `data.manual_dir` and `data.cache_dir`.

    Raises:
      UserError: there is no run, or no fold of it is done, or its data has changed.
    """
    path = directory / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        config, clips = config_of(record["config"]), record["clips"]
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is missing, so {directory} is no run's directory") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not whole or not of a run ({error})") from None
    config.update_from_flattened_dict(dict(changes or {}))
    if config.task != "classification":
        raise UserError(f"{directory} is a run with task={config.task!r}, which has no classes")
    done = sorted(int(p.stem.removeprefix("fold_")) for p in directory.glob("fold_*.json"))
    if not done:
        raise UserError(f"{directory}: no fold of this run is done; run it to its end")
    store = prepare_store(config)
    if workdir.digest_of_clips(store) != clips:
        raise UserError(
            f"{directory} was run on other clips, labels or folds than the data has now; name "
            "those it was run on with --config.data.manual_dir=DIR"
        )
    return Finished(directory, config, store, tuple(done))


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
    """The parser's options, and what `open_run` takes as `changes`."""
    options, rest = parser.parse_known_args(argv)
    changes = {}
    for argument in rest:
        key, equals, value = argument.removeprefix("--config.").partition("=")
        if not equals or key not in workdir.OF_A_HOST or not argument.startswith("--config."):
            known = " and ".join(f"--config.{key}=..." for key in sorted(workdir.OF_A_HOST))
            parser.error(f"{argument} is not understood; of the run's configuration, {known}")
        changes[key] = value
    return options, changes


def frames_of(store: Store, clips: np.ndarray) -> list[np.ndarray]:
    """The stored frames of these clips, `[t, M]` each."""
    return [store.frames[store.offsets[clip] : store.offsets[clip + 1]] for clip in clips]


def logits(model: Trained, clips: Sequence[np.ndarray]) -> np.ndarray:
    """What a model says of clips, cut as evaluation cuts them, in batches as its run had them.

    Args:
      model: the network and its weights.
      clips: frames `[t, M]` each, N of them.

    Returns:
      `[N, C]` float32.
    """
    size = model.config.batch_size
    rows = [np.zeros((0, len(model.class_names)), np.float32)]
    for first in range(0, len(clips), size):
        part = clips[first : first + size]
        filled = [part[i % len(part)] for i in range(size)]  # one shape: compiled once
        rows.append(np.asarray(model.logits(*model.batch(filled)))[: len(part)])
    return np.concatenate(rows)
