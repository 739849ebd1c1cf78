"""What it means that two clips share sound: by their labels, folds and sources."""

from collections import defaultdict
from typing import Any

from jaxsound.audit.clips import Figures, Survey
from jaxsound.audit.duplicates import Pair
from jaxsound.audit.findings import INVALID, NOTE, WARNING, Finding, listed
from jaxsound.data import folds

# (level, code, title, meaning) of what a pair can be.
_LABELS = (
    INVALID,
    "same_sound_two_labels",
    "The same sound is filed under two labels ({n} [pair|pairs] of clips).",
    "No model can be right about both clips: accuracy on these classes is capped, whatever the "
    "architecture. Find out which label is true, and remove or relabel the other.",
)
_FOLDS = (
    INVALID,
    "same_sound_two_folds",
    "The same sound lies in two folds as if it came from two sources ({n} [pair|pairs] of clips).",
    "A model is tested on sound that it was trained on, and its figure is too high. Give both "
    "clips one group (the CSV's `group` column), or remove one.",
)
_SOURCE = (
    WARNING,
    "same_source_two_folds",
    "Clips of one source that share sound lie in two folds ({n} [pair|pairs] of clips).",
    "The folds divide a source recording, so a test clip was partly trained on.",
)
_MIXED = (
    WARNING,
    "same_source_two_labels",
    "Cuts from one source overlap under two labels ({n} [pair|pairs] of clips).",
    "Both sounds are in the recording; each clip has one label, so errors between the two are not "
    "all the model's.",
)
_REPEATS = (
    WARNING,
    "same_sound_repeated",
    "The same sound is there twice under one label, in one fold ({n} [pair|pairs] of clips).",
    "The class is smaller than it seems, and a validation split by source may divide such a pair. "
    "Remove one of each, or give both one group.",
)
_CUTS = (
    NOTE,
    "cuts_overlap",
    "Cuts from one source overlap, in one fold and under one label ({n} [pair|pairs] of clips).",
    "No leak, but these clips count as more evidence than they are; intervals by source allow for "
    "that.",
)


def shared_sound(survey: Survey, pairs: tuple[Pair, ...]) -> list[Finding]:
    """The findings that pairs of clips with the same sound amount to."""
    details = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: (-pair.seconds, pair.first, pair.second)):
        one, two = survey.figures[pair.first], survey.figures[pair.second]
        details[_kind(pair, one, two)].append(_detail(survey, pair, one, two))
    findings = []
    for kind in (_LABELS, _FOLDS, _SOURCE, _MIXED, _REPEATS, _CUTS):
        level, code, title, meaning = kind
        findings += listed(level, code, title, meaning, details[kind], _classes(details[kind]))
    return findings


def crossings(survey: Survey) -> list[Finding]:
    """Sources that lie in more than one fold."""
    figures, names = survey.figures, survey.catalogue.class_names
    details = [
        {
            "group": crossing["group"],
            "folds": crossing["folds"],
            "labels": [names[label] for label in crossing["labels"]],
            "line": f"source {crossing['group']}: folds {_and(crossing['folds'])}, "
            f"{_and([names[label] for label in crossing['labels']])}",
        }
        for crossing in folds.crossings(
            [f.label for f in figures], [f.fold for f in figures], [f.group for f in figures]
        )
    ]
    if survey.catalogue.publisher_folds:
        return listed(
            WARNING,
            "source_in_two_folds",
            "The publisher's folds divide {n} source [recording|recordings].",
            "Kept as published, so that figures compare; every result lists them. Parts of a "
            "test clip's source were trained on.",
            details,
        )
    return listed(
        INVALID,
        "source_in_two_folds",
        "{n} source [recording lies|recordings lie] in two folds.",
        "Parts of a test clip's source were trained on; training refuses such folds. Give all "
        "clips of a source one fold.",
        details,
    )


def _kind(pair: Pair, one: Figures, two: Figures) -> tuple[str, str, str, str]:
    one_source = one.group == two.group
    if one.label != two.label:
        return _MIXED if one_source and pair.kind == "overlap" else _LABELS
    if one.fold != two.fold:
        return _SOURCE if one_source else _FOLDS
    return _CUTS if one_source and pair.kind == "overlap" else _REPEATS


def _detail(survey: Survey, pair: Pair, one: Figures, two: Figures) -> dict[str, Any]:
    names = survey.catalogue.class_names
    clips = [
        {"clip": clip.clip_id, "label": names[clip.label], "group": clip.group, "fold": clip.fold}
        for clip in (one, two)
    ]
    how = {
        "exact": "equal sample by sample",
        "copy": f"one recording, correlation {pair.correlation:.3f}",
        "overlap": f"{pair.seconds:.1f} s in common, correlation {pair.correlation:.3f}",
    }[pair.kind]
    first, second = (f"{c['clip']} ({c['label']}, fold {c['fold']})" for c in clips)
    return {
        "first": clips[0],
        "second": clips[1],
        "kind": pair.kind,
        "seconds": pair.seconds,
        "correlation": pair.correlation,
        "shift_seconds": round(pair.shift, 4),
        "line": f"{first} = {second}: {how}",
    }


def _classes(details: list[dict[str, Any]]) -> str:
    """Which classes, most often first: "drum and violin: 700"."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for detail in details:
        labels = {detail["first"]["label"], detail["second"]["label"]}
        counts[tuple(sorted(labels))] += 1
    worst = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    said = "; ".join(f"{' and '.join(labels)}: {count}" for labels, count in worst[:5])
    more = f"; and {len(worst) - 5} more" if len(worst) > 5 else ""
    return f" {said}{more}."


def _and(things: list[Any]) -> str:
    return " and ".join(map(str, things))
