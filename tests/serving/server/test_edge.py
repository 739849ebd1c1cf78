"""Who may use the server, what it says of itself, and what is written down."""

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from jaxsound.serving.server import app
from tests.serving.conftest import sound
from tests.serving.server.conftest import BATCHES, Served, encoded, refused

ORIGIN = "https://example.org"
TOKEN = "sesame-123"


@pytest.fixture(scope="module")
def guarded(start: Callable[..., Served]) -> Served:
    """A server with a token, that pages of ORIGIN may use."""
    return start(token=TOKEN, cors_origins=(ORIGIN,))


def test_a_token_is_wanted_where_it_is_set(guarded: Served, served: Served) -> None:
    body = encoded(sound(1.0))
    bearer = f"Bearer {TOKEN}".encode()
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN.encode()}):
        answer = guarded.post(body, headers=given)
        refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert guarded.post(body, headers={"Authorization": bearer}).status_code == 200
    for path in ("/v1/model", "/metrics", "/docs", "/openapi.json"):
        assert httpx.get(guarded.url + path).status_code == 401
        assert httpx.get(guarded.url + path, headers={"Authorization": bearer}).status_code == 200
        assert httpx.get(served.url + path).status_code == 200
    for path in ("/healthz", "/readyz"):
        assert httpx.get(guarded.url + path).status_code == 200


def test_no_page_elsewhere_may_use_it_unless_told(guarded: Served, served: Served) -> None:
    ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{guarded.url}/v1/predict", headers=ask)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    # An error is readable there, too.
    answer = httpx.get(f"{guarded.url}/v1/model", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    ask["Origin"] = "https://example.com"
    assert (
        "access-control-allow-origin"
        not in httpx.options(f"{guarded.url}/v1/predict", headers=ask).headers
    )
    answer = httpx.get(f"{served.url}/v1/model", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_and_its_files(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert httpx.get(f"{served.url}/static/none.js").status_code == 404
    monkeypatch.setattr(app, "WEB", tmp_path)
    refused(httpx.get(served.url), 404)
    (tmp_path / "index.html").write_text("<!doctype html>")
    page = httpx.get(served.url)
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert f"connect-src 'self' ws://127.0.0.1:{served.port} " in policy
    assert "https:" not in policy.replace("wss:", "")


def test_a_host_cannot_write_the_policy(served: Served) -> None:
    answer = httpx.get(served.url, headers={"Host": "a; script-src *"})
    assert "*" not in answer.headers["content-security-policy"]


def test_docs_ask_nothing_of_any_host(served: Served) -> None:
    text = httpx.get(f"{served.url}/docs").text
    assert "/v1/predict" in text
    assert "/v1/stream" in text
    assert not re.search(r"https?://|src=|@import", text)


def test_metrics_count_what_happened(start: Callable[..., Served]) -> None:
    served = start()
    for _ in range(3):
        served.post(encoded(sound(2.0)))
    served.post(b"nothing")
    httpx.get(f"{served.url}/made/up")
    text = httpx.get(f"{served.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert values['jaxsound_requests_total{route="/v1/predict",status="200"}'] == "3.0"
    assert values['jaxsound_requests_total{route="/v1/predict",status="415"}'] == "1.0"
    assert values['jaxsound_requests_total{route="other",status="404"}'] == "1.0"
    assert float(values["jaxsound_windows_total"]) == 1 + 3 * 3  # one of them at the start
    assert float(values["jaxsound_batch_windows_sum"]) == 10
    assert values["jaxsound_queue_windows"] == "0.0"
    assert values["jaxsound_streams"] == "0.0"
    assert values['jaxsound_request_seconds_count{route="/v1/predict"}'] == "4.0"
    assert f'jaxsound_batch_windows_bucket{{le="{BATCHES[-1]:.1f}"}}' in values


def test_a_line_for_each_request_says_nothing_of_the_client(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "jaxsound"):
        httpx.get(f"{served.url}/someone@example.org?secret=1")
        files = {"file": ("my name.wav", encoded(sound(1.0)), "audio/wav")}
        httpx.post(f"{served.url}/v1/predict", files=files)
        time.sleep(0.2)  # a line is written once its answer is sent
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("jaxsound")]
    assert len(lines) == 2
    assert re.fullmatch(r"[0-9a-f]{8} GET other 404 [\d.]+ ms", lines[0])
    assert re.fullmatch(r"[0-9a-f]{8} POST /v1/predict 200 [\d.]+ ms", lines[1])


def test_a_full_queue_is_said_at_once(start: Callable[..., Served]) -> None:
    served = start(queue=1)
    with served.service.batcher.enter():
        answer = served.post(b"x")
        refused(answer, 429)
        assert int(answer.headers["retry-after"]) >= 1
    assert served.post(encoded(sound(1.0))).status_code == 200
