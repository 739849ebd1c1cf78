"""Figures of the data set as a whole: how many, how long, how loud, at which rate."""

import collections

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from jaxsound.explore import canvas
from jaxsound.explore.canvas import BLUE, FILL, INK, PALE, RED
from jaxsound.explore.survey import SILENT, Survey

SPREAD = 8.0  # longest over shortest, from which lengths are shown on a logarithmic axis


def class_counts(survey: Survey) -> Figure:
    """Clips of each class, the largest first."""
    counts = np.bincount(survey.labels, minlength=len(survey.class_names))
    order = np.argsort(-counts, kind="stable")
    figure = canvas.new(canvas.wide(len(order)), 4.2)
    axes = figure.add_subplot()
    pale = survey.verified is not None
    axes.bar(range(len(order)), counts[order], 0.72, color=PALE if pale else FILL)
    if survey.verified is not None:
        checked = np.bincount(survey.labels[survey.verified], minlength=len(counts))
        axes.bar(range(len(order)), checked[order], 0.72, color=FILL)
        for name, colour in (("all labels", PALE), ("verified by hand", FILL)):
            axes.bar([0], [0], color=colour, label=name)
        axes.legend(loc="upper right")
    elif len(order) <= 60:
        for x, count in enumerate(counts[order]):
            axes.annotate(
                f"{count:,}", (x, count), (0, 2), textcoords="offset points", ha="center",
                fontsize=7, color=INK,
            )  # fmt: skip
    canvas.class_ticks(axes, [survey.class_names[i] for i in order], 9)
    _count_axis(axes, "clips")
    return figure


def lengths(survey: Survey) -> Figure:
    """How long the clips are: all together, then each class where they differ."""
    seconds = survey.seconds
    shortest, longest = float(seconds.min()), float(seconds.max())
    if survey.equally_long:
        figure = canvas.new(canvas.WIDTH, 2.4)
        axes = figure.add_subplot()
        axes.hist(
            seconds, np.linspace(max(0.0, shortest - 1), longest + 1, 50).tolist(), color=FILL
        )
        axes.set_xlabel("length, s")
        _count_axis(axes, "clips")
        return figure
    figure = canvas.new(canvas.wide(len(survey.class_names)), 6.6)
    whole, classes = figure.subplots(2, 1, height_ratios=(2, 3))
    logarithmic = longest > SPREAD * shortest
    bins = np.geomspace if logarithmic else np.linspace
    whole.hist(seconds, bins(shortest, longest, 50), color=FILL)
    whole.set_xlabel("length, s")
    _count_axis(whole, "clips")
    order = _boxes(classes, survey, seconds)
    canvas.class_ticks(classes, [survey.class_names[i] for i in order], 9)
    classes.set_ylabel("length, s")
    classes.grid(axis="y")
    if logarithmic:
        whole.set_xscale("log")
        classes.set_yscale("log")
        _plain_seconds(whole.xaxis, shortest, longest)
        _plain_seconds(classes.yaxis, shortest, longest)
    return figure


def loudness(survey: Survey) -> Figure:
    """RMS level of all clips, then of each class."""
    figure = canvas.new(canvas.wide(len(survey.class_names)), 6.6)
    whole, classes = figure.subplots(2, 1, height_ratios=(2, 3))
    low = max(SILENT, np.floor(survey.loudness.min() / 5) * 5)
    whole.hist(survey.loudness, np.arange(low, 1.0, 1.0 if low > -60 else 2.0), color=FILL)
    whole.set_xlabel("RMS level, dBFS")
    _count_axis(whole, "clips")
    order = _boxes(classes, survey, survey.loudness)
    canvas.class_ticks(classes, [survey.class_names[i] for i in order], 9)
    classes.set_ylabel("RMS level, dBFS")
    classes.grid(axis="y")
    return figure


def sample_rates(survey: Survey) -> Figure:
    """Clips at each sample rate of the files."""
    counts = sorted(collections.Counter(survey.rates.tolist()).items())
    figure = canvas.new(max(4.0, min(canvas.WIDTH, 1.6 + 0.8 * len(counts))), 3.2)
    axes = figure.add_subplot()
    bars = axes.bar(range(len(counts)), [n for _, n in counts], 0.6, color=FILL)
    axes.bar_label(bars, [f"{n:,}" for _, n in counts], padding=2, fontsize=8, color=INK)
    axes.set_xticks(range(len(counts)), [f"{rate / 1000:g}" for rate, _ in counts])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.8, len(counts) - 0.2)
    axes.set_xlabel("sample rate, kHz")
    _count_axis(axes, "clips")
    return figure


def _boxes(axes: Axes, survey: Survey, values: np.ndarray) -> list[int]:
    """A box for each class that has clips, by median; returns the classes in that order.

    Boxes are quartiles and whiskers the 5th and 95th percentile; dots lie beyond. Few clips are
    drawn as they are.
    """
    parts = {i: values[survey.labels == i] for i in range(len(survey.class_names))}
    order = sorted((i for i in parts if len(parts[i])), key=lambda i: float(np.median(parts[i])))
    rng = np.random.default_rng(0)
    for x, i in enumerate(order):
        if len(parts[i]) < 20:
            where = x + rng.uniform(-0.18, 0.18, len(parts[i]))
            axes.plot(where, parts[i], ".", color=BLUE, ms=5, alpha=0.6, mew=0)
            axes.hlines(np.median(parts[i]), x - 0.3, x + 0.3, color=RED, lw=1.4)
    drawn = [x for x, i in enumerate(order) if len(parts[i]) >= 20]
    if drawn:
        axes.boxplot(
            [parts[order[x]] for x in drawn],
            positions=drawn,
            widths=0.55,
            whis=(5, 95),
            patch_artist=True,
            manage_ticks=False,
            showcaps=False,
            boxprops={"facecolor": PALE, "edgecolor": BLUE, "linewidth": 0.8},
            medianprops={"color": RED, "linewidth": 1.4},
            whiskerprops={"color": BLUE, "linewidth": 0.8},
            flierprops={"marker": ".", "ms": 3, "mec": "none", "mfc": BLUE, "alpha": 0.5},
        )
    return order


def _count_axis(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.locator_params(axis="y", integer=True)
    axes.grid(axis="y")
    axes.margins(y=0.1)


def _plain_seconds(axis: Axis, low: float, high: float) -> None:
    """Ticks of 1, 2, 5, 10 seconds on a logarithmic axis."""
    every = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
    marks = [mark for mark in every if low * 0.9 <= mark <= high * 1.1]
    axis.set_ticks(marks, [f"{mark:g}" for mark in marks])
    axis.set_ticks([], minor=True)
