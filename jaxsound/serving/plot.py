"""A recording and what is heard in it, in one PNG: waveform, spectrogram, classes over time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from jaxsound.data import audio
from jaxsound.explore import canvas
from jaxsound.explore.survey import mel_centres
from jaxsound.features.frontend import SAMPLES, FrontendConfig, frontend
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.prediction import Prediction
from jaxsound.serving.windows import Cut, windows

COLUMNS = 1600  # of waveform and spectrogram, at most: memory does not grow with the recording
CURVES = 6  # classes drawn
COLOURS = ("#3d7cc9", "#c8523a", "#4f9d69", "#a06cc0", "#d39b2f", "#6b7280")


def plot(
    classifier: Classifier, file: str, prediction: Prediction, target: Path, title: str = ""
) -> None:
    """Reads the file once more and draws it.

    Args:
      classifier: that made the prediction.
      file: the recording.
      prediction: what is drawn.
      target: the PNG.
      title: above the drawing; the file's name if empty.
    """
    with canvas.style():
        figure = canvas.new(canvas.WIDTH, 6.4)
        figure.patch.set_facecolor("white")
        grid = figure.add_gridspec(3, 1, height_ratios=(1, 1.6, 1.4))
        wave, spectrum, classes = (figure.add_subplot(grid[i]) for i in range(3))
        wave.set_title(canvas.shown(title or Path(file).name, 90))
        _waveform(wave, file, prediction.seconds)
        _spectrogram(spectrum, classifier, file, prediction.seconds)
        _classes(classes, prediction)
        target.write_bytes(canvas.png(figure))


def _waveform(axes: Axes, file: str, seconds: float) -> None:
    low, high = np.zeros(COLUMNS), np.zeros(COLUMNS)
    first = 0
    for block, rate, _ in audio.stream(file):
        column = _columns((first + np.arange(len(block))) / rate, seconds)
        np.minimum.at(low, column, block / 32768)
        np.maximum.at(high, column, block / 32768)
        first += len(block)
    axes.fill_between(_times(seconds), low, high, color=canvas.BLUE, linewidth=0.3)
    reach = max(-low.min(), high.max(), 1e-3)
    axes.set(xlim=(0, seconds), ylim=(-reach, reach), ylabel="amplitude")


def _spectrogram(axes: Axes, classifier: Classifier, file: str, seconds: float) -> None:
    config, cut = classifier.frontend, classifier.cut
    if config.kind == SAMPLES:
        config = FrontendConfig(sample_rate=config.sample_rate)
    total, count = np.zeros((COLUMNS, config.features)), np.zeros(COLUMNS)
    apart = Cut(cut.rate, cut.size, cut.size)
    for start, samples in windows(_floats(file), next(audio.stream(file))[1], apart):
        padded = np.zeros((1, cut.size), np.float32)
        padded[0, : len(samples)] = samples
        frames = config.frames(len(samples))
        features = np.asarray(frontend(config, padded, np.array([len(samples)])))[0, :frames]
        at = start / cut.rate + np.arange(len(features)) / len(features) * len(samples) / cut.rate
        column = _columns(at, seconds)
        np.add.at(total, column, features)
        np.add.at(count, column, 1)
    known = np.flatnonzero(count)
    nearest = known[np.abs(np.arange(COLUMNS)[:, None] - known[None]).argmin(1)]
    values = (total[known] / count[known, None])[np.searchsorted(known, nearest)]
    canvas.picture(axes, values, seconds, *canvas.limits([values], 0.02, 0.999))
    if config.kind in ("mel", "log_mel") and not (config.delta or config.resize_bins):
        canvas.hertz_ticks(axes, mel_centres(config))
        axes.set_ylabel("frequency, Hz")


def _classes(axes: Axes, prediction: Prediction) -> None:
    axes.set(xlabel="time, s", ylabel="probability", ylim=(0, 1.02))
    axes.set_xlim(0, prediction.seconds)
    if prediction.silent:
        axes.text(0.5, 0.5, "silence", transform=axes.transAxes, ha="center", va="center")
        return
    peak = np.where(prediction.quiet[:, None], 0, prediction.windows).max(0)
    curves = np.where(prediction.quiet[:, None], np.nan, prediction.windows)
    middles = (prediction.starts + prediction.ends) / 2
    if len(middles) == 1:  # one answer for all of it
        middles, curves = np.array([0.0, prediction.seconds]), np.repeat(curves, 2, axis=0)
    shown = np.argsort(-peak, kind="stable")[:CURVES]
    for colour, index in zip(COLOURS, shown, strict=False):
        name = canvas.shown(prediction.classes[index], 24)
        axes.plot(middles, curves[:, index], color=colour, label=name, linewidth=1.4)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _floats(file: str) -> Iterator[np.ndarray]:
    for block, _, _ in audio.stream(file):
        yield block.astype(np.float32) / 32768


def _columns(seconds: np.ndarray, whole: float) -> np.ndarray:
    return np.minimum((seconds / whole * COLUMNS).astype(np.int64), COLUMNS - 1)


def _times(seconds: float) -> np.ndarray:
    return (np.arange(COLUMNS) + 0.5) / COLUMNS * seconds
