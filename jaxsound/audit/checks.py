"""Findings about single files, formats, lengths, class sizes and class names."""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from jaxsound.audit.clips import FULL_SCALE, Figures, Survey
from jaxsound.audit.findings import INVALID, NOTE, WARNING, Finding, listed
from jaxsound.data import folds

SILENT = 10 ** (-70 / 20)  # of full scale: ten steps of 16 bits; nobody hears it, and no log-mel
MUCH_CLIPPED = 1e-3  # of the samples: 5 ms in 5 s, audible as crackle
OFFSET = 0.02  # of full scale: a fault of the converter that wastes headroom and clicks at cuts
HOLLOW = 0.5  # share of digital silence beyond which a clip is mostly padding
NARROW = 0.55  # of half the rate: the recording was made at half the rate, or less, and resampled
UNEVEN_LENGTHS = 10.0  # longest over shortest: one crop length no longer suits all
UNEVEN_CLASSES = 3.0  # largest class over smallest: accuracy starts to mean the large classes
VERY_UNEVEN = 10.0  # ... and means little else
LONG_ENOUGH = 5  # letters of a name below which one letter makes another word (cat, bat, rat)


def files(survey: Survey) -> list[Finding]:
    """Missing, broken, silent, constant, clipped, offset, hollow and band-limited recordings."""
    catalogue = survey.catalogue
    clips = [clip for clip in survey.figures if not clip.broken]

    def those(
        test: Callable[[Figures], bool], say: Callable[[Figures], str]
    ) -> list[dict[str, Any]]:
        return [_detail(survey, clip, say(clip)) for clip in clips if test(clip)]

    silent = those(
        lambda c: c.peak < SILENT, lambda c: "all zeros" if not c.peak else "peak below -70 dBFS"
    )
    constant = those(
        lambda c: c.constant and c.peak >= SILENT, lambda c: f"every sample is {c.offset:.3g}"
    )
    clipped = those(lambda c: c.clipped > MUCH_CLIPPED, lambda c: f"{c.clipped:.1%} of its samples")
    offset = those(
        lambda c: abs(c.offset) > OFFSET and not c.constant,
        lambda c: f"mean {c.offset:+.3f} of full scale",
    )
    hollow = those(
        lambda c: c.zeros > HOLLOW and c.peak >= SILENT,
        lambda c: f"{c.zeros:.0%} of {c.seconds:.2f} s",
    )
    narrow = those(
        lambda c: c.cliff and c.edge < NARROW * c.rate / 2,
        lambda c: f"nothing above {c.edge / 1000:.1f} kHz in a file of {c.rate} Hz",
    )
    broken = [_detail(survey, clip, clip.broken) for clip in survey.figures if clip.broken]
    missing = [{**lost, "line": f"{lost['clip']}: {lost['reason']}"} for lost in catalogue.missing]
    return [
        *listed(
            WARNING,
            "broken",
            "{n} [recording is|recordings are] broken.",
            "Training stops at them, or leaves them out with data.on_bad=skip and says so.",
            broken,
        ),
        *listed(
            WARNING,
            "missing",
            "{n} listed [clip is|clips are] missing or left out.",
            "The copy is not whole: a result on it does not compare with published ones.",
            missing,
        ),
        *listed(
            WARNING,
            "silent",
            "{n} [recording is|recordings are] silent.",
            "Their labels cannot be learnt or guessed. Remove them.",
            silent,
        ),
        *listed(
            WARNING,
            "constant",
            "{n} [recording holds|recordings hold] one constant value.",
            "There is no sound in them. Remove them.",
            constant,
        ),
        *listed(
            NOTE,
            "clipped",
            "{n} [recording is|recordings are] clipped: "
            f"over {MUCH_CLIPPED:.1%} of the samples lie at full scale ({FULL_SCALE}) in runs.",
            "Distortion adds overtones that a model may take for the class.",
            clipped,
        ),
        *listed(
            NOTE,
            "offset",
            "{n} [recording has|recordings have] a constant offset.",
            "Log-mels hardly see it; loudness and peak normalisation do.",
            offset,
        ),
        *listed(
            NOTE,
            "digital_silence",
            "{n} [recording is|recordings are] mostly digital silence.",
            "Their sound is short, and padded by whoever made the set.",
            hollow,
        ),
        *listed(
            NOTE,
            "band_limited",
            "{n} [recording is|recordings are] band-limited: "
            "[it ends|they end] at a filter far below half the rate.",
            "They were made at a lower rate, or passed a codec. Mel bands above the edge hold "
            "nothing for them.",
            narrow,
        ),
    ]


