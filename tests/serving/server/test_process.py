"""The command: how it starts, what stops it at the start, and that it ends well."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from jaxsound import serve
from jaxsound.serving.classifier import Classifier, Scores
from tests.serving.conftest import NAMES, sound, trained
from tests.serving.server.conftest import BATCHES, Served, encoded, refused


@pytest.fixture
def _own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging stays pytest's where the command runs in its process."""
    monkeypatch.setattr(serve, "_log", lambda: None)


def test_a_process_from_start_to_end(run: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame\n")
    command = [sys.executable, "-m", "jaxsound.serve", str(run / "fold_1"), "--port=0"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": ""}
    with subprocess.Popen(
        [*command, f"--token-file={token}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        url = lines[2].split()[1].rstrip("/")
        assert all(name in lines[1] for name in NAMES)
        assert url.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=5)) as client:
            end = time.monotonic() + 60
            while (status := client.get("/readyz").status_code) != 200:
                assert status == 503
                assert time.monotonic() < end
                time.sleep(0.05)
            bearer = {"Authorization": "Bearer sesame"}
            answer = client.post("/v1/predict", content=encoded(sound(1.0)), headers=bearer)
            assert answer.status_code == 200
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert not out
    assert "Traceback" not in err
    assert "sesame" not in err


def test_what_was_taken_is_answered_and_nothing_more(start: Callable[..., Served]) -> None:
    go, at_work = threading.Event(), threading.Event()

    class Slow(Classifier):
        def score(self, samples: Sequence[np.ndarray]) -> Scores:
            if np.abs(samples[0]).max() > 0.9:
                at_work.set()
                assert go.wait(20)
            return super().score(samples)

    served = start(Slow([trained()], BATCHES))
    body = encoded(np.sign(sound(1.0)) * 0.95)
    answers: list[httpx.Response] = []
    asked = threading.Thread(target=lambda: answers.append(served.post(body)))
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/readyz").status_code == 200
        asked.start()
        assert at_work.wait(20)
        served.server.handle_exit(signal.SIGTERM, None)
        time.sleep(0.5)
        refused(client.get("/readyz"), 503)
        answer = served.post(body)
        refused(answer, 503)
        assert "retry-after" in answer.headers
        assert client.get("/healthz").status_code == 200
        assert served.thread.is_alive()
        go.set()
        asked.join(20)
    assert answers[0].status_code == 200
    assert answers[0].json()["label"] in NAMES
    served.thread.join(20)
    assert not served.thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url)


def test_a_second_signal_does_not_wait(start: Callable[..., Served]) -> None:
    served = start(idle_seconds=30.0)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(head)
        time.sleep(0.2)
        served.server.handle_exit(signal.SIGINT, None)
        time.sleep(0.4)
        assert served.thread.is_alive()
        served.server.handle_exit(signal.SIGINT, None)
        served.thread.join(10)
        assert not served.thread.is_alive()


def test_not_ready_before_it_is_compiled(start: Callable[..., Served]) -> None:
    class Broken(Classifier):
        def warm_up(self) -> None:
            raise RuntimeError("no such device")

    served = start(Broken([trained()], BATCHES))
    served.thread.join(20)
    assert served.service.failed
    assert not served.service.ready
    assert not served.thread.is_alive()  # and the process would end with status 1


@pytest.mark.usefixtures("_own_log")
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nowhere",), "nowhere"),
        (("RUN", "--port=TAKEN"), "in use"),
        (("RUN", "--host=192.0.2.1"), "192.0.2.1"),
        (("RUN", "--cors-origin=example.org"), "example.org"),
        (("RUN", "--token-file=NONE"), "No such file"),
    ],
)
def test_what_cannot_start_is_one_line(
    args: Sequence[str],
    says: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [arg.replace("RUN", str(run)).replace("TAKEN", port) for arg in args]
        if not any("--port" in arg for arg in given):
            given.append("--port=0")
        assert serve.main(given) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.usefixtures("_own_log")
def test_a_missing_package_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("jaxsound.serving.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert serve.main([str(run), "--port=0"]) == 2
    assert "pip install 'jaxsound[serve]'" in capsys.readouterr().err
