"""Around every request: permission, headers, one log line, metrics; no failure gets out whole."""

import asyncio
import contextlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxsound.serving.server.metrics import Metrics
from jaxsound.serving.server.settings import ClientGone, Refused

log = logging.getLogger(__name__)
# The page, its files, and what watches over the server.
_OPEN = re.compile(r"/|/static/.*|/healthz|/readyz")
_PROBES = ("/healthz", "/readyz", "/metrics")  # asked every few seconds, and not logged
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}
_LINGER = 1.0  # seconds in which a refused body may still come, to be thrown away
_CLIENT_GONE = 499  # as nginx logs it; nobody receives it


class Edge:
    """ASGI middleware: everything HTTP passes through it."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, token: str, busy: Callable[[], Refused | None]
    ):
        """Wraps `app`.

        Args:
          app: what answers.
          metrics: counted there.
          token: that requests must bring; "" for none.
          busy: why no work is taken now (503), or None.
        """
        self.app = app
        self.in_flight = 0
        self._metrics, self._token, self._busy = metrics, token, busy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, whatever happens."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, name, status = time.perf_counter(), secrets.token_hex(4), _CLIENT_GONE
        headers = Headers(scope=scope)
        unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

        async def hear() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                marked = MutableHeaders(scope=message)
                _mark(marked, headers.get("host", ""), name)
                if unread:
                    marked["Connection"] = "close"
            elif unread and not message.get("more_body"):
                # Whoever is still sending would not see the answer if the connection broke now.
                await send({**message, "more_body": True})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER):
                        while unread:
                            await hear()
                message = {"type": "http.response.body"}
            await send(message)

        self.in_flight += 1
        try:
            self._check(scope, headers)
            await self.app(scope, hear, answer)
        except Refused as error:
            await _sentence(error)(scope, receive, answer)
        except ClientGone:
            pass
        except Exception:
            log.exception("request %s failed", name)
            if status == _CLIENT_GONE:
                failed = Refused(500, f"The server failed; its log has more under {name}.")
                await _sentence(failed)(scope, receive, answer)
        finally:
            self.in_flight -= 1
            self._count(scope, status, time.perf_counter() - began, name)

    def _check(self, scope: Scope, headers: Headers) -> None:
        if self._token and not _OPEN.fullmatch(scope["path"]):
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not same(given.strip(), self._token):
                raise Refused(401, "A token is wanted: Authorization: Bearer ...")
        if scope["method"] == "POST" and (busy := self._busy()):
            raise busy

    def _count(self, scope: Scope, status: int, seconds: float, name: str) -> None:
        route = _route(scope)
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.latency.labels(route).observe(seconds)
        if route in _PROBES:
            return
        # The route and not the path: what a client made up is not for the log.
        method = scope["method"] if scope["method"].isalpha() else "?"
        log.info("%s %s %s %d %.1f ms", name, method[:10], route, status, seconds * 1000)


def same(given: str, wanted: str) -> bool:
    """Whether two tokens are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def same_site(headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Whether a WebSocket was opened by this server's page, an allowed one, or by no page."""
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""


def _route(scope: Scope) -> str:
    route = getattr(scope.get("route"), "path", None)
    if route is None:
        return "/static" if scope["path"].startswith("/static/") else "other"
    return str(route)


def _mark(headers: MutableHeaders, host: str, name: str) -> None:
    for key, value in _HEADERS.items():
        headers[key] = value
    headers["X-Request-Id"] = name
    # Old browsers do not take 'self' for WebSockets.
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
        f"img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'{sockets}; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers.setdefault("Cache-Control", "no-store")


def _sentence(error: Refused) -> JSONResponse:
    return JSONResponse({"detail": error.detail}, error.status, error.headers)
