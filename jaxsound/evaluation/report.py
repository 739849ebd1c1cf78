"""`report.html`: everything about a cross-validated result on one page that asks no host for
anything, in the reader's light or dark colours."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound.errors import UserError
from jaxsound.evaluation import crossval, curves, metrics, plots, reconstruction
from jaxsound.evaluation.crossval import percent
from jaxsound.evaluation.plots import confusion_figure, spectrogram_figure

__all__ = ["confusion_figure", "spectrogram_figure", "write_report"]

WORST = 25  # clips listed

STYLE = """
:root { color-scheme: light dark; --page: #fdfdfc; --ink: #1d1f23; --soft: #6a6e76;
  --rule: #e3e3df; --blue: #2266bb; --red: #b8402a; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e4e5e8; --soft: #969ba5;
  --rule: #2e3238; --blue: #6aa5ee; --red: #e8836c; --on: #101215; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2rem 1.25rem 5rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1rem; font-weight: 600; margin: 0; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 3rem 0 .4rem; }
p { margin: .3rem 0; max-width: 46rem; }
.soft, .key { color: var(--soft); }
.figure { font-size: 3.4rem; font-weight: 650; letter-spacing: -.02em; line-height: 1.2;
  margin-top: 1.2rem; }
.figure span { display: inline-block; font-size: 1.5rem; font-weight: 400; color: var(--soft);
  letter-spacing: 0; }
.facts { display: flex; flex-wrap: wrap; gap: .8rem 2.4rem; margin: .8rem 0 1.2rem; }
.facts b { display: block; font-size: 1.15rem; font-weight: 600; }
.facts span { color: var(--soft); font-size: .85rem; }
.note { border-left: 3px solid var(--red); padding-left: .7rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: .5rem; }
th { color: var(--soft); font-weight: 400; font-size: .85rem; text-align: left; }
th, td { padding: .22rem 1.4rem .22rem 0; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
.n { text-align: right; }
.bar { display: inline-block; height: .55rem; background: var(--blue); opacity: .55; }
.track { display: inline-block; width: 7rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr));
  gap: 1.4rem 2rem; margin-top: .8rem; }
svg text { fill: var(--soft); font-family: inherit; }
svg.curves { width: 100%; max-width: 30rem; font-size: 11px; }
.curves line { stroke: var(--rule); }
.curves .title { fill: var(--ink); font-size: 12px; }
.curves .y { text-anchor: end; dominant-baseline: central; }
.curves .x { text-anchor: middle; }
.curves polyline { fill: none; stroke-linejoin: round; }
.curves .thin { stroke: var(--soft); stroke-width: 1; opacity: .55; }
.curves .strong { stroke: var(--blue); stroke-width: 1.6; opacity: .85; }
.curves .watched { stroke: var(--red); stroke-width: 1; opacity: .7; }
.key i { display: inline-block; width: 1.4rem; height: 0; border-top: 2px solid; margin: 0 .35rem
  .25rem .8rem; }
.confusion { display: block; margin-top: .5rem; }
.confusion text { dominant-baseline: central; text-anchor: middle; }
.confusion .row { text-anchor: end; }
.confusion .column { text-anchor: start; }
.confusion .frame { fill: none; stroke: var(--rule); }
.confusion .hit rect { fill: var(--blue); } .confusion .miss rect { fill: var(--red); }
.confusion g text { fill: var(--ink); } .confusion g.full text { fill: var(--on); }
.reliability rect { fill: var(--blue); opacity: .55; }
.reliability line { stroke: var(--ink); stroke-dasharray: 4 3; }
pre { font: .82rem/1.5 ui-monospace, monospace; overflow-x: auto; margin: .5rem 0; }
summary { cursor: pointer; }
"""
# The policy lets a browser prove that nothing is fetched and no script runs.
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
"""


