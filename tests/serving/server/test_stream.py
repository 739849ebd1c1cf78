"""Live sound is heard as the same sound in a file is, in whatever pieces it comes."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import av
import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from jaxsound.serving.classifier import Classifier
from tests.serving.conftest import NAMES, RATE, sound
from tests.serving.server.conftest import Served, encoded

PCM = {"type": "start", "format": "pcm16", "sample_rate": RATE, "channels": 1}
WEBM = {"type": "start", "format": "webm"}


def opened(served: Served, **more: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{served.port}/v1/stream", compression=None, **more)


def said(websocket: ClientConnection) -> list[dict[str, Any]]:
    """All messages to the end, and the code with which it closed."""
    messages = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            messages.append(json.loads(websocket.recv(timeout=20)))
    return [*messages, {"type": "closed", "code": websocket.close_code}]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def pcm(samples: np.ndarray) -> bytes:
    return np.rint(samples * 32767).astype("<i2").tobytes()


def webm(samples: np.ndarray, rate: int = 48000) -> bytes:
    """What a browser's recorder makes of them: Opus."""
    with av.open(file := io.BytesIO(), "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def probabilities(message: dict[str, Any]) -> list[float]:
    assert [c["label"] for c in message["classes"]] == list(NAMES)
    return [c["probability"] for c in message["classes"]]


@pytest.mark.parametrize(("rate", "channels", "size"), [(RATE, 1, 801), (44100, 2, 7000)])
def test_samples_are_heard_as_a_file_is(
    rate: int, channels: int, size: int, served: Served, classifier: Classifier
) -> None:
    samples = np.stack([sound(3.3, rate)] * channels, 1)
    samples[:, 0] *= 0.5
    data = pcm(samples)
    heard = np.frombuffer(data, "<i2").reshape(-1, channels)
    with opened(served) as websocket:
        websocket.send(json.dumps(PCM | {"sample_rate": rate, "channels": channels}))
        found = []
        for piece in pieces(data, size):
            websocket.send(piece)
            time.sleep(0.005)
        websocket.send(json.dumps({"type": "end"}))
        *found, done, closed = said(websocket)
    assert done == {"type": "done", "seconds": pytest.approx(3.3, abs=1e-3)}
    assert closed["code"] == 1000
    assert len(found) >= 2
    for message in found:
        end = round(message["time"] * rate)
        window = heard[max(0, end - round(classifier.window_seconds * rate)) : end].copy()
        expected = classifier.predict(window, rate)
        np.testing.assert_allclose(probabilities(message), expected.probabilities, atol=1e-3)
        assert message["silent"] is False
    assert found[-1]["time"] >= 3.0


def test_webm_is_heard_as_it_comes(served: Served, classifier: Classifier) -> None:
    samples = sound(4.0, 48000)
    data = webm(samples)
    with opened(served) as websocket:
        websocket.send(json.dumps(WEBM))
        parts = pieces(data, 1000)
        for piece in parts[: len(parts) // 2]:
            websocket.send(piece)
        early = json.loads(websocket.recv(timeout=10))  # before the rest is sent
        for piece in parts[len(parts) // 2 :]:
            websocket.send(piece)
        websocket.send(json.dumps({"type": "end"}))
        *found, done, closed = said(websocket)
    assert 0.5 <= early["time"] <= 3.0
    assert done["seconds"] == pytest.approx(4.0, abs=0.05)
    assert closed["code"] == 1000
    decoded = _decoded(data)
    for message in (early, found[-1]):
        end = round(message["time"] * 48000)
        window = decoded[max(0, end - round(classifier.window_seconds * 48000)) : end]
        expected = classifier.predict(window, 48000).probabilities
        np.testing.assert_allclose(probabilities(message), expected, atol=0.01)


def _decoded(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])


def test_silence_is_said(served: Served) -> None:
    with opened(served) as websocket:
        websocket.send(json.dumps(PCM))
        websocket.send(bytes(2 * RATE))
        assert json.loads(websocket.recv(timeout=10))["silent"] is True


def test_a_slow_model_hears_the_newest_window(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = served.service.batcher._score

    def slow(windows: Sequence[np.ndarray]) -> Any:
        time.sleep(0.3)
        return score(windows)

    monkeypatch.setattr(served.service.batcher, "_score", slow)
    with opened(served) as websocket:
        websocket.send(json.dumps(PCM))
        for piece in pieces(pcm(sound(10.0)), RATE // 5):
            websocket.send(piece)
            time.sleep(0.01)
        websocket.send(json.dumps({"type": "end"}))
        *found, done, _ = said(websocket)
    assert done["seconds"] == 10.0
    assert len(found) < 12  # of twenty
    assert found[-1]["time"] == 10.0


@pytest.mark.parametrize(
    ("messages", "status", "code"),
    [
        (["no json"], 400, 1008),
        (["[1]"], 400, 1008),
        ([b"sound"], 400, 1008),
        (['{"type": "end"}'], 400, 1008),
        (["{" * 5000], 413, 1009),
        ([json.dumps(PCM | {"format": "mp3"})], 415, 1003),
        ([json.dumps(PCM | {"sample_rate": 1})], 422, 1003),
        ([json.dumps(PCM | {"sample_rate": 2_000_000_000})], 422, 1003),
        ([json.dumps(PCM | {"sample_rate": "x"})], 422, 1003),
        ([json.dumps(PCM | {"channels": 1024})], 422, 1003),
        ([json.dumps(PCM), '{"type": "start"}'], 400, 1008),
        ([json.dumps(WEBM), b"no webm" * 1000, '{"type": "end"}'], 422, 1003),
        ([json.dumps(WEBM), webm(sound(1.0, 48000))[:200], '{"type": "end"}'], 422, 1003),
        ([json.dumps(WEBM), encoded(sound(1.0)), '{"type": "end"}'], 422, 1003),
        ([json.dumps(WEBM), *[bytes(400_000)] * 4], 422, 1003),
    ],
)
def test_what_makes_no_sense_is_refused(
    messages: Sequence[str | bytes], status: int, code: int, served: Served
) -> None:
    with opened(served) as websocket:
        for message in messages:
            websocket.send(message)
        error, closed = said(websocket)
    assert error["type"] == "error"
    assert error["status"] == status
    assert closed["code"] == code
    assert httpx.get(f"{served.url}/healthz").status_code == 200


def test_a_message_without_end_closes_it(served: Served) -> None:
    with opened(served) as websocket:
        websocket.send(json.dumps(PCM))
        with contextlib.suppress(ConnectionClosed):
            websocket.send(bytes(3_000_000))
        assert said(websocket)[-1]["code"] == 1009


def test_the_reason_reaches_who_is_still_sending(served: Served) -> None:
    upgrade = (
        "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    size, mask = 3_000_000, bytes(4)
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as sending:
        sending.sendall(upgrade.encode())
        sending.recv(4096)
        sending.sendall(b"\x82\xff" + size.to_bytes(8, "big") + mask)
        for _ in range(3):
            time.sleep(0.1)
            sending.sendall(bytes(100_000))
        heard = b"".join(iter(lambda: sending.recv(4096), b""))
    assert (1009).to_bytes(2, "big") in heard


def test_who_says_nothing_is_let_go(start: Callable[..., Served]) -> None:
    served = start(idle_seconds=0.1)
    with opened(served) as websocket:
        error, closed = said(websocket)
    assert (error["status"], closed["code"]) == (408, 1008)


def test_a_token_is_wanted_here_too(start: Callable[..., Served]) -> None:
    served = start(token="sesame")
    for given in ({}, {"token": "wrong"}, {"token": "\ud800"}):
        with opened(served) as websocket:
            websocket.send(json.dumps(PCM | given))
            error, closed = said(websocket)
        assert (error["status"], closed["code"]) == (401, 1008)
    bearer = {"Authorization": "Bearer sesame"}
    for headers, message in ((bearer, PCM), ({}, PCM | {"token": "sesame"})):
        with opened(served, additional_headers=headers) as websocket:
            websocket.send(json.dumps(message))
            websocket.send(json.dumps({"type": "end"}))
            assert said(websocket)[0]["type"] == "done"


def test_only_its_own_page_may_open_one(start: Callable[..., Served], served: Served) -> None:
    for server, origin, opens in (
        (served, f"http://127.0.0.1:{served.port}", True),
        (served, "https://example.org", False),
        (served, "null", False),
        (start(cors_origins=("https://example.org",)), "https://example.org", True),
    ):
        refusal = contextlib.nullcontext() if opens else pytest.raises(InvalidStatus, match="403")
        with refusal, opened(server, origin=origin):
            pass


def test_streams_are_counted_and_bounded(start: Callable[..., Served]) -> None:
    served = start(max_streams=2)
    with opened(served) as first, opened(served) as second:
        for websocket in (first, second):
            websocket.send(json.dumps(WEBM))
        with opened(served) as third:
            error, closed = said(third)
        assert (error["status"], closed["code"]) == (429, 1013)
        assert "jaxsound_streams 2.0" in httpx.get(f"{served.url}/metrics").text
        second.socket.shutdown(socket.SHUT_RDWR)  # without a word
    end = time.monotonic() + 10
    while "jaxsound_streams 0.0" not in httpx.get(f"{served.url}/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_streams_are_told_that_the_server_goes(start: Callable[..., Served]) -> None:
    served = start()
    with opened(served) as websocket, opened(served) as not_begun:
        websocket.send(json.dumps(PCM))
        websocket.send(bytes(2 * RATE))
        assert json.loads(websocket.recv(timeout=10))["type"] == "prediction"
        served.stop()
        for left in (websocket, not_begun):
            error, closed = said(left)
            assert (error["status"], closed["code"]) == (503, 1013)
