"""uvicorn, with limits on headers and an end at which what was taken is still answered."""

import asyncio
import gc
import logging
import socket
import time
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from jaxsound.errors import UserError
from jaxsound.serving.server.settings import Settings

MAX_HEADERS = 32 * 1024  # bytes of a request before its body
MAX_MESSAGE = 1 << 20  # bytes of a WebSocket message
LINGER = 1.0  # seconds in which the rest of a refused message may still come, to be thrown away
log = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address, before anything slow is done; it does not listen yet.

    Raises:
      UserError: the address cannot be had.
    """
    made = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, OverflowError) as error:
        if made is not None:
            made.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--host={host} --port={port}: {reason}") from None
    return made


def serve(app: FastAPI, settings: Settings, bound: socket.socket) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    made = server(app, settings)
    made.freezes = True
    made.run(sockets=[bound])
    return 1 if app.state.service.failed else 0


def server(app: FastAPI, settings: Settings) -> "Server":
    """What `serve` runs; `handle_exit` ends it."""

    class Protocol(_Protocol):
        header_seconds = settings.idle_seconds

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws=_Socket,
        ws_max_size=MAX_MESSAGE,
        ws_max_queue=4,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    return Server(config, app, settings.drain_seconds)


class Server(uvicorn.Server):
    """Ends in two steps: takes nothing new and answers the rest, then closes."""

    freezes = False  # whether the process is this server's alone

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float):
        """Does not run yet.

        Args:
          config: of uvicorn.
          app: `app.build`'s.
          drain_seconds: at most, from the first signal to the end.
        """
        super().__init__(config)
        self._app, self._drain_seconds = app, drain_seconds
        self._asked = 0
        self._deadline = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets requests finish, the second does not. Never re-raised: exit 0."""
        self._asked += 1

    async def on_tick(self, counter: int) -> bool:
        """Asked every tenth of a second whether to close."""
        service = self._app.state.service
        if self.freezes and service.ready:
            self.freezes = False
            gc.collect()
            gc.freeze()  # the model stays: collections, which stop everything, pass it over
        if self._asked and not self._deadline:
            self._deadline = time.monotonic() + self._drain_seconds
            service.draining.set()
            log.info("going down: %d requests to answer", self._app.state.edge.in_flight)
        elif self._asked:
            left = self._app.state.edge.in_flight + service.streams
            self.should_exit = not left or time.monotonic() > self._deadline
        if self._asked > 1:
            self.should_exit = self.force_exit = True
        if service.failed:
            self.should_exit = True
        return await super().on_tick(counter)


class _Protocol(HttpToolsProtocol):
    """Closes connections whose headers do not come, or do not end."""

    header_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None
    _between = True  # two requests, or before the first
    _bytes = 0

    def connection_made(self, transport: Any) -> None:
        """A request is to come soon."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Counts what comes before the headers are whole."""
        if self._timer is None and self._between:
            self._wait()
        if self._timer is not None:
            self._bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._bytes > MAX_HEADERS:
            self._refuse(b"431 Request Header Fields Too Large", b"The headers are too large.")

    def on_headers_complete(self) -> None:
        """The rest is the application's."""
        self._stop()
        self._between = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request may come."""
        self._between = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more to wait for."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._bytes = 0
        self._timer = self.loop.call_later(self.header_seconds, self._late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._refuse(b"408 Request Timeout", b"The headers did not come in time.")

    def _refuse(self, status: bytes, sentence: bytes) -> None:
        self._stop()
        if self.transport.is_closing():
            return
        body = b'{"detail":"' + sentence + b'"}'
        length = str(len(body)).encode()
        self.transport.write(
            b"HTTP/1.1 "
            + status
            + b"\r\nContent-Type: application/json\r\nContent-Length: "
            + length
            + b"\r\nConnection: close\r\n\r\n"
            + body
        )
        self.transport.close()


class _Socket(WebSocketsSansIOProtocol):
    """Hears a refused message out: closing in the middle of it resets the connection, and then the
    client may lose the close frame that says why."""

    def data_received(self, data: bytes) -> None:
        """What comes after a refusal is thrown away."""
        if self.conn.parser_exc is None:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Says why now, and closes a moment later."""
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER, self.transport.close)
