"""The real download code, against a server on this machine."""

import functools
import hashlib
import http.server
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow_datasets as tfds

from jaxsound.data.dataset import prepare
from jaxsound.data.esc50 import Esc50
from jaxsound.errors import UserError

Make = Callable[..., SimpleNamespace]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(recordings: Path) -> Iterator[str]:
    """Serves the recordings; yields the address of the ESC-50 archive."""
    handler = functools.partial(Handler, directory=str(recordings))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/ESC-50-master.zip"
        server.shutdown()
        thread.join()


def publish(
    monkeypatch: pytest.MonkeyPatch, url: str, archive: Path, wrong: str = "", md5: str = ""
) -> None:
    """Makes `url` the archive's address and its checksum the right one, or not."""
    checksum = wrong or hashlib.sha256(archive.read_bytes()).hexdigest()
    known = tfds.download.checksums.UrlInfo(archive.stat().st_size, checksum, archive.name)
    monkeypatch.setattr(Esc50, "ARCHIVES", {url: md5})
    monkeypatch.setattr(Esc50, "url_infos", {} if md5 else {url: known})


def refused(data: SimpleNamespace, words: str) -> str:
    with pytest.raises(UserError, match=words) as error:
        prepare(data)
    assert "\n" not in str(error.value)
    left = [
        path for path in Path(data.cache_dir).rglob("*") if path.is_file() and path.stat().st_size
    ]
    assert left == [], "something half-written is left"
    return str(error.value)


def test_download_verify_unpack_and_not_again(
    address: str, recordings: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, address, recordings / "ESC-50-master.zip")
    data = prepare(options("esc50", subset="esc10"))
    assert len(data.clips) == 400
    assert data.left_out == ()
    monkeypatch.setattr("jaxsound.data.transfer.requests.get", None)  # no second download
    assert prepare(options("esc50", subset="esc10")).fingerprint == data.fingerprint


def test_a_wrong_checksum_is_one_line_and_leaves_nothing(
    address: str, recordings: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, address, recordings / "ESC-50-master.zip", wrong="0" * 64)
    message = refused(options("esc50", subset="esc10"), "not what its publisher describes")
    assert "0" * 64 in message
    assert "--config.data.manual_dir=DIR" in message


@pytest.mark.parametrize("right", [True, False])
def test_an_md5_is_verified_where_there_is_no_sha256(
    address: str, recordings: Path, options: Make, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    archive = recordings / "ESC-50-master.zip"
    md5 = hashlib.md5(archive.read_bytes()).hexdigest() if right else "f" * 32
    publish(monkeypatch, address, archive, md5=md5)
    if right:
        assert len(prepare(options("esc50", subset="esc10")).clips) == 400
    else:
        refused(options("esc50", subset="esc10"), f"instead of {md5}")


def test_an_archive_that_does_not_unpack(
    address: str, recordings: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = address.replace("ESC-50-master.zip", "ESC-50-master/meta/esc50.csv")
    archive = recordings / "ESC-50-master/meta/esc50.csv"
    publish(monkeypatch, url, archive)
    with pytest.raises(UserError, match="it does not unpack"):
        prepare(options("esc50", subset="esc10"))


def crafted(folder: Path, name: str) -> Path:
    """An archive with a link to the folder above and a file through it."""
    path = folder / name
    if name.endswith(".zip"):
        link = zipfile.ZipInfo("up")
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(link, "../../..")
            file.writestr("up/out.wav", "evil")
    else:
        link = tarfile.TarInfo("up")
        link.type, link.linkname = tarfile.SYMTYPE, "../../.."
        with tarfile.open(path, "w:gz") as file:
            file.addfile(link)
            file.addfile(tarfile.TarInfo("up/out.wav"))
    return path


@pytest.mark.parametrize("name", ["crafted.zip", "crafted.tar.gz"])
def test_a_crafted_archive_is_one_line_and_writes_nothing(
    tmp_path: Path, options: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    archive = crafted(served, name)
    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        publish(monkeypatch, f"http://127.0.0.1:{server.server_port}/{name}", archive)
        with pytest.raises(UserError, match="is a link") as error:
            prepare(options("esc50", subset="esc10"))
        server.shutdown()
        thread.join()
    assert "\n" not in str(error.value)
    assert not [*tmp_path.rglob("out.wav"), *tmp_path.rglob("up")]


def test_no_such_address_and_no_network_name_the_ways_on(
    address: str, recordings: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = recordings / "ESC-50-master.zip"
    publish(monkeypatch, address + ".old", archive)
    message = refused(options("esc50"), "HTTP code: 404")
    assert "--config.data.manual_dir=DIR" in message
    assert "configs/quickstart.py" in message
    publish(monkeypatch, "http://127.0.0.1:9/ESC-50-master.zip", archive)
    message = refused(options("esc50"), "no connection")
    assert "--config.data.manual_dir=DIR" in message
    assert "configs/quickstart.py" in message


def test_the_published_checksums_are_found_the_tfds_way() -> None:
    (url,) = Esc50.ARCHIVES
    assert Esc50.url_infos[url].size == 645_695_005
    assert len(Esc50.url_infos[url].checksum) == 64
