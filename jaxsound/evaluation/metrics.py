"""Figures of merit, computed from whole sets of predictions; each equals scikit-learn's.

N clips, C classes. Everything but `EvalMetrics` is plain numpy on the host.
"""

from typing import Any

import flax
import numpy as np
from clu import metrics

BINS = 15  # of confidence, as Guo et al. have them


# No `from __future__ import annotations` here: clu reads these annotations as classes.
@flax.struct.dataclass
class EvalMetrics(metrics.Collection):
    """Mean loss and accuracy over the real examples of any number of batches.

    `EvalMetrics.single_from_model_output(loss=[B], logits=[B, C], labels=[B] int32, mask=[B])`
    makes one of a batch, under jit too; `merge` adds batches up and `compute` gives floats.
    """

    loss: metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: metrics.Accuracy


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [C, C] int64 of clips: row the true class, column the predicted one."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"{labels.shape} labels for {predictions.shape} predictions")
    both = np.concatenate([labels, predictions])
    if both.size and (both.min() < 0 or both.max() >= num_classes):
        raise ValueError(f"classes {both.min()} to {both.max()} do not fit in {num_classes}")
    cells = labels.astype(np.int64) * num_classes + predictions
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def summary(confusion: np.ndarray) -> dict[str, Any]:
    """Accuracy, macro and per-class figures of a confusion matrix [C, C].

    As scikit-learn with `zero_division=0`: a class that is never predicted has precision 0, and
    the macro means run over the classes that occur among the labels or the predictions.

    Returns:
      accuracy, macro_precision, macro_recall, macro_f1: float; per_class: precision, recall, f1
      [C] float64 and support [C] int64.
    """
    hits = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(1), confusion.sum(0)
    per_class = {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }
    occurs = support + predicted > 0
    macro = {
        f"macro_{name}": float(per_class[name][occurs].mean()) if occurs.any() else 0.0
        for name in ("precision", "recall", "f1")
    }
    accuracy = float(_ratio(hits.sum(), confusion.sum()))
    return {"accuracy": accuracy, **macro, "per_class": per_class}


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of clips whose true class is among the k most probable. [N, C], [N]."""
    return float(np.mean(_ranks(probabilities, labels) <= k)) if len(labels) else 0.0


def map_at_k(probabilities: np.ndarray, labels: np.ndarray, k: int = 3) -> float:
    """Mean average precision at k with one true class a clip: mean of 1/rank, 0 past k.

    FSDKaggle2018's measure at k = 3 (Fonseca et al. 2018, DCASE task 2). [N, C], [N].
    """
    if not len(labels):
        return 0.0
    ranks = _ranks(probabilities, labels)
    return float(np.mean(np.where(ranks <= k, 1.0 / ranks, 0.0)))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log of the true class's probability, [N] float64, in nats; 0 counts as 1e-12."""
    true = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(true, 1e-12))


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Squared distance of the probabilities to the truth, summed over classes: 0 to 2 (Brier 1950).

    Args:
      probabilities: [N, C].
      labels: [N].
    """
    if not len(labels):
        return 0.0
    missing = np.asarray(probabilities, np.float64).copy()
    missing[np.arange(len(labels)), labels] -= 1
    return float(np.square(missing).sum(axis=1).mean())


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> dict[str, np.ndarray]:
    """How often predictions of a confidence are right: the numbers of a reliability diagram.

    A prediction's confidence is the probability of its class. Bin i holds those above i / bins and
    up to (i + 1) / bins (Guo et al. 2017, "On calibration of modern neural networks").

    Args:
      probabilities: [N, C].
      labels: [N].
      bins: how many.

    Returns:
      count [bins] int64; mean confidence and accuracy [bins] float64, 0 in empty bins.
    """
    probabilities = np.asarray(probabilities, np.float64)
    confidence = probabilities.max(axis=1, initial=0.0)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    return {
        "count": count,
        "confidence": _ratio(np.bincount(place, weights=confidence, minlength=bins), count),
        "accuracy": _ratio(np.bincount(place, weights=right, minlength=bins), count),
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: the mean over clips of |accuracy - confidence| of their bin."""
    found = reliability(probabilities, labels, bins)
    gap = np.abs(found["accuracy"] - found["confidence"])
    return float((gap * found["count"]).sum() / max(len(labels), 1))


def bootstrap_interval(
    correct: np.ndarray,
    groups: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the accuracy when whole groups are drawn again, with replacement.

    Clips cut from one recording succeed and fail together, so the recording is the unit that is
    drawn (the cluster bootstrap: Davison and Hinkley 1997, section 3.8); an interval that drew
    clips would be too narrow.

    Args:
      correct: [N] bool, whether each clip was classified correctly.
      groups: [N], the source recording of each clip.

    Returns:
      (low, high), or (0, 1) without clips.
    """
    if not len(correct):
        return 0.0, 1.0
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    clips = np.bincount(group)
    hits = np.bincount(group, weights=np.asarray(correct, np.float64))
    rng = np.random.default_rng(seed)
    accuracy = np.empty(samples)
    for i in range(samples):
        drawn = rng.integers(len(clips), size=len(clips))
        accuracy[i] = hits[drawn].sum() / clips[drawn].sum()
    low, high = np.quantile(accuracy, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 for the most probable class; of equal ones the lower class comes first, as in argmax."""
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    true = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return 1 + np.sum((probabilities > true) | ((probabilities == true) & earlier), axis=1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)
