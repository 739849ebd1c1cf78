"""What both sides of accelerator.py share: sizes, configurations, clips and their order.

Only numpy and `jaxsound.keys` are imported, so that neither framework is loaded for the other.
"""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured. Shapes: T frames of M features, B clips to a batch."""

    dtype: str  # of the arithmetic; parameters are float32
    steps: int  # of a timed run
    wide: dict[str, int]  # the transformer of row 1
    wide_batch: int
    image: tuple[int, int]  # T and M of the ResNet's input
    image_batch: int
    audio: tuple[int, int]  # clips and samples of a batch of waveforms
    clips: int
    classes: int
    frames: int
    bins: int
    batch: int
    small: dict[str, dict[str, Any]]  # what replaces the presets' values
    folds: int = 5


FULL = Size(
    dtype="bfloat16",
    steps=20,
    wide={"tokens": 256, "width": 384, "depth": 12, "heads": 6},
    wide_batch=256,
    image=(500, 128),
    image_batch=128,
    audio=(256, 160_000),
    clips=2000,
    classes=50,
    frames=250,
    bins=64,
    batch=32,
    small={"cnn": {}, "transformer": {}},
)
SMALL = Size(
    dtype="bfloat16",
    steps=2,
    wide={"tokens": 32, "width": 64, "depth": 2, "heads": 2},
    wide_batch=4,
    image=(32, 16),
    image_batch=2,
    audio=(4, 32_000),
    clips=100,
    classes=5,
    frames=32,
    bins=16,
    batch=8,
    small={
        "cnn": {"model.channels": (8, 16), "epochs": 4},
        "transformer": {
            "model.stem_channels": (4, 8),
            "model.width": 32,
            "model.depth": 2,
            "model.heads": 2,
            "epochs": 4,
        },
    },
)

_AUGMENTED = {
    "batch_size": 32,
    "loss.label_smoothing": 0.1,
    "augment.mixup": 0.3,
    "augment.time_roll": True,
    "augment.gain_db": 6.0,
    "augment.time_masks": 2,
    "augment.time_mask_share": 0.15,
    "augment.freq_masks": 2,
    "augment.freq_mask_share": 0.15,
}
PRESETS: dict[str, dict[str, Any]] = {  # those of configs/esc50_cnn.py and esc50_transformer.py
    "cnn": _AUGMENTED
    | {
        "epochs": 100,
        "model.channels": (24, 48, 96, 192),
        "model.convs": 1,
        "model.stem_kernel": 5,
        "model.stem_stride": 2,
        "model.dropout": 0.3,
        "optimizer.peak_lr": 2e-3,
        "optimizer.weight_decay": 0.1,
    },
    "transformer": _AUGMENTED
    | {
        "epochs": 80,
        "model.stem_channels": (24, 48, 96),
        "model.width": 128,
        "model.depth": 3,
        "model.heads": 4,
        "model.drop_path": 0.1,
        "optimizer.peak_lr": 1e-3,
        "optimizer.weight_decay": 0.05,
    },
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker's task is given.

    Attributes:
      options: the task's own.
      size: FULL or SMALL.
      store: folder of the feature store.
    """

    options: dict[str, Any]
    size: Size
    store: Path


def configure(model: str, changes: dict[str, Any]) -> SimpleNamespace:
    """A configuration that the core can read: every key at its default but for `changes`.

    Args:
      model: of `jaxsound.keys.MODELS`.
      changes: dotted key -> value.
    """
    from jaxsound import keys  # only workers have the package on their path

    tables = keys.SECTIONS | {"model": keys.MODELS[model] | keys.MODEL_COMMON}
    config = SimpleNamespace(**{name: key.default for name, key in keys.TOP.items()})
    for section, table in tables.items():
        values = {name: key.default for name, key in table.items()}
        setattr(config, section, SimpleNamespace(**values))
    config.model.name = model
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        holder = getattr(config, section) if section else config
        if not hasattr(holder, key):
            raise ValueError(f"{name}: jaxsound has no such configuration key")
        setattr(holder, key, value)
    return config


def preset(model: str, size: Size) -> SimpleNamespace:
    """The small network and recipe of rows 4 to 6."""
    changes = PRESETS[model] | size.small[model]
    return configure(model, changes | {"model.dtype": size.dtype, "batch_size": size.batch})


