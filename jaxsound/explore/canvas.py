"""One look for every figure, drawn by Agg: no pyplot, no window, no state of matplotlib's."""

import contextlib
import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Figures have no background, and colours that can be read on a light and on a dark page.
INK, RED = "#747983", "#c8523a"
BLUE, FILL, PALE = "#3d7cc9", "#4480c6", "#4480c666"
WIDTH = 10.0  # inches
DPI = 130
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8e9680",
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 9,
    "grid.color": "#8a8e9640",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$$$"
    "xtick.color": "#8a8e9680",
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": "#8a8e9680",
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Everything is drawn within this; notices about fonts, caches and glyphs are kept quiet."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def new(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, height: float, along: str = "", up: str = "") -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes of this height in inches, with a label for all x and all y axes."""
    columns = count if count <= 5 else min((4, 5, 3), key=lambda columns: -count % columns)
    rows = math.ceil(count / columns)
    figure = new(WIDTH if columns > 2 else WIDTH * columns / 3, height * rows + 0.3)
    label = {"fontsize": 9, "color": INK}
    if along:
        figure.supxlabel(along, **label)
    if up:
        figure.supylabel(up, **label)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for panel in axes:
        panel.locator_params(axis="x", nbins=5)
    return figure, axes


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def shown(name: str, longest: int = 28) -> str:
    """A name as a figure can show it: cut in the middle, and without what is no text."""
    name = name.encode("utf-8", "replace").decode()
    return name if len(name) <= longest else f"{name[: longest - 9]}…{name[-8:]}"


def wide(classes: int) -> float:
    """Width in inches of a figure with a column for each class."""
    return max(WIDTH, 1 + 0.19 * classes)


def class_ticks(axes: Axes, names: Sequence[str], along: float) -> None:
    """Class names below the axis: level where they fit into `along` inches, upright else."""
    labels = [shown(name) for name in names]
    room = along / max(len(labels), 1) / 0.068 - 1.5  # characters
    wrapped = [_in_lines(label, room) for label in labels]
    level = all(len(line) <= room for label in wrapped for line in label.split("\n"))
    labels = wrapped if level else labels
    size = 8 if len(labels) <= 50 else 7
    axes.set_xticks(range(len(labels)), labels, rotation=0 if level else 90, fontsize=size)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.7, len(labels) - 0.3)


def _in_lines(label: str, room: float) -> str:
    """Broken after underscores and blanks, where it is longer than there is room."""
    lines = [""]
    for word in re.findall(r"[^_ ]+[_ ]*|[_ ]+", label):
        if lines[-1] and len(lines[-1] + word) > room:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def picture(
    axes: Axes, values: np.ndarray, seconds: float, low: float, high: float, cmap: str = "magma"
) -> Any:
    """`[T, M]` with time in seconds along and bins upwards; the y axis counts bins."""
    extent = (0.0, max(seconds, 1e-3), -0.5, values.shape[1] - 0.5)
    axes.spines[["left", "bottom"]].set_visible(False)
    return axes.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        cmap=cmap,
        vmin=low,
        vmax=high,
        extent=extent,
        interpolation="nearest" if values.shape[0] < 300 else "antialiased",
    )


def hertz_ticks(axes: Axes, centres: np.ndarray) -> None:
    """Marks round frequencies on a y axis that counts bins; `centres` [M] rise, in Hz."""
    marks, last, apart = [], -np.inf, len(centres) / 7
    for hertz in (50, 100, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000):
        at = float(np.interp(hertz, centres, np.arange(len(centres)), left=np.nan, right=np.nan))
        if at - last >= apart:
            marks.append((at, f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz}"))
            last = at
    axes.set_yticks([at for at, _ in marks], [text for _, text in marks])


def colour_bar(figure: Figure, image: Any, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), label=label, pad=0.015, fraction=0.03, aspect=40)
    bar.outline.set_visible(False)


def limits(values: Sequence[np.ndarray], low: float = 0.01, high: float = 0.998) -> Any:
    """Two quantiles over all of the arrays, at least a little apart."""
    everything = np.concatenate([np.ravel(v) for v in values])
    bottom, top = np.quantile(everything[np.isfinite(everything)], [low, high])
    return float(bottom), float(max(top, bottom + 1e-6))
