"""Pictures: SVG for the report, which follows the reader's colours, and RGB for TensorBoard.

Matplotlib is imported when a picture is drawn, without pyplot: no window, no global state.
"""

import html
import logging
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Curve = list[tuple[int, float]]

PANELS = (  # title, tags
    ("loss", "train/loss", "validation/loss", "test/loss"),
    ("accuracy", "train/accuracy", "validation/accuracy", "test/accuracy"),
    ("learning rate", "train/learning_rate"),
    ("gradient norm", "train/gradient_norm"),
    ("clips per second", "train/clips_per_second"),
)
LINES = {"train": "thin", "validation": "strong", "test": "watched"}
BLUE, GREY = "#2266bb", "#b9bcc2"  # of figures that are files
MAX_POINTS = 200  # of a curve; more cannot be seen
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 210, 48, 10, 26, 22


def curve_panels(folds: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One SVG for each of `PANELS` that has anything to show.

    Args:
      folds: fold -> the lines of its `metrics.jsonl`. Of lines with one step the last counts.
    """
    panels = []
    for title, *tags in PANELS:
        curves = [
            (fold, tag, _thin(_curve(lines, tag))) for tag in tags for fold, lines in folds.items()
        ]
        # One point of the test split is the result and not a curve.
        if curves := [c for c in curves if len(c[2]) > c[1].startswith("test/")]:
            panels.append(_panel(title, curves))
    return panels


def confusion_svg(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    """Counts [C, C], a row a true class; the shade is the share of the row."""
    classes = len(class_names)
    cell = min(max(560 // classes, 13), 44)
    font = min(12, cell - 4)
    margin = 12 + math.ceil(0.58 * font * max(map(len, class_names), default=1))
    side = margin + cell * classes
    parts = [
        f'<svg class="confusion" viewBox="0 0 {side + 2} {side + 2}" width="{side + 2}" '
        f'height="{side + 2}" font-size="{font}" role="img" aria-label="confusion matrix">'
    ]
    for i, name in enumerate(class_names):
        at = margin + cell * (i + 0.5)
        text = html.escape(name)
        parts.append(f'<text class="row" x="{margin - 6}" y="{at:g}">{text}</text>')
        parts.append(
            f'<text class="column" transform="translate({at:g} {margin - 6}) rotate(-90)">'
        )
        parts.append(f"{text}</text>")
    parts.append(f'<rect class="frame" x="{margin}" y="{margin}" width="{side - margin}" ')
    parts.append(f'height="{side - margin}"/>')
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    for i, j in np.argwhere(confusion > 0).tolist():
        x, y = margin + cell * j, margin + cell * i
        kind = ("hit" if i == j else "miss") + (" full" if shares[i, j] > 0.5 else "")
        names = f"{class_names[i]} taken for {class_names[j]}" if i != j else class_names[i]
        parts.append(
            f'<g class="{kind}"><title>{html.escape(names)}: {confusion[i, j]}</title>'
            f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" '
            f'fill-opacity="{0.12 + 0.8 * shares[i, j]:.2f}"/>'
            f'<text x="{x + cell / 2:g}" y="{y + cell / 2:g}">{confusion[i, j]}</text></g>'
        )
    return "".join(parts) + "</svg>"


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Counts [C, C] as a picture, uint8 [H, W, 3]; its size depends on C alone."""
    classes = len(class_names)
    size = min(max(5.0, 2.2 + 0.22 * classes), 20.0)
    with _quiet_figure(size, size) as figure:
        axes = figure.add_subplot()
        shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        font = {"fontsize": 9 if classes <= 20 else 7, "parse_math": False}
        if classes <= 100:
            axes.set_xticks(range(classes), class_names, rotation=90, **font)
            axes.set_yticks(range(classes), class_names, **font)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if classes <= 60:
            for i, j in np.argwhere(confusion > 0).tolist():
                ink = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, confusion[i, j], ha="center", va="center", color=ink, **font)
        return _pixels(figure)


