"""WebM as a browser's MediaRecorder makes it, decoded as its chunks come, without a file."""

import asyncio
import threading
from collections.abc import Callable

import av
import numpy as np

from jaxsound.data.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE
from jaxsound.serving.server.settings import Refused

ROOM = 1 << 20  # bytes that may wait for the decoder
DEAF = 1 << 20  # bytes after which there must have been sound
_CODECS = "opus,libopus,vorbis"
# FFmpeg's probing is kept to the header, and to decoders that are wanted here.
_OPTIONS = {
    "codec_whitelist": _CODECS,
    "format_whitelist": "matroska,webm",
    "probesize": "2048",
    "analyzeduration": "0",
}


class Pipe:
    """A file that grows at one end and is read at the other; what was read is gone."""

    def __init__(self) -> None:
        """Is empty."""
        self._changed = threading.Condition()
        self._bytes = bytearray()
        self._ended = False
        self.total = 0  # bytes written so far

    def write(self, data: bytes) -> bool:
        """Takes all of it, or nothing (False) while there is no room."""
        with self._changed:
            if self._bytes and len(self._bytes) + len(data) > ROOM:
                return False
            self._bytes += data
            self.total += len(data)
            self._changed.notify()
            return True

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def read(self, size: int = -1) -> bytes:
        """Waits for at least one byte; b"" at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes or self._ended)
            size = len(self._bytes) if size < 0 else size
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            return data


class Webm:
    """Decodes in a thread of its own, which ends with `end`."""

    def __init__(self, rate_known: Callable[[int], None], hear: Callable[[np.ndarray], None]):
        """Starts the thread.

        Args:
          rate_known: called from it once, with the rate in Hz, before there is sound.
          hear: called from it with float32 `[n]`, the mean of the channels.
        """
        self._pipe = Pipe()
        self._rate_known, self._hear = rate_known, hear
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._failure: Refused | None = None
        self._heard = False
        self._thread = threading.Thread(target=self._run, name="webm", daemon=True)
        self._thread.start()

    async def feed(self, data: bytes) -> None:
        """Hands over a chunk, and waits while the decoder is behind.

        Raises:
          Refused: 422, this cannot be decoded.
        """
        while not self._done.is_set() and not self._pipe.write(data):
            await asyncio.sleep(0.01)
        if self._pipe.total > DEAF and not self._heard:
            raise Refused(422, "There is no sound in what was sent.")
        if self._failure:
            raise self._failure

    async def finish(self) -> None:
        """Waits until all of it is decoded.

        Raises:
          Refused: 422, it could not be.
        """
        self._pipe.end()
        await self._done.wait()
        if self._failure:
            raise self._failure

    def end(self) -> None:
        """Lets the thread end."""
        self._pipe.end()

    def _run(self) -> None:
        try:
            self._decode()
        except (av.FFmpegError, ValueError, IndexError):
            self._failure = Refused(422, "This is not WebM with Opus, or it is broken.")
        except Refused as error:
            self._failure = error
        finally:
            self._pipe.end()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._done.set)

    def _decode(self) -> None:
        with av.open(
            self._pipe, format="webm", mode="r", buffer_size=4096, container_options=_OPTIONS
        ) as container:
            stream = container.streams.audio[0]
            context = stream.codec_context
            if context.name not in _CODECS.split(","):
                raise Refused(422, "Only Opus and Vorbis are taken in WebM.")
            if not MIN_RATE <= context.sample_rate <= MAX_RATE:
                raise Refused(422, f"The sample rate must be {MIN_RATE} to {MAX_RATE} Hz.")
            if not 1 <= context.layout.nb_channels <= MAX_CHANNELS:
                raise Refused(422, f"At most {MAX_CHANNELS} channels are taken.")
            self._rate_known(context.sample_rate)
            mono = av.AudioResampler(format="fltp", layout="mono", rate=context.sample_rate)
            for frame in container.decode(stream):
                for part in mono.resample(frame):
                    self._heard = True
                    self._hear(part.to_ndarray()[0])
