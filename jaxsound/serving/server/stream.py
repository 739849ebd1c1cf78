"""Live sound over a WebSocket: what is heard now, after every half second."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from jaxsound.data import audio
from jaxsound.data.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from jaxsound.serving.classifier import Classifier, Scores
from jaxsound.serving.server import answers
from jaxsound.serving.server.batcher import Batcher, Turn
from jaxsound.serving.server.settings import Refused
from jaxsound.serving.server.webm import Webm

EVERY = 0.5  # seconds of sound between two answers
MAX_TEXT = 4096  # characters of a text message
CODES = {401: 1008, 400: 1008, 408: 1008, 413: 1009, 415: 1003, 422: 1003, 429: 1013, 503: 1013}
log = logging.getLogger(__name__)


class Ear:
    """The last window of a sound that goes on; fed from one thread, asked from another."""

    def __init__(self, rate: int, seconds: float):
        """Has heard nothing.

        Args:
          rate: of the sound, in Hz.
          seconds: that are kept.
        """
        self.rate = rate
        self._size = round(rate * seconds)
        self._kept = np.zeros(2 * self._size, np.float32)
        self._used = self._count = 0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Heard so far."""
        return self._count / self.rate

    def hear(self, samples: np.ndarray) -> None:
        """Takes float32 `[n]`."""
        with self._lock:
            self._count += len(samples)
            samples = samples[-self._size :]
            if self._used + len(samples) > len(self._kept):
                self._kept[: self._size] = self._kept[self._used - self._size : self._used]
                self._used = self._size
            self._kept[self._used : self._used + len(samples)] = samples
            self._used += len(samples)

    def last(self) -> tuple[np.ndarray, float]:
        """The newest window, float32 `[<= rate * seconds]`, and the seconds heard at its end."""
        with self._lock:
            begin = max(0, self._used - self._size)
            return self._kept[begin : self._used].copy(), self.seconds


