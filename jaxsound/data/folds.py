"""Fold -> train, validation and test indices, always by source recording (`group`)."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxsound.errors import UserError

ONLY_TRAINS = 0  # the fold number of clips that are never tested on


@dataclasses.dataclass(frozen=True)
class Split:
    """Sorted, disjoint int64 indices of the clips of one fold's experiment.

    `crossings` lists the groups that a publisher's folds divide, as
    `{"group": str, "folds": [int], "labels": [int]}`; folds of ours never divide one.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    crossings: tuple[dict[str, Any], ...] = ()


def split(clips: Any, test_fold: int, *, validation: float = 0.1, seed: int = 0) -> Split:
    """The experiment that tests on `test_fold`.

    Args:
      clips: anything with `labels` [N] int, `folds` [N] int, `groups` [N] str and
        `publisher_folds` bool.
      test_fold: a fold in the data; every other fold trains, fold 0 always does.
      validation: share of the training clips to set aside, by group, stratified over classes as
        well as whole groups allow. Groups that are also in the test fold stay out of it.
      seed: which groups are set aside.

    Raises `UserError` for a fold that does not exist, for nothing left to train on, for a share
    that is not one, and where folds of ours divide a group.
    """
    labels, folds = np.asarray(clips.labels), np.asarray(clips.folds)
    groups = np.asarray(clips.groups)
    known = sorted(set(folds.tolist()) - {ONLY_TRAINS})
    if test_fold not in known:
        raise UserError(f"fold {test_fold} does not exist; there are {_words(known)}")
    if not 0.0 <= validation < 1.0:
        raise UserError(f"data.validation={validation} is not a share: 0 <= validation < 1")
    crossing = crossings(labels, folds, groups)
    if crossing and not clips.publisher_folds:
        raise UserError(leak(crossing[0]))
    test = np.flatnonzero(folds == test_fold)
    training = np.flatnonzero(folds != test_fold)
    if not len(training):
        raise UserError(f"fold {test_fold} is the only fold: there is nothing to train on")
    eligible = training[~np.isin(groups[training], groups[test])]
    held = _hold_out(labels, groups, training, eligible, validation, seed)
    result = Split(np.setdiff1d(training, held), held, test, crossing)
    _prove(result, groups, bool(clips.publisher_folds))
    return result


def assign(labels: ArrayLike, groups: ArrayLike, k: int, seed: int = 0) -> np.ndarray:
    """Stratified folds 1..k that divide no group.

    Greedy, largest groups first: each goes to the fold that has least of its classes so far, then
    to the smallest fold. With one clip per group every fold has every class within one clip.

    Args:
      labels: [N] int. groups: [N] str. k: number of folds. seed: order among equal groups.

    Returns int64 [N]. Raises `UserError` for k < 2 or more folds than groups.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    names, member = np.unique(groups, return_inverse=True)
    if k < 2:
        raise UserError(f"data.make_folds={k}: cross-validation takes at least 2 folds")
    if k > len(names):
        raise UserError(
            f"data.make_folds={k} is more than the {len(names)} source recordings there are"
        )
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (member, labels), 1)
    share = counts / np.maximum(counts.sum(axis=0), 1)  # of its class, that each group holds
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]
    filled, sizes = np.zeros((k, counts.shape[1])), np.zeros(k)
    fold_of = np.zeros(len(names), np.int64)
    for group in order:
        fullness = np.round(filled @ (share[group] > 0), 9)  # rounded: a tie is a tie
        fold = np.lexsort((sizes, fullness))[0]
        filled[fold] += share[group]
        sizes[fold] += counts[group].sum()
        fold_of[group] = fold + 1
    return fold_of[member]


def crossings(labels: ArrayLike, folds: ArrayLike, groups: ArrayLike) -> tuple[dict[str, Any], ...]:
    """The groups that lie in more than one fold, sorted by name."""
    labels, folds = np.asarray(labels), np.asarray(folds)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    pairs = np.unique(np.stack([member, folds], 1), axis=0)
    repeated, times = np.unique(pairs[:, 0], return_counts=True)
    order = np.argsort(member, kind="stable")  # the clips of a group lie side by side
    first = np.searchsorted(member[order], np.arange(len(names) + 1))
    found = []
    for group in repeated[times > 1]:
        mine = order[first[group] : first[group + 1]]
        found.append(
            {
                "group": str(names[group]),
                "folds": sorted(set(folds[mine].tolist())),
                "labels": sorted(set(labels[mine].tolist())),
            }
        )
    return tuple(found)


def _hold_out(
    labels: np.ndarray,
    groups: np.ndarray,
    training: np.ndarray,
    eligible: np.ndarray,
    validation: float,
    seed: int,
) -> np.ndarray:
    """Whole groups of `eligible`, about `validation` of each class and never all of one."""
    if validation == 0.0 or not len(eligible):
        return np.zeros(0, np.int64)
    classes = int(labels.max()) + 1
    total = np.bincount(labels[training], minlength=classes)
    names, member = np.unique(groups[eligible], return_inverse=True)
    counts = np.zeros((len(names), classes))
    np.add.at(counts, (member, labels[eligible]), 1)
    held, taken = np.zeros(classes), np.zeros(len(names), bool)
    rng = np.random.default_rng(seed)
    wanted = np.minimum(_apportion(total * validation, rng), np.maximum(total - 1, 0))
    order = rng.permutation(len(names))
    for group in order:
        if np.all((held + counts[group] <= wanted) | (counts[group] == 0)):
            held, taken[group] = held + counts[group], True
    # A class whose groups are all larger than its share still gets one, if half of it remains.
    for group in order[np.argsort(counts.sum(axis=1)[order], kind="stable")]:
        lacking = (held == 0) & (wanted > 0) & (counts[group] > 0)
        remains = (held + counts[group] <= total / 2) | (counts[group] == 0)
        if not taken[group] and lacking.any() and remains.all():
            held, taken[group] = held + counts[group], True
    return np.sort(eligible[taken[member]])


def _apportion(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers near `shares` of the same rounded sum (at least 1): largest remainders."""
    whole = np.floor(shares)
    spare = max(round(shares.sum()), 1) - int(whole.sum())
    order = rng.permutation(len(shares))
    order = order[np.argsort(whole[order] - shares[order], kind="stable")]
    whole[order[: max(spare, 0)]] += 1
    return whole


def _prove(result: Split, groups: np.ndarray, publisher_folds: bool) -> None:
    """Raises if the split divides a group; the publisher's own train/test crossings excepted."""
    parts = {
        name: set(groups[getattr(result, name)].tolist())
        for name in ("train", "validation", "test")
    }
    leaks = parts["validation"] & (parts["train"] | parts["test"])
    if not publisher_folds:
        leaks |= parts["train"] & parts["test"]
    if leaks:
        raise UserError(
            f"leak: source {min(leaks)!r} is on both sides of a split; this is a fault of jaxsound"
        )


def leak(crossing: dict[str, Any]) -> str:
    """One line about a group that folds of ours divide."""
    return (
        f"leak: source {crossing['group']!r} is divided between {_words(crossing['folds'])}; "
        "give all its clips one fold, or leave the folds to data.make_folds"
    )


def _words(folds: list[int]) -> str:
    return ("folds " if len(folds) > 1 else "fold ") + ", ".join(map(str, folds))
