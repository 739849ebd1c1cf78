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

from jaxsound.models.reconstructor import draw_masks
from jaxsound.training import finetune, losses
from jaxsound.training.augment import augment, crop_bins
from jaxsound.training.state import Network, TrainState

Array = jax.Array
Batch = dict[str, Array]
Metrics = dict[str, Array]


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
    parts = config.optimizer.accumulate
    weighted = config.loss.unverified_weight < 1

    def loss_of(params: Any, stats: Any, part: Batch, weight: Array, key: Array) -> Any:
        params = finetune.hold(config.pretrained, params)
        logits, stats = network.apply(
            params, stats, part["features"], part["length"], train=True, key=key
        )
        correct = logits.argmax(-1) == part["label"].argmax(-1)
        label = part["label"]
        share: Array | float = 1.0  # of a whole example that it counts
        if weighted:
            share = label.sum(-1)
            label = label / jnp.maximum(share, 1e-9)[:, None]
        if config.loss.logit_adjustment:
            logits += config.loss.logit_adjustment * losses.log_shares(weight)
            weight = jnp.ones_like(weight)
        target = losses.soft_labels(label, network.classes, config.loss.label_smoothing)
        loss = losses.weighted_mean(
            losses.cross_entropy(logits, target), share * (weight @ target.T)
        )
        return loss, (stats, {"accuracy": correct.astype(jnp.float32).mean()})

    def loss_of_masked(params: Any, stats: Any, part: Batch, _: Array, key: Array) -> Any:
        params = finetune.hold(config.pretrained, params)
        mask_key, key = jax.random.split(key)
        features, length = part["features"], part["length"]
        keys = jax.random.split(mask_key, len(length))
        masked = _masked(config.reconstruction, keys, features, length)
        made, stats = network.apply(
            params, stats, jnp.where(masked, 0, features), length, train=True, key=key
        )
        heard = (length > 0).astype(jnp.float32)
        loss = losses.weighted_mean(losses.masked_square(made - features, masked), heard)
        return loss, (stats, {})

    reconstructs = config.task == "reconstruction"

    def gradients(state: TrainState, batch: Batch, key: Array) -> Any:
        loss = loss_of_masked if reconstructs else loss_of
        differentiate = jax.value_and_grad(loss, has_aux=True)

        def add_part(carry: Any, part: tuple[Batch, Array]) -> tuple[Any, None]:
            stats, total = carry
            (loss, (stats, measures)), grads = differentiate(
                state.params, stats, part[0], state.class_weight, part[1]
            )
            measures["loss"] = loss
            return (stats, jax.tree.map(jnp.add, total, (grads, measures))), None

        names = ("loss",) if reconstructs else ("loss", "accuracy")
        zero = (jax.tree.map(jnp.zeros_like, state.params), {name: jnp.zeros(()) for name in names})
        # Every parts-th example, so that each part is spread over all devices.
        split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
        xs = (split, jax.random.split(key, parts))
        carry = (state.stats, zero)
        if parts == 1:
            (stats, total), _ = add_part(carry, jax.tree.map(lambda x: x[0], xs))
        else:
            (stats, total), _ = jax.lax.scan(add_part, carry, xs)
        return stats, jax.tree.map(lambda x: x / parts, total)

    def prepare(state: TrainState, batch: Batch, key: Array) -> Batch:
        """Normalised, cropped in frequency and augmented.

        A clip's weight goes with its label, as the label's sum, through whatever mixes clips.
        """
        mixing = None if mixing_steps is None else state.step < mixing_steps
        if weighted:
            label = losses.soft_labels(batch["label"], network.classes)
            batch = batch | {"label": label * batch["weight"][:, None]}
        if hear is None:
            features, length = gather(batch, frames), batch["length"]
            label = losses.soft_labels(batch["label"], network.classes)
        else:
            features, length, label = hear(key, batch, mixing)
        scale = state.std
        features = normalise(features, length, state.mean, scale)
        if network.features < features.shape[-1]:
            features, scale = crop_bins(key, features, scale, network.features)
        plain = {"features": features, "length": length, "label": label}
        found = augment(config.augment, key, features, length, label, scale, mixing)
        augmented = dict(zip(plain, found, strict=True))
        if "plain" not in batch:
            return augmented

        def choose(a: Array, b: Array) -> Array:
            return jnp.where(batch["plain"].reshape(-1, *(1 for _ in a.shape[1:])), a, b)

        return jax.tree.map(choose, plain, augmented)

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        prepared = prepare(state, batch, augment_key)
        stats, (grads, measures) = gradients(state, prepared, dropout_key)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(measures["loss"]) & jnp.isfinite(norm)
        metrics = {**measures, "gradient_norm": norm}
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
        masked = _masked(config.reconstruction, keys, features, length)
        seen = jnp.where(masked, 0, features)
        made, _ = network.apply(params, state.stats, seen, length, train=False)
        errors = (made - features, features)
        return jnp.stack([losses.masked_square(error, masked) for error in errors], -1)

    return step


def _masked(section: Any, keys: Array, features: Array, length: Array) -> Array:
    """What the `reconstruction` section hides of a batch."""
    patch = (section.patch_frames, section.patch_bins)
    _, frames, bins = features.shape
    return draw_masks(keys, length, (frames, bins), patch, section.masked_share)


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
