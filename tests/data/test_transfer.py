"""Downloads that break off, change on the server or are not what they should be, over loopback."""

import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxsound.data import transfer

CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)


class Publisher(http.server.ThreadingHTTPServer):
    """Serves `content` under every path, and breaks off as told.

    `cuts`: bytes after which each next answer breaks off; none are left: whole. `ranges`: whether
    parts are served. `requests`: the headers that came.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.version, self.ranges = CONTENT, '"one"', True
        self.cuts: list[int] = []
        self.status, self.headers, self.lies = 0, {}, 0
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sounds.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Publisher

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, content, first = self.server, self.server.content, 0
        server.requests.append(dict(self.headers))
        self.close_connection = True
        if server.status:
            self.send_error(server.status)
            return
        asked = self.headers.get("Range", "")
        if asked and server.ranges and self.headers.get("If-Range", "") == server.version:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            at = first + server.lies
            self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
        if server.version:
            name = "ETag" if server.version[-1] == '"' else "Last-Modified"
            self.send_header(name, server.version)
        self.send_header("Content-Length", str(len(content) - first))
        for key, value in server.headers.items():
            self.send_header(key, value)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(content)
        with contextlib.suppress(OSError):  # who asked may have seen enough
            self.wfile.write(content[first : first + cut])


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.01, 0.02))
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("version", ['"one"', "Sat, 21 Nov 2026 10:00:00 GMT"])
def test_what_breaks_off_is_gone_on_with(
    publisher: Publisher, tmp_path: Path, version: str
) -> None:
    publisher.version = version
    publisher.cuts = [1_100_000, 700_000]
    transfer.get(publisher.url, tmp_path / "a.zip", len(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert left(tmp_path) == {"a.zip"}
    ranges = [headers.get("Range", "bytes=0-") for headers in publisher.requests]
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges]
    assert starts[0] == 0
    assert 1_000_000 < starts[1] <= 1_100_000
    assert 1_700_000 < starts[2] <= 1_800_000


def test_a_later_start_goes_on_too(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cuts = [2**20, 0, 0, 0, 0]
    with pytest.raises(transfer.TransferError, match="goes on from byte 1048576"):
        transfer.get(publisher.url, tmp_path / "a.zip")
    assert left(tmp_path) == {"a.zip.part", "a.zip.version"}
    publisher.cuts = []
    transfer.get(publisher.url, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert publisher.requests[-1]["Range"] == "bytes=1048576-"


@pytest.mark.parametrize("version", ['"two"', 'W/"two"', ""])
def test_two_versions_are_never_mixed(publisher: Publisher, tmp_path: Path, version: str) -> None:
    publisher.cuts = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(transfer.TransferError):
        transfer.get(publisher.url, tmp_path / "a.zip")
    publisher.content, publisher.version, publisher.cuts = OTHER, version, [2**19]
    transfer.get(publisher.url, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == OTHER
    last = publisher.requests[-1]
    assert last.get("Range") == ("bytes=524288-" if version == '"two"' else None)


def test_a_server_that_serves_no_parts_sends_all_again(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.ranges, publisher.cuts = False, [1_000_000, 2_000_000]
    transfer.get(publisher.url, tmp_path / "a.zip", len(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_from_another_place_is_not_taken(publisher: Publisher, tmp_path: Path) -> None:
    publisher.cuts, publisher.lies = [1_000_000, 0], 7
    transfer.get(publisher.url, tmp_path / "a.zip", len(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    (tmp_path / "a.zip.version").write_text('"one"')
    transfer.get(publisher.url, tmp_path / "a.zip", len(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert left(tmp_path) == {"a.zip"}


def test_a_part_longer_than_the_file_begins_anew(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    (tmp_path / "a.zip.version").write_text('"one"')
    transfer.get(publisher.url, tmp_path / "a.zip", len(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [10, 2_999_999, 3_000_001, 10**15])
def test_another_size_is_refused_before_it_is_written(
    publisher: Publisher, tmp_path: Path, size: int
) -> None:
    with pytest.raises(transfer.OtherFileError, match=f"3000000 bytes instead of {size}"):
        transfer.get(publisher.url, tmp_path / "a.zip", size)
    assert left(tmp_path) == set()


def test_an_answer_without_end_is_cut_off(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    monkeypatch.setattr(Handler, "do_GET", endless)
    with pytest.raises(transfer.OtherFileError, match="more than 5000000 bytes"):
        transfer.get(publisher.url, tmp_path / "a.zip", 5_000_000)
    assert left(tmp_path) == set()


def test_what_was_compressed_unasked_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(transfer.TransferError, match="compressed"):
        transfer.get(publisher.url, tmp_path / "a.zip")
    assert left(tmp_path) == set()


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_is_told_at_once(publisher: Publisher, tmp_path: Path, status: int) -> None:
    publisher.status = status
    with pytest.raises(transfer.TransferError, match=f"HTTP code: {status}"):
        transfer.get(publisher.url, tmp_path / "a.zip")
    assert len(publisher.requests) == 1
    assert left(tmp_path) == set()


def test_no_connection_is_told_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(transfer.TransferError, match="no connection"):
        transfer.get("http://127.0.0.1:9/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - began < 5


def test_many_cuts_give_the_same_bytes(publisher: Publisher, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    publisher.cuts = rng.integers(20_000, 200_000, 40).tolist()
    transfer.get(publisher.url, tmp_path / "a.zip", len(CONTENT))
    got = (tmp_path / "a.zip").read_bytes()
    assert hashlib.sha256(got).digest() == hashlib.sha256(CONTENT).digest()
    assert len(publisher.requests) > 10
