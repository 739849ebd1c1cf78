"""Whatever is sent, the answer is 4xx and one sentence, and the server goes on."""

import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from tests.serving.conftest import RATE, sound
from tests.serving.server.conftest import Served, encoded, refused

LIMIT = 2_000_000  # bytes, of `served`


def wav(
    rate: int = RATE,
    channels: int = 1,
    samples: bytes = b"\0\1" * 800,
    bits: int = 16,
    kind: int = 1,
) -> bytes:
    """A WAV file that says what it is told to say."""
    size = channels * bits // 8
    fields = kind, channels, rate, rate * size & 0xFFFFFFFF, size & 0xFFFF, bits
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, *fields)
    data = form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(data)) + data


def floats(value: float) -> bytes:
    return wav(samples=np.full(800, value, "<f4").tobytes(), bits=32, kind=3)


WHOLE = encoded(sound(1.0))
BROKEN: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 422),
    "text": (b"hello " * 100, 415),
    "html": (b"<!doctype html><script>alert(1)</script>", 415),
    "zip": (b"PK\x03\x04" + bytes(500), 415),
    "zeros": (bytes(5000), 415),
    "half a WAV": (WHOLE[: len(WHOLE) // 2], 422),
    "a header": (WHOLE[:44], 422),
    "half a header": (WHOLE[:30], 422),
    "half a FLAC": (encoded(sound(2.0), form="FLAC")[:5000], 422),
    "a third of an OGG": (encoded(sound(3.0), form="OGG")[:4000], 422),
    "a FLAC's first word": (b"fLaC" + bytes(100), 422),
    "1 Hz": (wav(rate=1), 422),
    "2 GHz": (wav(rate=2_000_000_000), 422),
    "1024 channels": (wav(channels=1024, samples=bytes(4096)), 422),
    "NaN": (floats(np.nan), 422),
    "infinity": (floats(-np.inf), 422),
    "1e30": (floats(1e30), 422),
    "a bomb in FLAC": (encoded(np.zeros(150 * RATE, np.int16), form="FLAC"), 422),
    "a bomb in OGG": (encoded(np.zeros(150 * RATE, np.float32), form="OGG"), 422),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("multipart", [False, True])
def test_what_is_no_recording_is_refused(name: str, multipart: bool, served: Served) -> None:
    body, status = BROKEN[name]
    if multipart:
        files = {"file": ("../../etc/x.wav", body, "audio/wav")}
        answer = httpx.post(f"{served.url}/v1/predict", files=files, timeout=20)
    else:
        answer = served.post(body)
    refused(answer, status)
    assert served.post(WHOLE).status_code == 200


def test_bombs_are_small_here_and_long_there() -> None:
    for form in ("FLAC", "OGG"):
        assert len(BROKEN[f"a bomb in {form}"][0]) < 100_000


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (WHOLE, "application/json", 415),
        (WHOLE, "text/plain", 415),
        (WHOLE, "multipart/form-data", 422),
        (WHOLE, "multipart/form-data; boundary=x", 422),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 422),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nabc\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            422,
        ),
        (
            b"--x\r\nContent-Disposition: " + b"a" * 100_000,
            "multipart/form-data; boundary=x",
            422,
        ),
    ],
)
def test_wrong_kinds_and_broken_forms(body: bytes, kind: str, status: int, served: Served) -> None:
    refused(served.post(body, headers={"Content-Type": kind}), status)


def chunks(size: int, until: int) -> Iterator[bytes]:
    for _ in range(0, until, size):
        yield bytes(size)


def test_too_large_is_refused_before_it_is_whole(served: Served) -> None:
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {10 * LIMIT}\r\n\r\n"
    assert "larger than 2 MB" in raw(served, head.encode())  # not a byte of it was sent
    answer = httpx.post(f"{served.url}/v1/predict", content=chunks(100_000, 3 * LIMIT))
    assert "larger than 2 MB" in refused(answer, 413)
    head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = head.encode() + b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    assert " 413 " in raw(served, endless, *[endless[len(head) :]] * 25)  # has no end


def test_slow_clients_are_not_waited_for(served: Served) -> None:
    began = time.monotonic()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    assert " 408 " in raw(served, head + b"a")
    assert " 408 " in raw(served, b"POST /v1/predict HT")
    assert " 408 " in raw(served, b"")
    assert 2.5 < time.monotonic() - began < 8
    drops = [b"a"] * 40  # each in time, all together not
    assert " 408 " in raw(served, head, *drops, pause=0.1)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000, 431),
        (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /static/../../serve.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /static/%2e%2e/server/app.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"DELETE /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    ],
)
def test_wrong_http(request_bytes: bytes, status: int, served: Served) -> None:
    answer = raw(served, request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "import " not in answer


def test_large_bodies_together_are_bounded(start: Callable[..., Served]) -> None:
    served = start(max_bytes=100_000, idle_seconds=5.0)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    held = []
    for _ in range(8):
        held.append(socket.create_connection(("127.0.0.1", served.port)))
        held[-1].sendall(head + bytes(99_999))
    time.sleep(0.3)
    assert "Too many large bodies" in raw(served, head + bytes(99_999))
    for connection in held:
        connection.close()
    time.sleep(0.3)
    assert served.post(encoded(sound(1.0))).status_code == 200


def test_a_failure_inside_tells_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/home/somebody/secret.py")

    monkeypatch.setattr(served.service.listener, "predict", broken)
    answer = served.post(WHOLE)
    assert answer.headers["x-request-id"] in refused(answer, 500)
    assert "secret.py" in caplog.text  # the log has it


def raw(served: Served, *parts: bytes, pause: float = 0.0) -> str:
    """What comes back for bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=15) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # it has heard enough
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionError:
            pass
        return answer.decode()
