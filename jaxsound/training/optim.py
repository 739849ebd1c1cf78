"""Optimiser and schedule from the `optimizer` section of the configuration."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

ONE_CYCLE_START = 25.0  # peak_lr over the first learning rate, as in PyTorch


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

    "adamw" decouples weight decay from the gradient (Loshchilov and Hutter, 2019); "adam" and
    "sgd", with Nesterov's momentum, add it to the clipped gradient, as PyTorch's do. Unlike
    there, no optimiser decays biases, scales and tokens.
    """
    rate = schedule(config, steps, steps_per_epoch)
    if config.name == "adamw":
        chain = [
            optax.adamw(
                rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=decays
            )
        ]
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
