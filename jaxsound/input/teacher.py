"""Same-fold distillation: fold k of a run is taught by fold k of a run that has finished.

The teacher of a fold was not trained on that fold's test clips either, so nothing of them comes to
its pupil (Hinton et al. 2015, "Distilling the knowledge in a neural network"). The teacher's word
on a whole training clip is mixed with its label once, before training, and goes through
augmentation as labels do; teacher and pupil may hear different frontends.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from jaxsound.config import follows_validation
from jaxsound.data.folds import Split
from jaxsound.errors import UserError
from jaxsound.features.store import Store
from jaxsound.input import finished


def soft_targets(
    config: Any, store: Store, splits: Mapping[int, Split]
) -> dict[int, np.ndarray] | None:
    """What each fold's training clips are to be taken for.

    Args:
      config: the whole configuration; its `distill` section is read.
      store: the pupil's, of N clips and C classes.
      splits: by fold.

    Returns:
      By fold `[N, C]` float32: the labels, and of the fold's training clips so much of the
      teacher's probabilities as `distill.share` says. None without a teacher.

    Raises:
      UserError: there is no such run, it has not finished a fold, or its data, folds or classes
        are others; or validation clips that training follows have trained the teacher.
    """
    if not config.distill.run:
        return None
    place = Path(config.distill.run)
    data = {f"data.{key}": config.data[key] for key in ("manual_dir", "cache_dir")}
    run = finished.open_run(place, data)
    for name in ("clip_ids", "labels", "folds", "groups", "class_names"):
        if not np.array_equal(getattr(run.store, name), getattr(store, name)):
            raise _refusal(place, f"has other {name.replace('_', ' ')} than this run")
    return {fold: _of_fold(config, run, fold, split) for fold, split in splits.items()}


def _of_fold(config: Any, run: finished.Finished, fold: int, split: Split) -> np.ndarray:
    if fold not in run.folds:
        raise _refusal(run.directory, f"has not finished fold {fold}")
    known = run.split(fold)
    learnt = np.concatenate([known.train, known.validation])
    if np.isin(split.test, learnt).any():
        raise _refusal(run.directory, f"was trained on test clips of fold {fold}")
    if follows_validation(config) and np.isin(split.validation, known.train).any():
        why = f"was trained on validation clips of fold {fold}, which this run is to follow"
        raise _refusal(run.directory, f"{why}; give both the same seed and data.validation")
    said = finished.logits(run.model(fold), finished.frames_of(run.store, split.train))
    share = config.distill.share
    targets = np.eye(len(run.store.class_names), dtype=np.float32)[run.store.labels]
    softened = special.softmax(said / config.distill.temperature, axis=1)
    targets[split.train] = (1 - share) * targets[split.train] + share * softened
    return targets


def _refusal(place: Path, why: str) -> UserError:
    return UserError(f"config.distill.run={str(place)!r}: {why}")