def formats(survey: Survey) -> list[Finding]:
    """Mixtures of sample rates, channels and encodings."""
    clips = [clip for clip in survey.figures if not clip.broken]
    findings = []
    for field, code, what, meaning in (
        (
            "rate",
            "mixed_rates",
            "sample rates",
            "All are resampled to the frontend's rate; those below it leave the upper bands empty.",
        ),
        ("channels", "mixed_channels", "numbers of channels", "All are mixed down to one."),
        (
            "codec",
            "mixed_codecs",
            "encodings",
            "Lossy encodings leave traces in the upper bands; see whether a class depends on them.",
        ),
    ):
        counts = Counter(getattr(clip, field) for clip in clips)
        if len(counts) > 1:
            details = [
                {
                    "value": value,
                    "clips": count,
                    "classes": _classes_of(survey, clips, field, value),
                    "line": f"{value or 'not known'}: {count} clips",
                }
                for value, count in counts.most_common()
            ]
            findings += listed(NOTE, code, f"There are {{n}} {what}.", meaning, details)
    return findings


def balance(survey: Survey) -> list[Finding]:
    """Lengths that differ much, classes that differ much in size or are too small."""
    clips = [clip for clip in survey.figures if not clip.broken]
    names = survey.catalogue.class_names
    lengths = sorted((clip.seconds, clip.clip_id) for clip in clips)
    findings = []
    if lengths and lengths[-1][0] > UNEVEN_LENGTHS * lengths[0][0]:
        (shortest, first), (longest, last) = lengths[0], lengths[-1]
        middle = lengths[len(lengths) // 2][0]
        line = f"{shortest:.2f} s ({first}), median {middle:.2f} s, {longest:.2f} s ({last})"
        findings += listed(
            NOTE,
            "uneven_lengths",
            f"The longest clip is {longest / shortest:.0f} times as long as the shortest.",
            "One crop length does not suit all: long clips are heard in part, short ones padded.",
            [{"shortest": shortest, "median": middle, "longest": longest, "line": line}],
        )
    sizes = Counter({label: 0 for label in range(len(names))})
    sizes.update(clip.label for clip in clips)
    ranked = sizes.most_common()
    ratio = ranked[0][1] / max(ranked[-1][1], 1)
    if ratio >= UNEVEN_CLASSES:
        findings += listed(
            WARNING if ratio >= VERY_UNEVEN else NOTE,
            "uneven_classes",
            f"The largest class has {ratio:.1f} times the clips of the smallest.",
            "Accuracy means the large classes: read macro F1, and weigh the loss with "
            "loss.class_weights=balanced.",
            [
                {"label": names[label], "clips": size, "line": f"{names[label]}: {size} clips"}
                for label, size in reversed(ranked)
            ],
        )
    return [*findings, *_small(survey, clips)]


def _small(survey: Survey, clips: list[Figures]) -> list[Finding]:
    """Classes with fewer source recordings than there are folds to test on."""
    number = len({clip.fold for clip in survey.figures} - {folds.ONLY_TRAINS})
    alone, few = [], []
    for label, name in enumerate(survey.catalogue.class_names):
        sources = len({clip.group for clip in clips if clip.label == label})
        detail = {"label": name, "sources": sources, "line": f"{name}: {sources} source recordings"}
        if sources < 2:
            alone.append(detail)
        elif sources < number:
            few.append(detail)
    return [
        *listed(
            INVALID,
            "class_of_one_source",
            "{n} [class has|classes have] fewer than two source recordings.",
            "Such a class cannot be both trained and tested on. Add recordings or leave it out.",
            alone,
        ),
        *listed(
            WARNING,
            "fewer_sources_than_folds",
            f"{{n}} [class has|classes have] fewer source recordings than the {number} folds.",
            "In some folds none of them is tested: figures of those folds are about other classes.",
            few,
        ),
    ]


def names(survey: Survey) -> list[Finding]:
    """Class names that look like two spellings of one."""
    equal, near = [], []
    sizes = Counter(clip.label for clip in survey.figures)
    named = list(enumerate(survey.catalogue.class_names))
    core = dict(zip((n for _, n in named), _cores([n for _, n in named]), strict=True))
    for (i, one), (j, two) in itertools.combinations(named, 2):
        detail = {
            "labels": [one, two],
            "clips": [sizes[i], sizes[j]],
            "line": f"{one} ({sizes[i]} clips) and {two} ({sizes[j]} clips)",
        }
        if core[one] == core[two]:
            equal.append(detail)
        elif _misspelt(core[one], core[two]):
            near.append(detail)
    return [
        *listed(
            INVALID,
            "same_class_two_names",
            "{n} [pair|pairs] of class names [differs|differ] in case, spaces or punctuation only.",
            "One class is counted as two, and a model is wrong whichever it says. Give both one "
            "name.",
            equal,
        ),
        *listed(
            WARNING,
            "names_nearly_equal",
            "{n} [pair|pairs] of class names [is|are] nearly equal: one may be a misspelling.",
            "If so, one class is counted as two, and a model is wrong whichever it says.",
            near,
        ),
    ]


def distance(one: str, two: str) -> int:
    """Edits from one text to the other: letters inserted, lost, changed, or two swapped.

    Optimal string alignment (Damerau-Levenshtein where no part is edited twice).
    """
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, a in enumerate(one):
        before, last, row = row, before, [i + 1]
        for j, b in enumerate(two):
            cost = min(before[j + 1] + 1, row[j] + 1, before[j] + (a != b))
            if i and j and a == two[j - 1] and b == one[i - 1]:
                cost = min(cost, last[j - 1] + 1)
            row.append(cost)
    return row[-1]


def _cores(class_names: list[str]) -> list[str]:
    """Names in small letters and digits alone, without the words that all of them begin with."""
    words = [re.sub(r"[\W_]+", " ", name.casefold()).split() for name in class_names]
    shared = 0  # "sound" of Sound_Drum and Sound_Guitar
    while all(len(name) > shared + 1 and name[shared] == words[0][shared] for name in words):
        shared += 1
    return ["".join(name[shared:]) for name in words]


def _misspelt(one: str, two: str) -> bool:
    if re.sub(r"\D", "", one) != re.sub(r"\D", "", two):  # class 1 and class 2
        return False
    shorter = min(len(one), len(two))
    if sorted((one, two), key=len)[0] + "s" == sorted((one, two), key=len)[1]:
        return shorter > 1
    # One edit from five letters on, two from ten.
    return shorter >= LONG_ENOUGH and distance(one, two) <= min(2, shorter // LONG_ENOUGH)


def _classes_of(survey: Survey, clips: list[Figures], field: str, value: Any) -> dict[str, int]:
    counts = Counter(clip.label for clip in clips if getattr(clip, field) == value)
    return {survey.catalogue.class_names[label]: counts[label] for label in sorted(counts)}


def _detail(survey: Survey, clip: Figures, said: str) -> dict[str, Any]:
    label = survey.catalogue.class_names[clip.label]
    return {
        "clip": clip.clip_id,
        "label": label,
        "reason": said,
        "line": f"{clip.clip_id} ({label}): {said}",
    }
