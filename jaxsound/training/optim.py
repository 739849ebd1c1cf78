"""Optimiser and schedule from the `optimizer` section of the configuration."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from jaxsound.training import finetune

ONE_CYCLE_START = 25.0  # peak_lr over the first learning rate, as in PyTorch
MUON_RMS = 0.2  # of an update before the learning rate, like AdamW's (Liu et al., 2025)


def schedule(config: Any, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the number of updates done, from 0 to `steps - 1`.

    All but "one_cycle" rise linearly from 0 to `peak_lr` over the first `warmup_fraction` of the
    steps. Then "cosine" falls to `final_fraction` of the peak (Loshchilov and Hutter, 2017), and
    "constant" stays; "plateau" stays as well, times the scale that `selection.py` finds. "step"
    is multiplied by `factor` every `step_epochs` epochs, counted from the first one. "one_cycle"
    (Smith, 2018) rises by a cosine from 1/25 of the peak over `warmup_fraction` of the steps and
    falls by one to `final_fraction` of the peak at the last update; momentum does not cycle.
    """
    peak, name = config.peak_lr, config.schedule
    warmup = min(round(steps * config.warmup_fraction), steps - 1)
    if name == "one_cycle":
        last = config.final_fraction
        return optax.cosine_onecycle_schedule(
            max(steps - 1, 1),
            peak,
            pct_start=config.warmup_fraction,
            div_factor=ONE_CYCLE_START,
            final_div_factor=1 / (ONE_CYCLE_START * last) if last else math.inf,
        )
    if name == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0 if warmup else peak,
            peak_value=peak,
            warmup_steps=warmup,
            decay_steps=max(steps, 1),
            end_value=peak * config.final_fraction,
        )

    def rate(done: Any) -> Any:
        warm = jnp.minimum(done / warmup, 1.0) if warmup else 1.0
        drops = done // (config.step_epochs * steps_per_epoch) if name == "step" else 0
        return peak * warm * config.factor**drops

    return rate


def decays(params: Any) -> Any:
    """Which parameters weight decay touches: matrices and kernels, not biases, scales or tokens."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(config: Any, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optimiser for `steps` updates, with clipping by global norm.

    "adamw" decouples weight decay from the gradient (Loshchilov and Hutter, 2019), and so do "lion"
    (Chen et al., 2023), which wants a third to a tenth of its learning rate, as many times its
    decay, and 0.99 for `b2`, and "muon" (see `muon`); "adam" and "sgd", with Nesterov's momentum,
    add it to the clipped gradient, as PyTorch's do. Unlike there, no optimiser decays biases,
    scales and tokens.
    """
    rate = schedule(config, steps, steps_per_epoch)
    if config.name == "adamw":
        chain = [
            optax.adamw(
                rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=decays
            )
        ]
    elif config.name == "lion":
        decay = config.weight_decay
        chain = [optax.lion(rate, b1=config.b1, b2=config.b2, weight_decay=decay, mask=decays)]
    elif config.name == "muon":
        chain = [muon(config, rate)]
    else:
        inner = (
            optax.adam(rate, b1=config.b1, b2=config.b2)
            if config.name == "adam"
            else optax.sgd(rate, momentum=config.momentum, nesterov=True)
        )
        chain = [optax.add_decayed_weights(config.weight_decay, mask=decays), inner]
    if config.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(config.clip_norm))
    return chain[0] if len(chain) == 1 else optax.chain(*chain)


def orthogonalised(params: Any) -> Any:
    """Which parameters Muon takes: a tree of bool.

    Kernels of more than one input, except the classifier's, as its author advises: a first
    convolution, depthwise ones, tables of positions and all vectors are left to AdamW.
    """
    leaves, tree = jax.tree.flatten(params)
    taken = [
        name.endswith("kernel") and not name.startswith("head") and leaf.shape[-2] > 1
        for name, leaf in zip(finetune.names(params), leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, taken)


def muon(config: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    """Muon (Jordan et al., 2024) for matrices and kernels, AdamW for the rest.

    A kernel is a matrix of all that meets an output, and the outputs. Updates are scaled to the
    size of AdamW's (Liu et al., 2025), so that learning rate and decay mean the same for both.

    Args:
      config: the `optimizer` section: `momentum` is Muon's, `b1` and `b2` are AdamW's.
      rate: the learning rate.
    """

    def matrices(updates: Any) -> Any:
        return jax.tree.map(
            lambda x: contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1), updates
        )

    def sized(updates: Any, _: Any) -> Any:
        return jax.tree.map(
            lambda x: x * MUON_RMS * math.sqrt(max(x.size // x.shape[-1], x.shape[-1])), updates
        )

    decay = config.weight_decay
    orthogonal = optax.chain(
        contrib.scale_by_muon(beta=config.momentum, weight_dimension_numbers=matrices),
        optax.stateless(sized),
        optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(rate),
    )
    rest = optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=decay, mask=decays)

    def labels(params: Any) -> Any:
        return jax.tree.map(lambda m: "muon" if m else "adamw", orthogonalised(params))

    return optax.partition({"muon": orthogonal, "adamw": rest}, labels)
