"""The two compiled functions: one training step, and logits or errors for evaluation.

A batch is `{features [B, T, M], length [B], label [B] or [B, C], mask [B]}`; with augmented copies
also `plain [B]`, True for the examples that are not augmented. In resident mode
`features` is replaced by `frames [N, M]`, all frames of the data set on the device, and
`row [B]`, where each clip's crop begins; `gather` makes the first form of the second. Where
training hears sound, `hearing.py` makes features of a batch of samples.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxsound.training import losses
from jaxsound.training.augment import augment, crop_bins
from jaxsound.training.objectives import Loss, make_loss, masked, weighs_clips
from jaxsound.training.state import Batch, Metrics, Network, TrainState

Array = jax.Array


def gather(batch: Batch, frames: int) -> Array:
    """Features `[B, frames, M]` float32 of a batch in either form, before normalisation."""
    if "features" in batch:
        return batch["features"].astype(jnp.float32)
    rows = batch["row"][:, None] + jnp.arange(frames)
    return jnp.take(batch["frames"], rows, axis=0, mode="clip").astype(jnp.float32)


def normalise(features: Array, length: Array, mean: Array, std: Array) -> Array:
    """`(features - mean) / std`, zero past `length`."""
    valid = jnp.arange(features.shape[1])[None, :] < length[:, None]
    return jnp.where(valid[..., None], (features - mean) / std, 0)


def make_train_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    config: Any,
    frames: int,
    hear: Callable[..., tuple[Array, Array, Array]] | None = None,
    mixing_steps: int | None = None,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]:
    """A pure `(state, batch, key) -> (state, metrics)`, not yet jitted.

    The key is the fold's own and the same at every step: `state.step` is folded into it.

    Args:
      network: the model's static half.
      optimizer: what `state.opt_state` belongs to.
      config: the whole configuration (`task` and its section, `optimizer`, `loss`, `augment`,
        `pretrained` and `nonfinite` are read).
      frames: T of a training batch.
      hear: makes features, their lengths and labels of a batch of samples; None where batches
        hold features.
      mixing_steps: the first so many steps mix clips; None for all.

    The metrics' `finite` says whether loss and gradient are; where they are not and `nonfinite` is
    "skip", the state stays as it was but for the number of the step.
    """
    gradients = _accumulated(make_loss(network, config), config.optimizer.accumulate)
    prepare = _preparation(network, config, frames, hear, mixing_steps)

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        prepared = prepare(state, batch, augment_key)
        stats, grads, metrics = gradients(state, prepared, dropout_key)
        norm = metrics["gradient_norm"] = optax.tree.norm(grads)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if state.selection is not None:
            scale = metrics["learning_rate_scale"] = state.selection.scale
            updates = jax.tree.map(lambda update: update * scale, updates)
        params = optax.apply_updates(state.params, updates)
        ema = _average(state.ema, params, state.step, config.optimizer.ema)
        if config.nonfinite == "skip":
            finite &= jnp.isfinite(optax.tree.norm(updates))
            moved = (params, stats, opt_state, ema)
            stayed = (state.params, state.stats, state.opt_state, state.ema)
            kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), moved, stayed)
            params, stats, opt_state, ema = kept
        changed = {"params": params, "stats": stats, "opt_state": opt_state, "ema": ema}
        new = dataclasses.replace(state, step=state.step + 1, **changed)
        return new, metrics | {"finite": finite}

    return step


def _preparation(
    network: Network,
    config: Any,
    frames: int,
    hear: Callable[..., tuple[Array, Array, Array]] | None,
    mixing_steps: int | None,
) -> Callable[[TrainState, Batch, Array], Batch]:
    """What makes a batch normalised, cropped in frequency and augmented, its labels `[B, C]`.

    A clip's weight goes with its label, as the label's sum, through whatever mixes clips.
    """

    def heard(key: Array, batch: Batch, mixing: Array | None) -> tuple[Array, Array, Array]:
        if hear is not None:
            return hear(key, batch, mixing)
        label = losses.soft_labels(batch["label"], network.classes)
        return gather(batch, frames), batch["length"], label

    def prepare(state: TrainState, batch: Batch, key: Array) -> Batch:
        mixing = None if mixing_steps is None else state.step < mixing_steps
        if weighs_clips(config):
            label = losses.soft_labels(batch["label"], network.classes)
            batch = batch | {"label": label * batch["weight"][:, None]}
        features, length, label = heard(key, batch, mixing)
        scale = state.std
        features = normalise(features, length, state.mean, scale)
        if network.features < features.shape[-1]:
            features, scale = crop_bins(key, features, scale, network.features)
        found = augment(config.augment, key, features, length, label, scale, mixing)
        augmented = dict(zip(("features", "length", "label"), found, strict=True))
        if "plain" not in batch:
            return augmented

        def choose(a: Array, b: Array) -> Array:
            return jnp.where(batch["plain"].reshape(-1, *(1 for _ in a.shape[1:])), a, b)

        plain = {"features": features, "length": length, "label": label}
        return jax.tree.map(choose, plain, augmented)

    return prepare


def _accumulated(
    loss: Loss, parts: int
) -> Callable[[TrainState, Batch, Array], tuple[Any, Any, Metrics]]:
    """`(state, batch, key) -> (stats, gradient, metrics)`, means over a batch in so many parts.

    Statistics pass from part to part; the metrics are the loss's own, and `loss`.
    """
    differentiate = jax.value_and_grad(loss, has_aux=True)

    def gradients(state: TrainState, batch: Batch, key: Array) -> tuple[Any, Any, Metrics]:
        def of_part(stats: Any, part: Batch, key: Array) -> tuple[Any, Any]:
            (value, (stats, metrics)), grads = differentiate(
                state.params, stats, part, state.class_weight, key
            )
            return stats, (grads, metrics | {"loss": value})

        def add_part(carry: Any, part: tuple[Batch, Array]) -> tuple[Any, None]:
            stats, found = of_part(carry[0], *part)
            return (stats, jax.tree.map(jnp.add, carry[1], found)), None

        keys = jax.random.split(key, parts)
        if parts == 1:
            stats, (grads, metrics) = of_part(state.stats, batch, keys[0])
            return stats, grads, metrics
        # Every parts-th example, so that each part is spread over all devices.
        split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
        first = jax.tree.map(lambda x: x[0], split)
        shapes = jax.eval_shape(of_part, state.stats, first, keys[0])[1]
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (stats, total), _ = jax.lax.scan(add_part, (state.stats, zero), (split, keys))
        return stats, *jax.tree.map(lambda x: x / parts, total)

    return gradients


def _average(ema: Any, params: Any, step: Array, decay: float) -> Any:
    """Moves the averaged weights; early steps decay faster, so that they forget their start."""
    if ema is None:
        return None
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda e, p: keep * e + (1 - keep) * p, ema, params)


def make_eval_step(network: Network, frames: int) -> Callable[[TrainState, Batch], Array]:
    """A pure `(state, batch) -> logits [B, C]`, by the averaged weights where there are any.

    A network of fewer features than the batch has is given the middle ones.
    """

    def step(state: TrainState, batch: Batch) -> Array:
        params, features = _evaluated(network, frames, state, batch)
        return network.apply(params, state.stats, features, batch["length"], train=False)[0]

    return step


def make_error_step(
    network: Network, frames: int, config: Any
) -> Callable[[TrainState, Batch], Array]:
    """A pure `(state, batch) -> [B, 2]`, for a network that reconstructs.

    Mean squared error over each clip's masked values, and what predicting zero everywhere, the mean
    of the training split, would have: about 1. Every clip is masked alike, as far as it is as long,
    whatever batch it is in.
    """

    def step(state: TrainState, batch: Batch) -> Array:
        params, features = _evaluated(network, frames, state, batch)
        length = batch["length"]
        keys = jnp.broadcast_to(jax.random.key(0), length.shape)
        hidden = masked(config.reconstruction, keys, features, length)
        seen = jnp.where(hidden, 0, features)
        made, _ = network.apply(params, state.stats, seen, length, train=False)
        errors = (made - features, features)
        return jnp.stack([losses.masked_square(error, hidden) for error in errors], -1)

    return step


def make_embed_step(
    network: Network, frames: int, classifier: Sequence[str] = ("head",)
) -> Callable[[TrainState, Batch], tuple[Array, Array]]:
    """As `make_eval_step`: `(state, batch) -> (logits [B, C], embeddings [B, D])`.

    An embedding is what these last layers of the network see.
    """

    def step(state: TrainState, batch: Batch) -> tuple[Array, Array]:
        params, features = _evaluated(network, frames, state, batch)
        return network.embed(params, state.stats, features, batch["length"], classifier)

    return step


def _evaluated(network: Network, frames: int, state: TrainState, batch: Batch) -> tuple[Any, Array]:
    """The weights that are evaluated, and normalised features of the network's width."""
    params = state.params if state.ema is None else state.ema
    features = normalise(gather(batch, frames), batch["length"], state.mean, state.std)
    first = (features.shape[-1] - network.features) // 2
    return params, features[..., first : first + network.features]