def write_report(workdir: str | os.PathLike[str], places: Mapping[int, Path] | None = None) -> Path:
    """Writes `workdir/report.html` from `crossval.json`, `predictions.csv` and the folds' curves.

    The curves of a fold are in `workdir` too, or where `places` says.

    Raises `UserError` where there is no result yet.
    """
    workdir = Path(workdir)
    path = workdir / "crossval.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: the run has no result yet; run it to its end"
        ) from None
    except json.JSONDecodeError:
        raise UserError(f"{path} is not whole; run the experiment's command again") from None
    lines = {
        k: curves.read((places or {}).get(k, workdir) / f"fold_{k}" / "metrics.jsonl")
        for k in (fold["fold"] for fold in result["folds"])
    }
    dataset = (result.get("config") or {}).get("data", {}).get("name", "")
    title = escape(" · ".join(filter(None, [workdir.resolve().name, dataset])))
    names, reconstructs = result.get("class_names"), result.get("task") == reconstruction.TASK
    head, folds = (_reconstruction, _errors) if reconstructs else (_headline, _folds)
    parts = {"Folds": folds(result), "Curves": _curves(lines)}
    if not reconstructs:
        rows = crossval.read_predictions(workdir / "predictions.csv", names)
        parts["Confusion"] = _confusion(np.array(result["confusion"]), names)
        parts["Classes"] = _classes(result)
        parts["Calibration"] = _calibration(result)
        parts["Worst mistakes"] = _worst(rows, names)
    parts["Clips left out"] = _left_out(result["clips_left_out"])
    parts["Sources in more than one fold"] = _crossings(result["crossings"], names)
    parts["Configuration"] = _record(result)
    sections = [head(result, title), *(_section(*part) for part in parts.items())]
    page = f"{HEAD}<title>{title}</title><style>{STYLE}</style></head>\n<body>\n"
    page += "\n".join(filter(None, sections)) + "\n</body></html>\n"
    report, beside = workdir / "report.html", workdir / "report.html.tmp"
    beside.write_text(page, encoding="utf-8", errors="replace")
    os.replace(beside, report)
    return report


def _headline(result: Mapping[str, Any], title: str) -> str:
    mean, spread = percent(result["accuracy_mean"]), crossval.spread(result)
    low, high = result["ci95"]
    if len(result["folds"]) > 1:
        meaning = "Mean test accuracy over the folds ± their sample standard deviation."
    else:
        meaning = "Test accuracy of one fold: no spread is known."
    facts = {
        f"pooled over {result['clips_used']:,} test clips": percent(result["accuracy_pooled"]),
        f"95 % interval, bootstrap over {result['groups']:,} sources": (
            f"{100 * low:.1f} to {percent(high)}"
        ),
        "macro F1": percent(result["macro_f1"]),
        "macro precision": percent(result["macro_precision"]),
        "macro recall": percent(result["macro_recall"]),
        "mAP@3": f"{result['map3']:.3f}",
        "calibration error (ECE)": _number(result.get("ece")),
        "Brier score": _number(result.get("brier")),
    }
    if watched := result.get("watched"):
        facts["best epoch on the test fold: no result"] = percent(watched["accuracy_mean"])
    told = "".join(f"<div><b>{fact}</b><span>{name}</span></div>" for name, fact in facts.items())
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in crossval.remarks(result))
    return (
        f'<h1>{title}</h1><div class="figure">{mean} <span>{spread}</span></div>'
        f'<div class="facts">{told}</div><p>{meaning} {escape(result["protocol"])}</p>{notes}'
    )


def _reconstruction(result: Mapping[str, Any], title: str) -> str:
    notes = "".join(
        f'<p class="note">{escape(text)}</p>' for text in reconstruction.remarks(result)
    )
    return (
        f'<h1>{title}</h1><div class="figure">{result["loss_mean"]:.3f} '
        f"<span>{reconstruction.spread(result)}</span></div><p>Reconstruction loss. "
        f"{escape(result['protocol'])}</p>{notes}"
    )


def _errors(result: Mapping[str, Any]) -> str:
    rows = []
    for fold in result["folds"]:
        clips = [f"{fold['clips'][split]:,}" for split in ("train", "validation", "test")]
        figures = [_number(fold[name]) for name in ("loss", "loss_of_mean")]
        time = crossval.duration(fold["seconds"])
        rows.append([fold["fold"], *figures, *clips, f"{fold['steps']:,}", time])
    head = "fold,loss,of the mean,training clips,validation clips,test clips,steps,time"
    return _table(head.split(","), rows)


def _folds(result: Mapping[str, Any]) -> str:
    rows = []
    for fold in result["folds"]:
        clips = [f"{fold['clips'].get(split, 0):,}" for split in ("train", "validation", "test")]
        figures = [percent(fold["accuracy"]), percent(fold["macro_f1"]), _number(fold["loss"])]
        time = crossval.duration(fold["seconds"])
        rows.append([fold["fold"], *figures, *clips, f"{fold['steps']:,}", time])
    head = "fold,accuracy,macro F1,loss,training clips,validation clips,test clips,steps,time"
    return _table(head.split(","), rows)