def spectrogram_figure(
    features: np.ndarray, lengths: np.ndarray, titles: Sequence[str]
) -> np.ndarray:
    """Features [n, T, M] side by side as a picture, uint8 [H, W, 3]; frames past a length blank.

    The picture's size depends on n alone; the shades run over the valid frames of all n.
    """
    features = np.asarray(features, np.float32)
    count, frames, bins = features.shape
    valid = np.arange(frames) < np.asarray(lengths)[:, None]
    shown = features[valid]
    shown = shown[np.isfinite(shown)]
    low, high = np.quantile(shown, [0.01, 0.995]) if shown.size else (0.0, 1.0)
    columns = min(max(count, 1), 4)
    rows = max(1, -(-count // columns))
    width, height = 3.2 * columns, 2.2 * rows
    # Not "constrained": that layout draws everything three times to find these margins.
    with _quiet_figure(width, height, layout="none") as figure:
        figure.subplots_adjust(
            left=0.4 / width,
            right=1 - 0.1 / width,
            bottom=0.25 / height,
            top=1 - 0.25 / height,
            wspace=0.2,
            hspace=0.3,
        )
        for i in range(count):
            axes = figure.add_subplot(rows, columns, i + 1)
            image = np.where(valid[i, :, None], features[i], np.nan).T
            if bins == 1:  # samples
                axes.plot(image[0], linewidth=0.5)
                axes.set_ylim(low, high)
            else:
                axes.imshow(image, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
                axes.set_ylim(-0.5, bins - 0.5)
            axes.set_title(titles[i], fontsize=9, parse_math=False)
            axes.set_xlim(-0.5, frames - 0.5)
            axes.tick_params(labelsize=7)
        return _pixels(figure)


def reliability_svg(diagram: Mapping[str, Sequence[float]]) -> str:
    """What `metrics.reliability` gives: a bar of accuracy a bin, and the diagonal to be reached."""
    bins, side = len(diagram["count"]), 200
    wide = side / bins
    parts = [
        f'<svg class="reliability" viewBox="-34 -6 {side + 42} {side + 30}" width="{side + 42}" '
        f'height="{side + 30}" font-size="11" role="img" aria-label="reliability diagram">'
    ]
    for i, (count, accuracy) in enumerate(zip(diagram["count"], diagram["accuracy"], strict=True)):
        if count:
            told = f"confidence {i / bins:.2f} to {(i + 1) / bins:.2f}: "
            told += f"{100 * accuracy:.1f} % of {count} right"
            parts.append(f'<rect x="{i * wide:.1f}" y="{side * (1 - accuracy):.1f}" ')
            parts.append(f'width="{wide - 1:.1f}" height="{side * accuracy:.1f}">')
            parts.append(f"<title>{told}</title></rect>")
    parts.append(f'<line x1="0" y1="{side}" x2="{side}" y2="0"/>')
    for value in (0, 0.5, 1):
        at = side * value
        parts.append(f'<text text-anchor="end" x="-6" y="{side - at + 4:g}">{value:g}</text>')
        parts.append(f'<text text-anchor="middle" x="{at:g}" y="{side + 16}">{value:g}</text>')
    return "".join(parts) + "</svg>"


def reliability_figure(diagrams: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """Reliability diagrams side by side under their names, uint8 [H, W, 3]."""
    with _quiet_figure(3.6 * len(diagrams), 4.0) as figure:
        for i, (name, diagram) in enumerate(diagrams.items()):
            axes = figure.add_subplot(1, len(diagrams), i + 1)
            count = np.asarray(diagram["count"])
            wide = 1 / len(count)
            axes.bar(
                np.arange(len(count)) * wide,
                np.where(count > 0, diagram["accuracy"], 0),
                width=0.94 * wide,
                align="edge",
                color=BLUE,
                label="accuracy",
            )
            axes.bar(
                np.arange(len(count)) * wide,
                count / max(count.sum(), 1),
                width=0.94 * wide,
                align="edge",
                color="none",
                edgecolor=GREY,
                label="share of clips",
            )
            axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=name, aspect="equal")
            if not i:
                axes.legend(loc="upper left", fontsize=8, frameon=False)
        return _pixels(figure)


def robustness_figure(result: Mapping[str, Any]) -> np.ndarray:
    """Accuracy against severity, a panel a corruption, as a picture, uint8 [H, W, 3].

    The strong line is the mean over folds and the thin ones are the folds; dots are chance.
    """
    parts, clean = result["corruptions"], result["clean"]
    columns = min(len(parts), 4)
    rows = -(-len(parts) // columns)
    with _quiet_figure(3.1 * columns, 2.7 * rows) as figure:
        for i, part in enumerate(parts):
            axes = figure.add_subplot(rows, columns, i + 1)
            for fold, accuracy in clean["folds"].items():
                later = [level["folds"][fold] for level in part["severities"]]
                axes.plot([accuracy, *later], color=GREY, linewidth=0.7)
            means = [level["accuracy_mean"] for level in (clean, *part["severities"])]
            axes.plot(means, color=BLUE, linewidth=2, marker="o", markersize=4)
            axes.axhline(1 / result["classes"], color="black", linewidth=0.8, linestyle=":")
            names = ["clean", *(f"{level['level']:g}" for level in part["severities"])]
            axes.set_xticks(range(len(names)), names, fontsize=8)
            axes.set(ylim=(0, 1.02), title=f"{part['name']} ({part['unit']})")
            axes.title.set_fontsize(10)
            axes.set_ylabel("" if i % columns else "accuracy")
        return _pixels(figure)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes a picture, uint8 [H, W, 3]; it is there whole or not at all."""
    from matplotlib import image

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    image.imsave(beside, pixels, format="png")
    beside.replace(path)


class _quiet_figure:
    """A matplotlib Figure drawn by Agg; no notices about fonts, caches or missing glyphs."""

    def __init__(self, width: float, height: float, layout: Any = "constrained") -> None:
        self._size = (width, height)
        self._layout = layout
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> Any:
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self._size, dpi=100, layout=self._layout)
        FigureCanvasAgg(figure)
        return figure

    def __exit__(self, *error: Any) -> None:
        self._warnings.__exit__(*error)


def _pixels(figure: Any) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _curve(lines: Iterable[Mapping[str, Any]], tag: str) -> Curve:
    values = {line["step"]: line[tag] for line in lines if line.get(tag) is not None}
    return sorted(values.items())


def _thin(curve: Curve) -> Curve:
    """At most MAX_POINTS points, each the mean of its neighbours."""
    stride = max(1, -(-len(curve) // MAX_POINTS))
    parts = [curve[i : i + stride] for i in range(0, len(curve), stride)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _panel(title: str, curves: Sequence[tuple[int, str, Curve]]) -> str:
    last = max(curve[-1][0] for _, _, curve in curves) or 1
    values = [value for _, _, curve in curves for _, value in curve]
    # Not the maximum: one wild step would flatten all others.
    top = 1.0 if title == "accuracy" else max(float(np.quantile(values, 0.99)) * 1.1, 0.0) or 1.0
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">']
    parts.append(f'<text class="title" x="0" y="12">{title}</text>')
    for value in _ticks(top):
        y = TOP + down * (1 - value / top)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{y:.1f}">{value:g}</text>')
    for value in _ticks(last):
        x = LEFT + across * value / last
        parts.append(f'<text class="x" x="{x:.1f}" y="{HEIGHT - 4}">{value:,.0f}</text>')
    parts.append(f'<svg x="{LEFT}" y="{TOP}" width="{across}" height="{down}">')  # it clips
    for fold, tag, curve in curves:
        points = " ".join(
            f"{across * step / last:.1f},{down * (1 - value / top):.1f}" for step, value in curve
        )
        kind = LINES[tag.partition("/")[0]]
        parts.append(f'<polyline class="{kind}" points="{points}"><title>{tag}, fold {fold}')
        parts.append("</title></polyline>")
    return "".join(parts) + "</svg></svg>"


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 to `top`, four to seven of them."""
    rough = top / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    return [step * i for i in range(math.floor(top / step * 1.001) + 1)]
