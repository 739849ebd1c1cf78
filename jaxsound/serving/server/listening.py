"""From a request's bytes to a prediction: decoded in threads, computed with other requests."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from jaxsound.data import audio
from jaxsound.data.audio import AudioError
from jaxsound.serving.classifier import BATCHES, Classifier, Scores
from jaxsound.serving.prediction import Prediction
from jaxsound.serving.server.batcher import Batcher
from jaxsound.serving.server.recording import as_file, recording
from jaxsound.serving.server.settings import ClientGone, Refused

# What libsndfile says of bytes that are no recording of any kind it knows.
NO_RECORDING = ("not a recording", "format not recognised", "unknown format", "unspecified")
_Steps = Generator[list[np.ndarray], Scores, Prediction]


class Listener:
    """Classifies recordings of any length in bounded memory and in fair turns."""

    def __init__(
        self, classifier: Classifier, batcher: Batcher, decoders: Executor, max_minutes: float
    ):
        """Starts nothing.

        Args:
          classifier: cuts and sums up; the batcher computes.
          batcher: of all requests.
          decoders: threads for decoding and resampling.
          max_minutes: of sound.
        """
        self._classifier = classifier
        self._batcher = batcher
        self._decoders = decoders
        self._max_minutes = max_minutes

    async def predict(
        self, body: Sequence[bytes], content_type: str, gone: Callable[[], Awaitable[bool]]
    ) -> Prediction:
        """Classifies the recording in a request's body.

        Args:
          body: a wav, flac, ogg or mp3 file, or a form with one.
          content_type: the body's.
          gone: asked now and then whether the client still waits.

        Raises:
          Refused: 415 no recording, 422 one that cannot be used, 429 the queue is full.
          ClientGone: it does not.
        """
        loop = asyncio.get_running_loop()
        with self._batcher.enter() as turn:
            steps = self._steps(body, content_type)
            found: list[np.ndarray] | Prediction = []
            try:
                found = await loop.run_in_executor(self._decoders, _advance, steps, None)
                while not isinstance(found, Prediction):
                    scores = await turn.score(found)
                    if len(found) < BATCHES[-1]:  # the last ones: nothing is left to decode
                        found = _advance(steps, scores)
                    elif await gone():
                        raise ClientGone
                    else:
                        found = await loop.run_in_executor(self._decoders, _advance, steps, scores)
                return found
            except AudioError as error:
                raise _refused(error) from None
            finally:
                if not isinstance(found, Prediction):  # a thread may be at work for it still
                    self._decoders.submit(steps.close)

    def _steps(self, body: Sequence[bytes], content_type: str) -> _Steps:
        with as_file(recording(body, content_type)) as path:
            stream = audio.stream(path)
            first, rate, promised = next(stream)
            most = self._max_minutes * 60

            def blocks() -> Iterator[np.ndarray]:
                done = 0.0
                for block, _, _ in itertools.chain([(first, rate, promised)], stream):
                    done += len(block) / rate
                    if max(done, promised) > most:
                        raise AudioError(path, f"longer than {self._max_minutes:g} min")
                    yield block.astype(np.float32) / 32768

            return (yield from self._classifier.steps(blocks(), rate))


def _advance(steps: _Steps, scores: Scores | None) -> list[np.ndarray] | Prediction:
    try:
        return next(steps) if scores is None else steps.send(scores)
    except StopIteration as end:
        return end.value


def _refused(error: AudioError) -> Refused:
    """One sentence, without the path that a decoder may have put into its own words."""
    reason = error.reason.replace(error.path, "the file")
    status = 415 if any(text in reason.lower() for text in NO_RECORDING) else 422
    return Refused(status, f"The recording cannot be used: {reason}.")