def large(model: str, size: Size) -> tuple[SimpleNamespace, tuple[int, int, int]]:
    """The network of row 1 or 2, and B, T and M of its input."""
    if model == "resnet":
        config = configure("resnet", {"model.dtype": size.dtype})
        if hasattr(config.model, "width"):
            config.model.width = 32
        return config, (size.image_batch, *size.image)
    shape = {f"model.{key}": value for key, value in size.wide.items() if key != "tokens"}
    changes = {"model.stem": "frames", "model.dropout": 0.0, "model.dtype": size.dtype}
    config = configure("transformer", changes | shape)
    frames = size.wide["tokens"] * config.model.stem_frames
    return config, (size.wide_batch, frames, 64)


def transformer_flops(model: Any, frames: int, bins: int) -> float:
    """Operations of a training step on one clip: products of matrices alone, backward twice.

    Args:
      model: a `model` section with stem="frames".
      frames: T. bins: M.
    """
    tokens = -(-frames // model.stem_frames)
    width, hidden = model.width, int(model.width * model.mlp_ratio)
    dense = bins * model.stem_frames * width + model.depth * (4 * width**2 + 2 * width * hidden)
    attention = model.depth * 2 * tokens * width
    return 3 * 2 * tokens * (dense + attention)


@dataclasses.dataclass(frozen=True)
class Clips:
    """A feature store's arrays: all clips' frames one after another."""

    frames: np.ndarray  # [sum of lengths, M]
    offsets: np.ndarray  # [N + 1]
    labels: np.ndarray  # [N]
    folds: np.ndarray  # [N]

    @property
    def longest(self) -> int:
        return int(np.diff(self.offsets).max())

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def tested(self) -> list[int]:
        """The folds; those of fold 0 only ever train."""
        return sorted(set(self.folds.tolist()) - {0})


def read(store: Path) -> Clips:
    """Reads frames.npy, offsets.npy, labels.npy and folds.npy."""
    names = [field.name for field in dataclasses.fields(Clips)]
    return Clips(*(np.load(store / f"{name}.npy", allow_pickle=False) for name in names))


def write_synthetic(store: Path, size: Size) -> None:
    """A store of noise in which every class has a spectrum of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(size.clips, dtype=np.int32) % size.classes
    # By blocks of classes: every fold has every class.
    folds = 1 + (np.arange(size.clips, dtype=np.int32) // size.classes) % size.folds
    frames = rng.standard_normal((size.clips, size.frames, size.bins), np.float32) * 10 - 40
    frames += 4 * rng.standard_normal((size.classes, 1, size.bins), np.float32)[labels]
    store.mkdir(parents=True, exist_ok=True)
    np.save(store / "frames.npy", frames.reshape(-1, size.bins).astype(np.float16))
    np.save(store / "offsets.npy", np.arange(size.clips + 1) * size.frames)
    np.save(store / "labels.npy", labels)
    np.save(store / "folds.npy", folds)


def normalisation(clips: Clips, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[M]` over these clips' frames."""
    own = np.zeros(len(clips.labels), bool)
    own[train] = True
    frames = clips.frames[np.repeat(own, np.diff(clips.offsets))].astype(np.float32)
    return frames.mean(0), np.maximum(frames.std(0), 1e-4)


def steps_per_epoch(clips: Clips, batch: int) -> int:
    """The same for every fold, as jaxsound has it."""
    return max(1, round(max(sum(clips.folds != fold) for fold in clips.tested) / batch))


def epoch(clips: Clips, fold: int, batch: int, number: int) -> Arrays:
    """Index batches of one epoch of a fold: arrays `[S, B]` in the form of resident feeding."""
    train = np.flatnonzero(clips.folds != fold)
    order = np.random.default_rng((fold, number)).permutation(train)
    return index(clips, np.resize(order, (steps_per_epoch(clips, batch), batch)))


def index(clips: Clips, chosen: np.ndarray) -> Arrays:
    """The rows where clips begin, their lengths and labels, in the shape of `chosen`."""
    return {
        "row": clips.offsets[chosen].astype(np.int32),
        "length": np.diff(clips.offsets)[chosen].astype(np.int32),
        "label": clips.labels[chosen].astype(np.int32),
        "mask": np.ones(chosen.shape, bool),
    }
