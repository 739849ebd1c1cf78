"""A request's body: counted as it comes, in time or not at all, and kept in memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from starlette.requests import Request

from jaxsound.serving.server.settings import MEGABYTE, ClientGone, Refused, Settings

AT_ONCE = 8  # bodies of the largest size that may be held at a time; many more small ones
# Content types of a body; what it really is, the decoder finds out.
TAKEN = ("multipart/form-data", "audio/", "video/", "application/ogg", "application/octet-stream")


class Bodies:
    """Reads bodies, and knows how many bytes of them the server holds."""

    def __init__(self, settings: Settings):
        """Holds nothing.

        Args:
          settings: with the limits of size and time.
        """
        self._settings = settings
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncGenerator[list[bytes], None]:
        """A body in pieces, which count as held until the block is left.

        Raises:
          Refused: 408 too slow, 413 too large, 415 of a kind that is not taken, 429 too many
            large bodies at a time.
          ClientGone: before the body was whole.
        """
        if not request.headers.get("content-type", TAKEN[-1]).lower().startswith(TAKEN):
            raise Refused(415, "Send a recording: multipart/form-data or audio/*.")
        # The parser of HTTP took nothing but digits.
        if int(request.headers.get("content-length", "0")) > self._settings.max_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in self._pieces(request):
                size += len(piece)
                self._held += len(piece)
                if size > self._settings.max_bytes:
                    raise self._too_large()
                if self._held > AT_ONCE * self._settings.max_bytes:
                    text = "Too many large bodies at a time; try again in 2 s."
                    raise Refused(429, text, retry_after=2)
                pieces.append(piece)
            yield pieces
        finally:
            self._held -= size

    async def _pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        now, limits = asyncio.get_running_loop().time, self._settings
        end, more = now() + limits.body_seconds, True
        while more:
            due = min(end, now() + limits.idle_seconds)
            try:
                async with asyncio.timeout_at(due):
                    message = await request.receive()
            except TimeoutError:
                text = f"The body took longer than {limits.body_seconds:g} s."
                if due < end:
                    text = f"Nothing came for {limits.idle_seconds:g} s."
                raise Refused(408, text) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            yield message.get("body", b"")

    def _too_large(self) -> Refused:
        limit = self._settings.max_bytes / MEGABYTE
        return Refused(413, f"The body is larger than {limit:g} MB.")
