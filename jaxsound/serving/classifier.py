"""A trained run as one object: waveforms and files in, classes and embeddings out."""

import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsound import places
from jaxsound.cache import cache_root
from jaxsound.data import audio
from jaxsound.errors import UserError
from jaxsound.features.frontend import frontend
from jaxsound.serving.prediction import Prediction
from jaxsound.serving.windows import Cut, windows
from jaxsound.training.restore import Trained, restore
from jaxsound.training.step import make_embed_step

SILENCE = 2.0**-12  # a window whose samples all stay below it (-72 dB of full scale) is silent
BATCHES = (1, 8)  # windows computed together; each number is compiled for once
OVERLAP = 0.5  # of neighbouring windows
Sound = str | os.PathLike[str] | np.ndarray
Scores = tuple[np.ndarray, np.ndarray, np.ndarray]  # what `Classifier.score` returns


def load(path: str | os.PathLike[str], batches: Sequence[int] = BATCHES) -> "Classifier":
    """A trained model, ready for recordings of any length and rate.

    Args:
      path: a run (`runs/x`: the mean over its folds), one fold (`runs/x/fold_1`), or several
        of these with commas between them; each may be an address, such as gs://bucket/x.
      batches: numbers of windows that are computed together, rising.

    Raises:
      UserError: no checkpoint there, one that cannot be read, or models that do not go together.
    """
    folders: list[Path] = []
    for place in os.fspath(path).split(","):
        part = places.local(place, cache_root()) if places.is_remote(place) else Path(place)
        folds = sorted(p.parent for p in part.glob("fold_*/checkpoints"))
        folders += [fold for fold in folds if fold.name.count("_") == 1] or [part]
    return Classifier([restore(folder) for folder in folders], batches)


