"""What the server is told at its start, and how a request ends without its answer."""

import dataclasses

BATCHES = (1, 2, 4, 8, 16, 32)  # windows computed together; each number is compiled for at start
MEGABYTE = 10**6


@dataclasses.dataclass(frozen=True)
class Settings:
    """Limits and permissions; the defaults are those of the command line.

    Attributes:
      max_bytes: of a request's body.
      max_minutes: of sound in one request.
      body_seconds: for a body to arrive.
      request_seconds: for a request to be answered, its body included.
      idle_seconds: that a connection may keep the server waiting: for headers, for the next part
        of a body, for the next message of a stream (three times that).
      queue: windows that may wait to be computed; requests past it get 429.
      drain_seconds: at the end, for what was taken to be answered.
      max_streams: WebSocket streams at a time.
      decoders: threads that decode and resample.
      token: that every request must bring; "" for none.
      cors_origins: origins ("https://example.org") whose pages may use the server.
    """

    max_bytes: int = 50 * MEGABYTE
    max_minutes: float = 60.0
    body_seconds: float = 60.0
    request_seconds: float = 300.0
    idle_seconds: float = 10.0
    queue: int = 256
    drain_seconds: float = 30.0
    max_streams: int = 16
    decoders: int = 2
    token: str = ""
    cors_origins: tuple[str, ...] = ()


class Refused(Exception):
    """A request that gets a status of 4xx or 503 and one sentence."""

    def __init__(self, status: int, detail: str, retry_after: int = 0):
        """Says no.

        Args:
          status: of HTTP.
          detail: one sentence for the client, without paths.
          retry_after: seconds, for 429 and 503; 0 for no such header.
        """
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers: dict[str, str] = {}
        if retry_after:
            self.headers["Retry-After"] = str(retry_after)
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"


class ClientGone(Exception):
    """Nobody waits for the answer."""
