"""A server in a thread of the test's process, on a port of its own, with an untrained model."""

import contextlib
import dataclasses
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from jaxsound.serving.classifier import Classifier
from jaxsound.serving.server import app, running
from jaxsound.serving.server.settings import Settings
from tests.serving.conftest import RATE, trained

BATCHES = (1, 4)


@dataclasses.dataclass(frozen=True)
class Served:
    """A server that runs."""

    service: app.Service
    server: running.Server
    thread: threading.Thread
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: bytes, path: str = "/v1/predict", **more: Any) -> httpx.Response:
        """A raw body."""
        return httpx.post(self.url + path, content=body, timeout=20, **more)

    def stop(self) -> None:
        self.server.handle_exit(15, None)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """One model, compiled once for all servers."""
    made = Classifier([trained()], BATCHES)
    made.warm_up()
    return made


@contextlib.contextmanager
def serving(model: Classifier, **settings: Any) -> Iterator[Served]:
    """A server that is ready, or has failed to become so; stopped at the end."""
    given = Settings(**settings)
    made = app.build(model, given)
    bound = running.bind("127.0.0.1", 0)
    server = running.server(made, given)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    served = Served(made.state.service, server, thread, bound.getsockname()[1])
    try:
        end = time.monotonic() + 60
        while not (served.service.ready or served.service.failed):
            assert time.monotonic() < end
            time.sleep(0.01)
        yield served
    finally:
        served.stop()


@pytest.fixture(scope="session")
def start(classifier: Classifier) -> Iterator[Callable[..., Served]]:
    """Starts a server with other settings."""
    with contextlib.ExitStack() as started:
        yield lambda model=classifier, **settings: started.enter_context(serving(model, **settings))


@pytest.fixture(scope="session")
def served(start: Callable[..., Served]) -> Served:
    """A server as the command line's defaults make it, but for a body of 2 MB and two minutes."""
    return start(max_bytes=2_000_000, max_minutes=2.0, idle_seconds=1.0, body_seconds=2.0)


def encoded(
    samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None
) -> bytes:
    """A file's bytes."""
    soundfile.write(file := io.BytesIO(), samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def refused(answer: httpx.Response, *statuses: int) -> str:
    """Checks that an answer is one sentence that tells nothing of the server; returns it."""
    assert answer.status_code in statuses, answer.text
    assert answer.json().keys() == {"detail"}
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert detail.strip()
    assert "\n" not in detail
    for forbidden in ("/proc", "/tmp", "/home", "Traceback", ".py", "jaxsound_"):
        assert forbidden not in detail
    return detail