class Classifier:
    """One or more trained models that hear the same frontend; their probabilities are averaged."""

    def __init__(self, models: Sequence[Trained], batches: Sequence[int] = BATCHES):
        """Compiles nothing yet: that happens with the first sound, or by `warm_up`.

        Raises:
          UserError: they have different classes, frontends or lengths.
        """
        first = models[0]
        for other in models[1:]:
            if (other.class_names, other.frontend, other.frames) != (
                first.class_names,
                first.frontend,
                first.frames,
            ):
                raise UserError("models of different classes, frontends or lengths do not average")
        self.models = tuple(models)
        self.batches = tuple(batches)
        self.frontend = first.frontend
        self.frames = first.frames
        size = self.frontend.most
        if not size and self.frontend.resize_frames:
            size = round(first.config.data.pad_seconds * self.frontend.sample_rate)
        if not size:
            size = (self.frames - 1) * self.frontend.step + self.frontend.first
        size = max(size, 1)
        hop = max(round(size * (1 - OVERLAP)), 1)
        self.cut = Cut(self.frontend.sample_rate, size, hop)
        self._states = [model.state for model in models]
        self._run = jax.jit(self._scores)

    @property
    def classes(self) -> tuple[str, ...]:
        """The C classes, in the order of probabilities."""
        return self.models[0].class_names

    @property
    def sample_rate(self) -> int:
        """Hz, of what the models hear; sounds are resampled to it."""
        return self.frontend.sample_rate

    @property
    def window_seconds(self) -> float:
        """Length of a window; longer recordings have several."""
        return self.cut.size / self.cut.rate

    @functools.cached_property
    def embedding_width(self) -> int:
        """D, of all models together."""
        counts = np.ones(1, np.int32)
        waveforms = np.zeros((1, self.cut.size), np.float32)
        return jax.eval_shape(self._run, self._states, waveforms, counts, counts)[1].shape[1]

    def predict(self, sound: Sound, sample_rate: int | None = None) -> Prediction:
        """Classifies a recording.

        Args:
          sound: a file (wav, flac, ogg, mp3), or samples: float of full scale 1.0 or int16, `[n]`
            or `[n, channels]`.
          sample_rate: of the samples, in Hz.

        Raises:
          AudioError: the file cannot be used.
          ValueError: samples without their rate, of another shape or kind, empty or not finite.
        """
        if isinstance(sound, np.ndarray):
            return self.predict_blocks([_mono(sound)], _checked_rate(sample_rate))
        return self.predict_file(sound)

    def predict_file(
        self, path: str | os.PathLike[str], heard: Callable[[float, float], None] | None = None
    ) -> Prediction:
        """Classifies a file of any length, in bounded memory.

        Args:
          path: the file.
          heard: called with the seconds done and those there are, as the file is read.
        """
        stream = audio.stream(path)
        block, rate, promised = next(stream)

        def blocks() -> Iterator[np.ndarray]:
            done = 0.0
            for part, _, _ in itertools.chain([(block, rate, promised)], stream):
                yield part.astype(np.float32) / 32768
                done += len(part) / rate
                if heard:
                    heard(done, promised)

        return self.predict_blocks(blocks(), rate)

    def predict_blocks(self, blocks: Iterable[np.ndarray], rate: int) -> Prediction:
        """Classifies float32 samples `[n]` that come one block after another, at `rate` Hz."""
        steps = self.steps(blocks, rate)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self.score(wanted))
        except StopIteration as end:
            return end.value

    def steps(
        self, blocks: Iterable[np.ndarray], rate: int
    ) -> Generator[list[np.ndarray], Scores, Prediction]:
        """`predict_blocks` for whoever computes the scores elsewhere.

        Args:
          blocks: float32 `[n]` each, one after another.
          rate: of the blocks, in Hz.

        Yields:
          Windows as `score` takes them; their scores are to be sent back.

        Returns:
          The prediction.
        """
        count = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal count
            for block in blocks:
                count += len(block)
                yield block

        starts: list[int] = []
        ends: list[int] = []
        parts: list[Scores] = []
        cuts = windows(counted(), rate, self.cut)
        at_once = min(BATCHES[-1], self.batches[-1])
        while batch := list(itertools.islice(cuts, at_once)):
            starts += [start for start, _ in batch]
            ends += [start + len(samples) for start, samples in batch]
            parts.append((yield [samples for _, samples in batch]))
        probabilities, embeddings, quiet = (np.concatenate(p) for p in zip(*parts, strict=True))
        counts = ~quiet if not quiet.all() else np.ones_like(quiet)
        seconds = count / rate
        return Prediction(
            classes=self.classes,
            seconds=seconds,
            probabilities=probabilities[counts].mean(0),
            embedding=embeddings[counts].mean(0),
            silent=bool(quiet.all()),
            starts=np.array(starts) / self.cut.rate,
            ends=np.minimum(np.array(ends) / self.cut.rate, seconds),
            windows=probabilities,
            quiet=quiet,
        )

    def embed(self, sound: Sound, sample_rate: int | None = None) -> np.ndarray:
        """What the classifiers see of a recording, `[D]` float32: see `predict`."""
        return self.predict(sound, sample_rate).embedding

    def score(self, samples: Sequence[np.ndarray]) -> Scores:
        """One window each, at the model's rate.

        Args:
          samples: float32 `[<= window]` each; at most the largest of `batches`.

        Returns:
          Probabilities `[B, C]`, embeddings `[B, D]`, and whether each is silent `[B]`.
        """
        size = next(size for size in self.batches if size >= len(samples))
        waveforms = np.zeros((size, self.cut.size), np.float32)
        counts = np.ones(size, np.int32)
        for row, part in zip(range(size), samples, strict=False):
            waveforms[row, : len(part)], counts[row] = part, len(part)
        lengths = [min(self.frontend.frames(int(count)), self.frames) for count in counts]
        found = self._run(self._states, waveforms, counts, np.array(lengths, np.int32))
        probabilities, embeddings = (np.asarray(part)[: len(samples)] for part in found)
        quiet = np.array([np.abs(part).max(initial=0.0) < SILENCE for part in samples])
        return probabilities, embeddings, quiet

    def warm_up(self) -> None:
        """Compiles for every number of windows that `score` takes."""
        for size in self.batches:
            self.score([np.zeros(self.cut.size, np.float32)] * size)

    def _scores(
        self, states: Sequence[Any], waveforms: jax.Array, counts: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        features = frontend(self.frontend, waveforms, counts)[:, : self.frames]
        # As the feature store keeps them.
        features = features.astype(self.frontend.dtype)
        batch = {"features": features, "length": length}
        found = [
            make_embed_step(model.network, self.frames)(state, batch)
            for model, state in zip(self.models, states, strict=True)
        ]
        probabilities = [jax.nn.softmax(logits) for logits, _ in found]
        mean = functools.reduce(jnp.add, probabilities) / len(found)
        return mean, jnp.concatenate([seen for _, seen in found], -1)


def _mono(sound: np.ndarray) -> np.ndarray:
    if sound.ndim not in (1, 2) or not sound.size:
        raise ValueError(f"samples of shape {sound.shape}: [n] or [n, channels] is wanted, n > 0")
    if sound.dtype == np.int16:
        sound = sound.astype(np.float32) / 32768
    if not np.issubdtype(sound.dtype, np.floating):
        raise ValueError(f"samples are {sound.dtype}: float (full scale 1.0) or int16 is wanted")
    if not np.isfinite(sound).all():
        raise ValueError("NaN or infinite samples")
    return audio.downmix(np.clip(sound.astype(np.float32), -1, 1))


def _checked_rate(rate: int | None) -> int:
    if rate is None:
        raise ValueError("samples need their sample_rate in Hz")
    if not audio.MIN_RATE <= rate <= audio.MAX_RATE:
        raise ValueError(f"sample_rate={rate}: must be {audio.MIN_RATE} to {audio.MAX_RATE} Hz")
    return int(rate)
