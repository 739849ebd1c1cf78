"""A data set and a writer of curves that cost nothing, for tests of the loop."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxsound.features.frontend import FrontendConfig
from jaxsound.features.store import Store
from jaxsound.training import progress
from jaxsound.training.writer import METRICS_FILE, JsonlWriter


def store(path: Path) -> Store:
    """60 clips of 3 classes, which differ in their means, in 3 folds."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 41, 60)
    labels = np.arange(60, dtype=np.int32) % 3
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    means = rng.normal(size=(3, 8))
    frames = rng.normal(size=(offsets[-1], 8)) * 5 - 40
    frames += np.repeat(means[labels] * 5, lengths, axis=0)
    return Store(
        path=path,
        frames=frames.astype(np.float16),
        offsets=offsets,
        labels=labels,
        folds=np.repeat(np.arange(1, 4, dtype=np.int32), 20),
        groups=np.array([f"source{i // 2}" for i in range(60)]),
        clip_ids=np.array([f"clip{i}" for i in range(60)]),
        class_names=("a", "b", "c"),
        frontend=FrontendConfig(n_mels=8),
        publisher_folds=False,
        meta={"left_out": [], "note": "", "citation": "", "licence": "", "homepage": ""},
    )


def make_writer(logdir: Path, *, resume_step: int | None = None, **_: Any) -> JsonlWriter:
    """Curves go to `metrics.jsonl` alone: TensorFlow takes seconds to import."""
    logdir.mkdir(parents=True, exist_ok=True)
    return JsonlWriter(logdir / METRICS_FILE, resume_step)


@contextlib.contextmanager
def lines_alone() -> Iterator[None]:
    """Runs in this process write their curves with `make_writer`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "make_writer", make_writer)
        yield
