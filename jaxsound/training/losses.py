"""Losses over logits `[B, C]` and soft labels `[B, C]`, and over masked spectrograms."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def soft_labels(label: Array, classes: int, smoothing: float = 0.0) -> Array:
    """Integer labels `[B]`, or soft ones `[B, C]`, to smoothed targets `[B, C]` float32.

    Smoothing moves that share of probability to the uniform distribution (Szegedy et al., 2016).
    """
    target = jax.nn.one_hot(label, classes) if label.ndim == 1 else label
    return target * (1 - smoothing) + smoothing / classes


def cross_entropy(logits: Array, target: Array) -> Array:
    """Cross-entropy of each example, `[B]` float32, against targets `[B, C]` that sum to one."""
    return -(target * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)


def weighted_mean(loss: Array, weight: Array) -> Array:
    """`sum(w l) / sum(w)`, as `torch.nn.CrossEntropyLoss(weight=...)` has it; 0 for no weight."""
    return (loss * weight).sum() / jnp.maximum(weight.sum(), 1e-9)


def masked_square(error: Array, mask: Array) -> Array:
    """Mean square of each example's `error [B, T, M]` where `mask` is True, `[B]`; 0 for nowhere.

    With as many masked values in each example, their mean is the loss of MAE (He et al., 2022).
    """
    squares = jnp.where(mask, jnp.square(error.astype(jnp.float32)), 0)
    return squares.sum((1, 2)) / jnp.maximum(mask.sum((1, 2)), 1)


def class_weights(kind: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights `[C]` float32 of the classes of training clips with these labels `[N]`.

    Args:
      kind: "none" (all 1), or "balanced": `N / (C n_c)` as scikit-learn has it, and 0 for a class
        without clips.
    """
    if kind == "none":
        return np.ones(classes, np.float32)
    count = np.bincount(labels, minlength=classes)
    weight = len(labels) / (classes * np.maximum(count, 1))
    return np.where(count > 0, weight, 0).astype(np.float32)


def log_shares(balanced: Array) -> Array:
    """Logarithms `[C]` of the classes' shares of the clips that have these balanced weights `[C]`.

    Added to the logits in training, times a factor of about 1, they leave a network that judges
    all classes alike: Menon et al. 2021, "Long-tail learning via logit adjustment", equation 10.
    A class without clips, of weight 0, counts as the rarest of the others.
    """
    most = jnp.where(balanced > 0, balanced, balanced.max())
    return -jnp.log(len(balanced) * most)
