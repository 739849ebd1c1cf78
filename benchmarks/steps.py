"""Training steps of the two frameworks, over the configurations of ESC-50: the same work twice.

A batch of 32 clips of 5 s; normalisation, forward, cross-entropy with smoothed labels, backward,
clipping by norm, AdamW. Dropout is on, augmentation off. What both sides must agree on comes from
the configuration and, for the number of parameters, from a file that jaxsound's side writes.
"""

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 50
BATCH = 32
Step = Callable[[int], float]  # so many steps; returns the last one's loss


def configure(network: str) -> Any:
    """The configuration of `configs/esc50_{network}.py` without augmentation.

    Args:
      network: "cnn" or "transformer".
    """
    config = importlib.import_module(f"configs.esc50_{network}").get_config()
    augment = config.augment
    augment.mixup = augment.gain_db = 0.0
    augment.time_masks = augment.freq_masks = 0
    augment.time_roll = False
    config.batch_size = BATCH
    config.data.validation = 0.0
    return config


def synthetic_store(config: Any, clips: int = 400) -> Any:
    """A feature store in memory: noise of 5 s each, five folds."""
    from jaxsound.config import frontend_config
    from jaxsound.features.store import Store

    frontend = frontend_config(config)
    length = frontend.frames(round(config.data.pad_seconds * frontend.sample_rate))
    rng = np.random.default_rng(0)
    frames = rng.normal(-40, 15, (clips * length, frontend.features)).astype(np.float16)
    return Store(
        path=Path(tempfile.gettempdir()),
        frames=frames,
        offsets=np.arange(clips + 1) * length,
        labels=(np.arange(clips) % CLASSES).astype(np.int32),
        folds=(np.arange(clips) % 5 + 1).astype(np.int32),
        groups=np.arange(clips).astype(str),
        clip_ids=np.arange(clips).astype(str),
        class_names=tuple(map(str, range(CLASSES))),
        frontend=frontend,
        publisher_folds=False,
        meta={"left_out": [], "note": "", "citation": "", "licence": "", "homepage": ""},
    )


def experiment(config: Any) -> Any:
    """jaxsound's own experiment over a synthetic store; compiled at the first step."""
    from jaxsound.data import folds
    from jaxsound.experiment import make_experiment

    store = synthetic_store(config)
    split = folds.split(store, 1, validation=0.0, seed=0)
    return make_experiment(config, store, {1: split}, stacked=False)


def jaxsound_step(network: str, counts: Path) -> Step:
    """jaxsound's step on one fixed batch that is on the device.

    Args:
      network: "cnn" or "transformer".
      counts: where the number of parameters is written for the peers.
    """
    import jax

    from jaxsound.experiment import initial_state, train_iterator
    from jaxsound.training import state

    config = configure(network)
    config.data.feed = "stream"
    made = experiment(config)
    current = made.placement.stack([initial_state(made, 1)])
    key = made.placement.stack([state.stream_key(0, "train", 1)])
    iterator = train_iterator(made, 1)
    batch = made.feed.place([next(iterator)])
    iterator.close()
    counts.write_text(str(sum(leaf.size for leaf in jax.tree.leaves(current.params))))

    def steps(count: int) -> float:
        nonlocal current
        for _ in range(count):
            current, measures = made.train_step(current, batch, key)
        return float(measures["loss"])

    return steps


def torch_step(network: str, counts: Path, *, compiled: bool) -> Step:
    """The same step in PyTorch, eager or compiled; refuses a network of another size."""
    import torch
    import torch_peers

    config = configure(network)
    bins = config.frontend.n_mels
    frames = 1 + round(5 * config.frontend.sample_rate) // config.frontend.hop_length
    model = torch_peers.build(config.model, frames, bins, CLASSES)
    if torch_peers.parameters(model) != int(counts.read_text()):
        raise SystemExit(f"{torch_peers.parameters(model)} parameters, not {counts.read_text()}")
    optimizer = torch_peers.adamw(model, 1e-3, config.optimizer.weight_decay)
    features = torch.randn(BATCH, frames, bins) * 15 - 40
    label = torch.arange(BATCH) % CLASSES
    mean, std = torch.full((bins,), -40.0), torch.full((bins,), 15.0)
    forward = torch.compile(model) if compiled else model

    def steps(count: int) -> float:
        for _ in range(count):
            optimizer.zero_grad()
            logits = forward((features - mean) / std)
            loss = torch.nn.functional.cross_entropy(
                logits, label, label_smoothing=config.loss.label_smoothing
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
            optimizer.step()
        return loss.item()

    return steps
