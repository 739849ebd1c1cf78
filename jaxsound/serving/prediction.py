"""What a classifier says of a recording, and the timeline that can be made of it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

THRESHOLD = 0.5  # probability from which on a window's first class stands in the timeline


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a recording in which one class came first; seconds, and its mean probability."""

    start: float
    end: float
    label: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Probabilities of a recording, and of its windows. W windows, C classes, D widths.

    A recording no longer than the clips of the training has one window. Where a recording has
    both, windows of silence do not count in `probabilities` and `embedding`.
    """

    classes: tuple[str, ...]
    seconds: float
    probabilities: np.ndarray  # [C] float32, the mean over windows
    embedding: np.ndarray  # [D] float32, likewise; folds one after another
    silent: bool  # nothing but silence: the probabilities mean nothing
    starts: np.ndarray  # [W] float64, seconds
    ends: np.ndarray  # [W]
    windows: np.ndarray  # [W, C] float32
    quiet: np.ndarray  # [W] bool, windows of silence

    @property
    def label(self) -> str:
        """The class of the highest probability."""
        return self.classes[int(self.probabilities.argmax())]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The `count` most probable classes, the first one first, with their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    def timeline(self, threshold: float = THRESHOLD) -> list[Segment]:
        """Stretches of one class: neighbouring windows that agree, merged.

        Where windows overlap, each speaks for what is nearer to its middle than to a neighbour's.
        Silence, and windows whose first class is less probable than `threshold`, leave gaps.
        """
        middles = (self.starts + self.ends) / 2
        edges = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [self.seconds]])
        first = self.windows.argmax(1)
        sure = (self.windows.max(1) >= threshold) & ~self.quiet
        marks = np.where(sure, first, -1)
        begins = np.flatnonzero(np.diff(marks, prepend=-2))
        segments = []
        for begin, end in zip(begins, [*begins[1:], len(marks)], strict=True):
            if marks[begin] >= 0:
                probability = self.windows[begin:end, marks[begin]].mean()
                span = float(edges[begin]), float(edges[end])
                segments.append(Segment(*span, self.classes[marks[begin]], float(probability)))
        return segments


def audacity_labels(segments: Sequence[Segment]) -> str:
    """A label track for Audacity: start, end and class on a line each, tabs between them."""
    return "".join(f"{s.start:.3f}\t{s.end:.3f}\t{s.label}\n" for s in segments)
