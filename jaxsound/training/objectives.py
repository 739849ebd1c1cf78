"""What a training step differentiates: the loss of a batch of augmented features.

A loss is a pure `(params, stats, batch, class_weight, key) -> (loss, (stats, metrics))` of a batch
`{features [B, T, M], length [B], label [B, C]}`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsound.models.reconstructor import draw_masks
from jaxsound.training import finetune, losses
from jaxsound.training.state import Batch, Metrics, Network

Array = jax.Array
Loss = Callable[..., tuple[Array, tuple[Any, Metrics]]]


def make_loss(network: Network, config: Any) -> Loss:
    """The loss of the configuration's task."""
    of_task = _reconstruction if config.task == "reconstruction" else _classification
    return of_task(network, config)


def weighs_clips(config: Any) -> bool:
    """Whether labels `[B, C]` hold their clips' weights as well, as what each label sums to."""
    return bool(config.loss.unverified_weight < 1)


def _classification(network: Network, config: Any) -> Loss:
    """Weighted cross-entropy of smoothed labels; of the metrics, `accuracy`."""

    def loss(params: Any, stats: Any, batch: Batch, class_weight: Array, key: Array) -> Any:
        params = finetune.hold(config.pretrained, params)
        logits, stats = network.apply(
            params, stats, batch["features"], batch["length"], train=True, key=key
        )
        label = batch["label"]
        correct = logits.argmax(-1) == label.argmax(-1)
        share: Array | float = 1.0  # of a whole example that it counts
        if weighs_clips(config):
            share = label.sum(-1)
            label = label / jnp.maximum(share, 1e-9)[:, None]
        if config.loss.logit_adjustment:
            logits += config.loss.logit_adjustment * losses.log_shares(class_weight)
            class_weight = jnp.ones_like(class_weight)
        target = losses.soft_labels(label, network.classes, config.loss.label_smoothing)
        errors = losses.cross_entropy(logits, target)
        mean = losses.weighted_mean(errors, share * (class_weight @ target.T))
        return mean, (stats, {"accuracy": correct.astype(jnp.float32).mean()})

    return loss


def _reconstruction(network: Network, config: Any) -> Loss:
    """Mean square over the values that are masked; no metrics."""

    def loss(params: Any, stats: Any, batch: Batch, _: Array, key: Array) -> Any:
        params = finetune.hold(config.pretrained, params)
        mask_key, key = jax.random.split(key)
        features, length = batch["features"], batch["length"]
        keys = jax.random.split(mask_key, len(length))
        hidden = masked(config.reconstruction, keys, features, length)
        made, stats = network.apply(
            params, stats, jnp.where(hidden, 0, features), length, train=True, key=key
        )
        heard = (length > 0).astype(jnp.float32)
        errors = losses.masked_square(made - features, hidden)
        return losses.weighted_mean(errors, heard), (stats, {})

    return loss


def masked(section: Any, keys: Array, features: Array, length: Array) -> Array:
    """What the `reconstruction` section hides of `features [B, T, M]`, by `keys [B]`; as large."""
    patch = (section.patch_frames, section.patch_bins)
    _, frames, bins = features.shape
    return draw_masks(keys, length, (frames, bins), patch, section.masked_share)
