"""Whether what was written says what the checkpoint says."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxsound.data import audio
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting.program import Run
from jaxsound.serving.windows import windows

BATCH = 3
MOST = 64  # windows that are compared


def recorded(classifier: Classifier, paths: Sequence[Path]) -> list[np.ndarray]:
    """The first windows of recordings, as the classifier would cut them: float32 `[<= n]` each.

    Raises:
      AudioError: a file that cannot be used.
    """
    found: list[np.ndarray] = []
    for path in paths:
        samples, rate = audio.read(path)
        cuts = windows([samples.astype(np.float32) / 32768], rate, classifier.cut)
        found += [cut for _, cut in cuts]
    return found[:MOST]


def synthesised(classifier: Classifier) -> list[np.ndarray]:
    """A whole window of every sound of the synthetic data set, repeated to fill it."""
    from jaxsound.data import synthetic  # with it comes tensorflow_datasets

    found = []
    for name in synthetic.CLASSES:
        samples, rate = synthetic.sound(name, source=0, take=0)
        sound = audio.resample(samples.astype(np.float32) / 32768, rate, classifier.cut.rate)
        found.append(np.resize(sound, classifier.cut.size))
    return found


def difference(classifier: Classifier, run: Run, clips: Sequence[np.ndarray]) -> float:
    """The greatest difference in probability, over all clips and over halves of some.

    Clips go in three at a time and one at a time. What a shorter one leaves of the window is noise,
    which a program that heeds `samples` does not hear.

    Args:
      classifier: what is right.
      run: what is compared, `(waveform [B, n], samples [B]) -> [B, C]`.
      clips: float32 `[<= n]` each.

    Returns:
      The difference; NaN where something is not finite.
    """
    largest = [
        np.abs(run(*_padded(batch, classifier.cut.size)) - _expected(classifier, batch)).max()
        for batch in _batches([clip for clip in clips if len(clip)])
    ]
    return float(np.max(largest))


def _batches(clips: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    halves = [clip[: -(-len(clip) // 2)] for clip in clips[: BATCH - 1]]
    yield from (list(clips[i : i + BATCH]) for i in range(0, len(clips), BATCH))
    yield from ([clip] for clip in (clips[0], *halves))
    yield [*halves, clips[-1]]


def _padded(clips: Sequence[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    waveform = rng.uniform(-1, 1, (len(clips), size)).astype(np.float32)
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    return waveform, np.array([len(clip) for clip in clips], np.int32)


def _expected(classifier: Classifier, clips: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([classifier.score([clip])[0] for clip in clips])
