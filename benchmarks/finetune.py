"""Fine-tuning AST-base, random weights: one step on whole clips of 5.1 s (602 tokens).

    python benchmarks/finetune.py

Peers: transformers' AST in PyTorch, eager (goal on an accelerator: 1.2x) and compiled. Adam over
all 86 million parameters in float32, dropout and augmentation off. Beside the plain step stand
jaxsound's with `model.remat` and with LoRA (rank 8, the rest frozen). Notes below the table have
the peak memory of each process.
"""

import argparse
import functools
import importlib
import resource
import time
from collections.abc import Callable, Sequence

from harness import Contestant, Row, main, note

BATCH, CLASSES, RATE = 2, 50, 1e-5
FRAMES, BINS = 512, 128
Step = Callable[[], float]  # one step; returns its loss


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """Time of a step, and what memory costs less in."""
    ours = {
        "jaxsound": functools.partial(jaxsound_step, "", remat=False),
        "jaxsound, remat": functools.partial(jaxsound_step, "", remat=True),
        "jaxsound, LoRA": functools.partial(jaxsound_step, "lora", remat=False),
    }
    theirs = {
        "transformers eager": functools.partial(torch_step, compiled=False),
        "transformers compiled": functools.partial(torch_step, compiled=True),
    }
    contestants = [
        Contestant(name, functools.partial(_timed, name, prepare))
        for name, prepare in (ours | theirs).items()
    ]
    return [
        Row(
            area=f"fine-tuning AST-base, a step of {BATCH} clips",
            unit="s",
            contestants=contestants,
            goals=(0, 0, 0, 0),
            smaller=True,
            rounds=3,
        )
    ]


def _timed(name: str, prepare: Callable[[], Step]) -> Callable[[], float]:
    step = prepare()
    step()
    note(f"{name}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most")

    def run() -> float:
        began = time.perf_counter()
        step()
        return time.perf_counter() - began

    return run


def jaxsound_step(variant: str, *, remat: bool) -> Step:
    """The step of `configs/pretrained/ast_esc50.py` on one batch that is on the device."""
    import jax
    import jax.numpy as jnp

    from jaxsound.training import finetune, optim, sharding, state, step

    config = importlib.import_module("configs.pretrained.ast_esc50").get_config(variant)
    config.model.remat, config.model.dropout, config.model.drop_path = remat, 0.0, 0.0
    config.augment.time_masks = config.augment.freq_masks = 0
    network, params, stats = state.build_network(
        config.model, features=BINS, classes=CLASSES, frames=FRAMES, key=jax.random.key(0)
    )
    optimizer = optim.make_optimizer(config.optimizer, 100, 10)
    optimizer = finetune.adapted(optimizer, config.pretrained, 100)
    current = state.create_state(
        params,
        stats,
        optimizer,
        mean=jnp.zeros(BINS),
        std=jnp.ones(BINS),
        class_weight=jnp.ones(CLASSES),
        ema=False,
    )
    batch = {
        "features": jax.random.normal(jax.random.key(1), (BATCH, FRAMES, BINS)),
        "length": jnp.full(BATCH, FRAMES, jnp.int32),
        "label": jnp.arange(BATCH, dtype=jnp.int32),
    }
    placement = sharding.Placement(sharding.make_mesh(BATCH), stacked=False)
    train_step = placement.jit_train(step.make_train_step(network, optimizer, config, FRAMES))

    def run() -> float:
        nonlocal current
        current, metrics = train_step(current, batch, jax.random.key(2))
        return float(metrics["loss"])

    return run


def torch_step(*, compiled: bool) -> Step:
    """The same step in transformers and PyTorch."""
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    shape = ASTConfig(
        max_length=FRAMES,
        num_mel_bins=BINS,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ASTForAudioClassification(shape).train()
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    features, label = torch.randn(BATCH, FRAMES, BINS), torch.arange(BATCH)
    forward = torch.compile(model) if compiled else model

    def run() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(features).logits, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.item())

    return run


if __name__ == "__main__":
    main("finetune", __file__, rows)