def _curves(folds: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    if not (panels := plots.curve_panels(folds)):
        return ""
    names = {"soft": "training", "blue": "validation"}
    if any('class="watched"' in panel for panel in panels):
        names["red"] = "test fold, watched only"
    lines = "".join(
        f'<i style="color: var(--{colour})"></i>{name}' for colour, name in names.items()
    )
    key = f'<p class="key">against the step, a line a fold:{lines}</p>'
    return f'{key}<div class="panels">{"".join(panels)}</div>'


def _confusion(confusion: np.ndarray, names: Sequence[str]) -> str:
    wrong = confusion * ~np.eye(len(names), dtype=bool)
    most = [divmod(cell, len(names)) for cell in np.argsort(-wrong, axis=None, kind="stable")[:5]]
    pairs = [f"{names[i]} for {names[j]} ({wrong[i, j]})" for i, j in most if wrong[i, j]]
    text = "A row is a true class, a column a prediction; the shade is the share of the row."
    if pairs:
        text += " Taken most often: " + ", ".join(pairs) + "."
    svg = plots.confusion_svg(confusion, names)
    return f'<p class="soft">{escape(text)}</p><div class="scroll">{svg}</div>'


def _classes(result: Mapping[str, Any]) -> str:
    rows = []
    for entry in sorted(result["per_class"], key=lambda entry: entry["f1"]):
        width = f'<span class="bar" style="width: {100 * entry["f1"]:.1f}%"></span>'
        bar = _Html(f'<span class="track">{width}</span>')
        figures = [percent(entry[name]) for name in ("f1", "precision", "recall")]
        rows.append([entry["class"], bar, *figures, f"{entry['support']:,}"])
    return _table(["class, weakest first", "", "F1", "precision", "recall", "clips"], rows, {0, 1})


def _calibration(result: Mapping[str, Any]) -> str:
    if not (diagram := result.get("reliability")):
        return ""
    text = (
        "Share of predictions that are right, against the probability that they were given; on the "
        "dashed line they mean what they say. Cross-entropy on the test clips: "
        f"{_number(result['loss'])} nats."
    )
    return f'<p class="soft">{text}</p>{plots.reliability_svg(diagram)}'


def _worst(rows: crossval.Predictions, names: Sequence[str]) -> str:
    loss = metrics.cross_entropy(rows.probabilities, rows.labels)
    wrong = np.flatnonzero(rows.predicted != rows.labels)
    if not len(wrong):
        return '<p class="soft">Every test clip was classified correctly.</p>'
    listed = []
    for i in wrong[np.argsort(-loss[wrong], kind="stable")][:WORST]:
        truth, predicted = rows.labels[i], rows.predicted[i]
        given = rows.probabilities[i]
        listed.append(
            [
                *(rows.clips[i], rows.folds[i]),
                *(names[truth], _share(given[truth])),
                *(names[predicted], _share(given[predicted])),
                f"{loss[i]:.2f}",
            ]
        )
    text = f"{len(wrong):,} of {len(rows.labels):,} test clips are wrong; highest loss first."
    head = ["clip", "fold", "truth", "its probability", "prediction", "its probability", "loss"]
    return f'<p class="soft">{text}</p>{_table(head, listed, {0, 2, 4})}'


def _left_out(clips: Sequence[Mapping[str, Any]]) -> str:
    if not clips:
        return ""
    return _table(["clip", "reason"], [[c["clip"], c["reason"]] for c in clips], {0, 1})


def _crossings(crossings: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> str:
    if not crossings:
        return ""
    rows = []
    for crossing in crossings:
        folds = ", ".join(map(str, crossing.get("folds", ())))
        labels = ", ".join(names[label] for label in crossing.get("labels", ()) if names)
        rows.append([crossing.get("group", ""), folds, labels])
    text = "The publisher's folds were kept as they are; they divide these source recordings."
    return f'<p class="soft">{text}</p>{_table(["source", "folds", "classes"], rows, {0, 1, 2})}'


def _record(result: Mapping[str, Any]) -> str:
    config = "\n".join(f"{key} = {value!r}" for key, value in _flat(result.get("config") or {}))
    versions = "\n".join(f"{name} {version}" for name, version in result["versions"].items())
    sources = [result[key] for key in ("citation", "licence", "homepage") if result.get(key)]
    told = "".join(f'<p class="soft">{escape(str(text))}</p>' for text in sources)
    return (
        f"{told}<pre>{escape(config)}</pre>"
        f"<details><summary>Versions</summary><pre>{escape(versions)}</pre></details>"
    )


class _Html(str):
    """Markup of ours, which is not escaped again."""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], text: Iterable[int] = ()) -> str:
    """An HTML table, every cell escaped; the columns of `text` stand left, numbers right."""
    left = set(text)

    def cell(i: int, value: Any, tag: str) -> str:
        shown = value if isinstance(value, _Html) else escape(str(value))
        kind = " long" * (len(str(value)) > 48 and not isinstance(value, _Html))
        return f'<{tag} class="{"" if i in left else "n"}{kind}">{shown}</{tag}>'

    def line(values: Sequence[Any], tag: str) -> str:
        return f"<tr>{''.join(cell(i, value, tag) for i, value in enumerate(values))}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{line(head, "th")}\n{body}</table></div>'


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}" if body else ""


def _share(probability: float) -> str:
    return f"{probability:.3f}" if probability >= 0.001 else "< 0.001"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
