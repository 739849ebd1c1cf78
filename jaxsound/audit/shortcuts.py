"""Classes that can be told without listening: by length, silence, format or loudness alone."""

import dataclasses
from typing import Any

import numpy as np

from jaxsound.audit.clips import Figures, Survey
from jaxsound.audit.findings import INVALID, LEVELS, NOTE, WARNING, Finding
from jaxsound.data import folds

BINS = 32  # quantiles of a figure at most, and no more than a bin for ten clips
SHUFFLES = 99  # of the labels, by source: the best of them is beaten by chance once in a hundred
NEAR_PERFECT = 0.9  # balanced accuracy, or recall and precision of one class: nothing is left
TWICE = 2.0  # times chance that is worth a warning (with two classes: halfway from chance to 1)
FEWEST = 8  # clips that a class must have before it is said to be given away ...
SOURCES = 5  # ... from as many recordings: fewer agree by chance


@dataclasses.dataclass(frozen=True)
class Cue:
    """A figure that may give classes away, and the worst level that it can have."""

    code: str
    name: str
    field: str
    worst: str
    meaning: str


_FORMAT = (
    "A model can learn who made the files instead of what sounds in them, for a resampled or "
    "decoded copy keeps traces. Bring all classes to one format, or find clips of each class in "
    "every format."
)
_PADDING = (
    "A model that sees the padding can score this without listening. Quote this figure beside the "
    "result, mask the padding (every model here does), or trim the clips."
)
CUES = (
    Cue("rate", "The sample rate", "rate", INVALID, _FORMAT),
    Cue("channels", "The number of channels", "channels", INVALID, _FORMAT),
    Cue("codec", "The file's encoding", "codec", INVALID, _FORMAT),
    Cue("duration", "The length of a clip", "seconds", INVALID, _PADDING),
    Cue("leading_silence", "Silence before the sound", "leading", INVALID, _PADDING),
    Cue("trailing_silence", "Silence after the sound", "trailing", INVALID, _PADDING),
    Cue(
        "bandwidth",
        "The frequency at which the sound ends",
        "edge",
        WARNING,
        "In part this is the sound itself; where it is the recorder's or the codec's doing, a "
        "model can learn that instead. Lower `frontend.fmax` below the lowest edge to be sure.",
    ),
    Cue(
        "loudness",
        "Loudness",
        "rms",
        NOTE,
        "In part this is the sound itself, in part how it was recorded. Normalise each clip, or "
        "augment with gain, if the recordings to come have other levels.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Skill:
    """How well one figure tells the classes, cross-validated by source.

    accuracy: balanced (mean recall), of the likeliest class in each bin. chance: 1 / classes.
    shuffled: the best of `SHUFFLES` with shuffled labels. recall, precision, specificity: [C] of
    naming a class where most training clips of a bin have it.
    """

    accuracy: float
    chance: float
    shuffled: float
    recall: np.ndarray
    precision: np.ndarray
    specificity: np.ndarray


def shortcuts(survey: Survey) -> list[Finding]:
    """One finding for each cue that tells classes far better than chance."""
    usable = [clip for clip in survey.figures if not clip.broken]
    findings = []
    for cue in CUES:
        values = np.array([getattr(clip, cue.field) for clip in usable])
        if len(np.unique(values)) > 1:
            findings += _judge(cue, values, usable, survey.catalogue.class_names)
    return findings


def skill(values: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> Skill:
    """Tells classes by a figure, cut into quantiles; text and small sets of numbers as they are.

    Args:
      values: [N] numbers or text. labels: [N] int. groups: [N] source recordings; a source is
        never both trained and tested on.
    """
    labels = np.unique(labels, return_inverse=True)[1]
    member = np.unique(groups, return_inverse=True)[1]
    fold = folds.assign(labels, groups, min(5, int(member.max()) + 1), seed) - 1
    bins = _bins(values)
    counts = _counts(bins, labels, fold)
    accuracy = _balanced(counts)
    rng = np.random.default_rng(seed)
    of_group = np.zeros(member.max() + 1, np.int64)
    of_group[member] = labels  # a source under two labels lends its last
    shuffled = max(
        _balanced(_counts(bins, rng.permutation(of_group)[member], fold, counts.shape[2]))
        for _ in range(SHUFFLES)
    )
    return Skill(accuracy, 1 / counts.shape[2], shuffled, *_named(counts))


def _bins(values: np.ndarray) -> np.ndarray:
    distinct, place = np.unique(values, return_inverse=True)
    most = min(BINS, max(len(values) // 10, 2))
    if len(distinct) <= most or values.dtype.kind in "US":
        return place
    edges = np.unique(np.quantile(values, np.arange(1, most) / most, method="lower"))
    return np.searchsorted(edges, values, side="left")


def _counts(bins: np.ndarray, labels: np.ndarray, fold: np.ndarray, classes: int = 0) -> np.ndarray:
    """Clips by fold, bin and class."""
    shape = (int(fold.max()) + 1, int(bins.max()) + 1, classes or int(labels.max()) + 1)
    place = np.ravel_multi_index((fold, bins, labels), shape)
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)


def _balanced(counts: np.ndarray) -> float:
    """Mean recall of the likeliest class of each bin, prior removed, trained on other folds."""
    train = counts.sum(axis=0) - counts
    share = train / np.maximum(train.sum(axis=1, keepdims=True), 1)
    guess = share.argmax(axis=2)  # [folds, bins]
    right = np.zeros(counts.shape[2])
    found = np.take_along_axis(counts, guess[..., None], axis=2)[..., 0]
    np.add.at(right, guess, found)
    total = counts.sum(axis=(0, 1))
    return float(np.mean(right[total > 0] / total[total > 0]))


def _named(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(recall, precision, specificity)` [C] of naming what most of a bin's training clips are."""
    train = counts.sum(axis=0) - counts
    named = train > 0.5 * train.sum(axis=2, keepdims=True)
    hits = np.sum(counts * named, axis=(0, 1))
    called = np.sum(counts.sum(axis=2, keepdims=True) * named, axis=(0, 1))
    total, everything = counts.sum(axis=(0, 1)), counts.sum()
    precision = hits / np.maximum(called, 1)
    specificity = 1 - (called - hits) / np.maximum(everything - total, 1)
    return hits / np.maximum(total, 1), precision, specificity


def _judge(
    cue: Cue, values: np.ndarray, clips: list[Figures], names: tuple[str, ...]
) -> list[Finding]:
    labels = np.array([clip.label for clip in clips])
    groups = np.array([clip.group for clip in clips])
    if len(np.unique(labels)) < 2 or len(np.unique(groups)) < 2:
        return []
    found = skill(values, labels, groups)
    given = _given_away(cue, values, labels, groups, names, found)
    strong = found.accuracy > found.shuffled and found.accuracy >= min(
        TWICE * found.chance, (1 + found.chance) / 2
    )
    if not strong and not given:
        return []
    level = INVALID if given or found.accuracy >= NEAR_PERFECT else WARNING
    level = LEVELS[max(LEVELS.index(level), LEVELS.index(cue.worst))]
    title = f"{cue.name} alone tells the class: {found.accuracy:.0%} balanced accuracy"
    title += f", where chance is {found.chance:.0%}"
    if given:
        title += f"; it gives away {', '.join(detail['label'] for detail in given[:8])}"
    summary = {
        "balanced_accuracy": round(found.accuracy, 4),
        "chance": round(found.chance, 4),
        "best_of_shuffled": round(found.shuffled, 4),
        "line": f"cross-validated by source; the best of {SHUFFLES} with shuffled labels: "
        f"{found.shuffled:.0%}",
    }
    return [Finding(level, f"told_by_{cue.code}", f"{title}.", cue.meaning, (summary, *given))]


def _given_away(
    cue: Cue,
    values: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    names: tuple[str, ...],
    found: Skill,
) -> list[dict[str, Any]]:
    details = []
    for place, label in enumerate(np.unique(labels)):
        mine = labels == label
        figures = (found.recall[place], found.precision[place], found.specificity[place])
        enough = mine.sum() >= FEWEST and len(np.unique(groups[mine])) >= SOURCES
        if enough and min(figures) >= NEAR_PERFECT:
            usual = np.unique(values[mine], return_counts=True)
            details.append(
                {
                    "label": names[label],
                    "recall": round(float(figures[0]), 4),
                    "precision": round(float(figures[1]), 4),
                    "line": f"{names[label]}: {figures[0]:.0%} of its clips, and {figures[1]:.0%} "
                    f"of those named by it; most often {_value(cue, usual[0][usual[1].argmax()])}",
                }
            )
    return details


def _value(cue: Cue, value: Any) -> str:
    units = {"rate": " Hz", "edge": " Hz", "seconds": " s", "leading": " s", "trailing": " s"}
    return (f"{value:.5g}" if isinstance(value, np.floating) else str(value)) + units.get(
        cue.field, ""
    )