class Pcm:
    """Little-endian 16-bit samples, interleaved, in messages that may cut a sample in two."""

    def __init__(self, channels: int, hear: Callable[[np.ndarray], None]):
        """Hears nothing yet.

        Args:
          channels: of the sound; their mean is heard.
          hear: takes float32 `[n]`.
        """
        self._channels, self._hear = channels, hear
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes a message."""
        data = self._rest + data
        whole = len(data) - len(data) % (2 * self._channels)
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").reshape(-1, self._channels)
        self._hear(samples.astype(np.float32).mean(1, dtype=np.float32) / 32768)


class Stream:
    """One WebSocket from its start message to its end."""

    def __init__(
        self,
        websocket: WebSocket,
        classifier: Classifier,
        decoders: Executor,
        idle_seconds: float,
        allowed: Callable[[str], bool],
    ):
        """Has not begun.

        Args:
          websocket: accepted.
          classifier: knows the window; the batcher computes.
          decoders: threads for resampling.
          idle_seconds: for the next message to come.
          allowed: whether a token is the one that is wanted.
        """
        self._socket, self._classifier, self._decoders = websocket, classifier, decoders
        self._idle, self._allowed = idle_seconds, allowed
        self._ear = Ear(classifier.sample_rate, classifier.window_seconds)
        self._due = asyncio.Event()
        self._ended = False
        self._loop = asyncio.get_running_loop()

    async def run(self, batcher: Batcher, stop: asyncio.Event) -> None:
        """Answers until the client ends or leaves, or `stop` is set; closes the WebSocket."""
        tasks: list[asyncio.Task[Any]] = []
        try:
            with batcher.enter(soon=False) as turn:
                parts = self._receive(), self._answer(turn), stop.wait()
                tasks = [asyncio.create_task(part) for part in parts]
                await _first(tasks)
            if not self._ended:
                raise Refused(503, "The server is going down.")
            await self._socket.send_json({"type": "done", "seconds": round(self._ear.seconds, 3)})
            await self._socket.close(1000)
        except Refused as error:
            await self.refuse(error)
        except WebSocketDisconnect:
            pass
        except Exception:
            log.exception("a stream failed")
            message = {"type": "error", "status": 500, "detail": "The server failed."}
            await self._leave(message, 1011)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def refuse(self, error: Refused) -> None:
        """Says why, and closes."""
        message = {"type": "error", "status": error.status, "detail": error.detail}
        await self._leave(message, CODES[error.status])

    async def _leave(self, message: dict[str, Any], code: int) -> None:
        try:
            await self._socket.send_json(message)
            await self._socket.close(code)
        except (WebSocketDisconnect, RuntimeError):
            pass  # it has left by itself

    async def _start(self) -> dict[str, Any]:
        text, data = await self._message()
        start = _object(text)
        if data is not None or start.get("type") != "start":
            raise Refused(400, 'The first message must be {"type": "start", ...}.')
        if not self._allowed(str(start.get("token", ""))):
            raise Refused(401, "A token is wanted.")
        if start.get("format") == "pcm16":
            rate, channels = start.get("sample_rate"), start.get("channels", 1)
            if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE:
                raise Refused(422, f"sample_rate must be {MIN_RATE} to {MAX_RATE} Hz.")
            if type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
                raise Refused(422, f"channels must be 1 to {MAX_CHANNELS}.")
            self._listen_at(rate)
        elif start.get("format") != "webm":
            raise Refused(415, 'format must be "pcm16" or "webm".')
        return start

    async def _receive(self) -> None:
        start = await self._start()
        if start["format"] == "webm":
            webm = Webm(self._listen_at, self._hear)
            try:
                while (chunk := await self._chunk()) is not None:
                    await webm.feed(chunk)
                await webm.finish()
            finally:
                webm.end()
        else:
            pcm = Pcm(start.get("channels", 1), self._hear)
            while (chunk := await self._chunk()) is not None:
                await self._loop.run_in_executor(self._decoders, pcm.feed, chunk)
        self._ended = True
        self._due.set()

    async def _chunk(self) -> bytes | None:
        """The next binary message; None once the client has said that it is done."""
        text, data = await self._message()
        if data is None and _object(text).get("type") != "end":
            raise Refused(400, 'After the start only binary messages and {"type": "end"} are read.')
        return data

    async def _message(self) -> tuple[str, bytes | None]:
        try:
            async with asyncio.timeout(self._idle):
                message = await self._socket.receive()
        except TimeoutError:
            raise Refused(408, f"Nothing came for {self._idle:g} s.") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        return message.get("text") or "", message.get("bytes")

    async def _answer(self, turn: Turn) -> None:
        """Answers for the newest window; those that came while it was at work are passed over."""
        done = 0
        while True:
            await self._due.wait()
            self._due.clear()
            if (halves := int(self._ear.seconds / EVERY)) > done:
                done = halves
                window, seconds = await self._loop.run_in_executor(self._decoders, self._window)
                await self._socket.send_json(self._prediction(await turn.score([window]), seconds))
                self._due.set()
            elif self._ended:
                return

    def _window(self) -> tuple[np.ndarray, float]:
        window, seconds = self._ear.last()
        cut = self._classifier.cut
        return audio.resample(window, self._ear.rate, cut.rate)[: cut.size], seconds

    def _prediction(self, scores: Scores, seconds: float) -> dict[str, Any]:
        probabilities, _, quiet = scores
        named = zip(self._classifier.classes, probabilities[0].tolist(), strict=True)
        return {
            "type": "prediction",
            "time": round(seconds, 6),
            "silent": bool(quiet[0]),
            "classes": answers.scores(list(named)),
        }

    def _listen_at(self, rate: int) -> None:
        self._ear = Ear(rate, self._classifier.window_seconds)

    def _hear(self, samples: np.ndarray) -> None:
        """From any thread."""
        before = int(self._ear.seconds / EVERY)
        self._ear.hear(samples)
        if int(self._ear.seconds / EVERY) > before:
            self._loop.call_soon_threadsafe(self._due.set)


async def _first(tasks: list[asyncio.Task[Any]]) -> None:
    """Until the answers have ended or the last task has; raises what any of them raises."""
    answer, stop = tasks[1:]
    while not (answer.done() or stop.done()):
        waiting = [task for task in tasks if not task.done()]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _object(text: str) -> dict[str, Any]:
    if len(text) > MAX_TEXT:
        raise Refused(413, f"A text message has at most {MAX_TEXT} characters.")
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "A text message must be a JSON object.")
    return found
