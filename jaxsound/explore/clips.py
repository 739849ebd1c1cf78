"""Figures of single clips: waveforms, spectrograms, MFCC, a surface, a grid of classes."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxsound.explore import canvas
from jaxsound.explore.canvas import BLUE
from jaxsound.explore.survey import (
    Clip,
    features,
    linear_decibels,
    mel_centres,
    of_kind,
)
from jaxsound.features.frontend import FrontendConfig

DEPTH = 70.0  # dB of a spectrogram that are shown


def waveforms(clips: Sequence[Clip]) -> Figure:
    """The waveform of each clip, each on a scale of its own."""
    figure, axes = canvas.panels(len(clips), 1.35, "time, s")
    for panel, clip in zip(axes, clips, strict=True):
        time, low, high = _envelope(clip)
        panel.fill_between(time, low, high, color=BLUE, lw=0.4)
        peak = max(float(np.abs(clip.waveform).max(initial=0)), 1e-5)
        panel.set_ylim(-1.05 * peak, 1.05 * peak)
        panel.set_yticks([-peak, 0, peak], [f"−{peak:.2g}", "0", f"{peak:.2g}"])
        panel.set_xlim(0, clip.seconds)
        panel.set_title(canvas.shown(clip.name))
    return figure


def linear_spectrograms(clips: Sequence[Clip], config: FrontendConfig) -> Figure:
    """|STFT| in dB below each clip's maximum, on a linear axis."""
    figure, axes = canvas.panels(len(clips), 1.6, "time, s", "frequency, kHz")
    for panel, clip in zip(axes, clips, strict=True):
        values = linear_decibels(clip, config)
        image = canvas.picture(panel, values, clip.seconds, -DEPTH, 0.0)
        top = config.sample_rate / 2000
        step = next(s for s in (1, 2, 4, 5, 8, 10, 20, 40) if top / s <= 5)
        marks = np.arange(0, top + 1e-6, step)
        panel.set_yticks(marks / top * (values.shape[1] - 1), [f"{mark:g}" for mark in marks])
        panel.set_title(canvas.shown(clip.name))
    canvas.colour_bar(figure, image, axes, "dB below the clip's maximum")
    return figure


def mel_spectrograms(clips: Sequence[Clip], config: FrontendConfig) -> Figure:
    """Log-mel of each clip by the experiment's filters, one scale for all."""
    config = of_kind(config, "log_mel")
    values = [features(clip, config) for clip in clips]
    high = max(float(value.max()) for value in values)
    low = min(float(np.quantile(value, 0.02)) for value in values)
    figure, axes = canvas.panels(len(clips), 1.6, "time, s", "frequency, Hz")
    for panel, clip, value in zip(axes, clips, values, strict=True):
        image = canvas.picture(panel, value, clip.seconds, max(low, high - 1.4 * DEPTH), high)
        canvas.hertz_ticks(panel, mel_centres(config))
        panel.set_title(canvas.shown(clip.name))
    canvas.colour_bar(figure, image, axes, "dB")
    return figure


def mfccs(clips: Sequence[Clip], config: FrontendConfig) -> Figure:
    """Cepstral coefficients from 1 on; coefficient 0, the level, would drown the others."""
    config = of_kind(config, "mfcc")
    values = [features(clip, config)[:, 1:] for clip in clips]
    low, high = canvas.limits([value[:, 1:] for value in values], 0.005, 0.995)
    figure, axes = canvas.panels(len(clips), 1.5, "time, s", "coefficient")
    for panel, clip, value in zip(axes, clips, values, strict=True):
        image = canvas.picture(panel, value, clip.seconds, low, high, "viridis")
        step = max(1, math.ceil(value.shape[1] / 5))
        marks = list(range(step - 1, value.shape[1], step))
        panel.set_yticks(marks, [str(mark + 1) for mark in marks])
        panel.set_title(canvas.shown(clip.name))
    canvas.colour_bar(figure, image, axes, "value")
    return figure


def surface(clip: Clip, config: FrontendConfig) -> Figure:
    """The log-mel of one clip as a landscape over time and frequency."""
    config = of_kind(config, "log_mel")
    values = features(clip, config)
    values = np.maximum(values, values.max() - DEPTH)
    values = values[:: math.ceil(len(values) / 160)]
    time = np.linspace(0, clip.seconds, len(values))
    bins = np.arange(config.n_mels)
    figure = canvas.new(8, 5.6)
    axes = figure.add_subplot(projection="3d")
    axes.plot_surface(
        *np.meshgrid(time, bins, indexing="ij"), values, cmap="magma", rcount=160, ccount=128, lw=0,
        antialiased=False,
    )  # fmt: skip
    canvas.hertz_ticks(axes, mel_centres(config))
    axes.set(xlabel="time, s", ylabel="Hz", zlabel="dB", title=canvas.shown(clip.name))
    axes.set_box_aspect((1.7, 1.2, 0.7), zoom=1.05)
    axes.view_init(elev=38, azim=-62)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
    return figure


def class_grid(classes: Sequence[Sequence[Clip]], config: FrontendConfig) -> Figure:
    """A strip of log-mels for each class, a clip beside another, each squeezed to one width."""
    config = of_kind(config, "log_mel")
    columns = 2 if len(classes) <= 12 else 4
    strips = [_strip([features(clip, config) for clip in clips]) for clips in classes]
    low, high = canvas.limits([strip[np.isfinite(strip)] for strip in strips], 0.05, 0.999)
    rows = math.ceil(len(classes) / columns)
    figure = canvas.new(canvas.WIDTH, (1.25 if columns == 2 else 1.05) * rows)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(classes))]
    for panel, clips, strip in zip(axes, classes, strips, strict=True):
        canvas.picture(panel, strip, 1.0, low, high)
        panel.set_axis_off()
        panel.set_title(canvas.shown(clips[0].name))
    return figure


def _strip(values: Sequence[np.ndarray], frames: int = 120) -> np.ndarray:
    """`[T, M]` clips after another, each `frames` long, with an empty stripe between them."""
    parts = []
    for value in values:
        picked = np.linspace(0, len(value) - 1, frames).round().astype(int)
        parts += [value[picked], np.full((4, value.shape[1]), np.nan)]
    return np.concatenate(parts[:-1])


def _envelope(clip: Clip, points: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time in seconds, and the least and greatest sample around it."""
    count = min(points, len(clip.waveform))
    edges = np.linspace(0, len(clip.waveform), count + 1).astype(int)[:-1]
    low = np.minimum.reduceat(clip.waveform, edges)
    high = np.maximum.reduceat(clip.waveform, edges)
    return edges / clip.rate, low, high
