"""The audit's findings as text to read and as JSON to process."""

import dataclasses
import json
import math
import textwrap
from typing import Any

from jaxsound import __version__
from jaxsound.audit.clips import Survey
from jaxsound.audit.findings import INVALID, LEVELS, NOTE, WARNING, Finding

EXAMPLES = 10  # of each finding in the text; the JSON has all
_HEADINGS = {
    INVALID: "These invalidate a result",
    WARNING: "These may distort a result",
    NOTE: "Worth knowing",
}


def text(survey: Survey, findings: list[Finding]) -> str:
    """Findings grouped by what they do to a result, worst first, with examples."""
    lines = _summary(survey)
    for level in LEVELS:
        mine = [finding for finding in findings if finding.level == level]
        if mine:
            lines += ["", _HEADINGS[level].upper()]
        for finding in mine:
            lines += ["", *_wrap(finding.title, "* "), *_wrap(finding.meaning, "  ")]
            shown = [f"    {detail['line']}" for detail in finding.details[:EXAMPLES]]
            left = finding.count - len(shown)
            lines += [*shown, *([f"    and {left} more (--json=FILE has all)"] if left else [])]
    return "\n".join([*lines, "", _verdict(findings)])


def as_json(survey: Survey, findings: list[Finding]) -> str:
    """Everything: the verdict, all findings with all their instances, every clip's figures."""
    catalogue = survey.catalogue
    clips = []
    for clip in survey.figures:
        figures = dataclasses.asdict(clip) | {"label": catalogue.class_names[clip.label]}
        if clip.broken:  # nothing else is known of it
            keep = ("clip_id", "label", "group", "fold", "broken")
            figures = {key: figures[key] for key in keep}
        clips.append(figures)
    report: dict[str, Any] = {
        "jaxsound": __version__,
        "title": catalogue.title,
        "valid": status(findings) == 0,
        "class_names": catalogue.class_names,
        "publisher_folds": catalogue.publisher_folds,
        "note": catalogue.note,
        "findings": [
            dataclasses.asdict(finding) | {"count": finding.count} for finding in findings
        ],
        "clips": clips,
    }
    return json.dumps(_plain(report), indent=1, allow_nan=False)


def status(findings: list[Finding]) -> int:
    """The exit status: 1 where a finding invalidates results, else 0."""
    return int(any(finding.level == INVALID for finding in findings))


def _summary(survey: Survey) -> list[str]:
    catalogue, figures = survey.catalogue, survey.figures
    minutes = sum(clip.seconds for clip in figures) / 60
    usual = len({clip.fold for clip in figures} - {0})
    whose = "the publisher's" if catalogue.publisher_folds else "stratified, or the CSV's own"
    lines = [
        f"{catalogue.title}: {len(figures)} clips, {len(catalogue.class_names)} classes, "
        f"{minutes:.1f} minutes, {usual} folds ({whose})"
    ]
    if catalogue.note:
        lines.append(catalogue.note)
    if not catalogue.files:
        lines.append("decoded copies: channels and encodings of the original files are not known")
    return lines


def _verdict(findings: list[Finding]) -> str:
    counts = {level: sum(f.level == level for f in findings) for level in LEVELS}
    if counts[INVALID]:
        return f"invalid: {counts[INVALID]} of {len(findings)} findings would invalidate a result"
    warnings = f"; warnings: {counts[WARNING]}" if counts[WARNING] else ""
    return f"nothing that would invalidate a result{warnings}"


def _wrap(paragraph: str, start: str) -> list[str]:
    return textwrap.wrap(paragraph, 96, initial_indent=start, subsequent_indent="  ")


def _plain(value: Any) -> Any:
    """NumPy's scalars and infinities as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
