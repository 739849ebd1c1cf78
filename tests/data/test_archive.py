"""Crafted archives: nothing is written outside the folder, and each is refused in one line."""

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxsound.data import archive

ESCAPES = (
    "../out.wav",
    "a/../../out.wav",
    "/out.wav",
    "//out.wav",
    "a/..",
    "..",
    "..\\out.wav",
    "C:\\out.wav",
    "C:out.wav",
    "\\\\host\\out.wav",
)


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def tarred(path: Path, *entries: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as file:
        for name, content in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content) if info.isreg() else 0
            file.addfile(info, io.BytesIO(content))
    return path


def refused(path: Path, words: str) -> None:
    """The archive raises, in one line, and writes nothing but below its folder."""
    folder = path.parent / "deep" / "deeper" / "target"
    folder.mkdir(parents=True, exist_ok=True)
    before = outside(path.parent, folder)
    with pytest.raises(archive.ArchiveError, match=words) as error:
        archive.unpack(path, folder)
    assert str(error.value).isprintable()
    assert outside(path.parent, folder) == before
    assert not Path("/out.wav").exists()


def outside(root: Path, folder: Path) -> set[Path]:
    return {path for path in root.rglob("*") if folder not in path.parents}


@pytest.mark.parametrize("make", [zipped, tarred])
def test_files_and_folders_come_out_whole(tmp_path: Path, make: Callable[..., Path]) -> None:
    path = make(
        tmp_path / "a", ("a/b.wav", b"sound" * 9999), ("a/empty", b""), ("\u72ac.csv", b"x")
    )
    (tmp_path / "target").mkdir()
    archive.unpack(path, tmp_path / "target")
    assert (tmp_path / "target/a/b.wav").read_bytes() == b"sound" * 9999
    assert (tmp_path / "target/a/empty").read_bytes() == b""
    assert (tmp_path / "target/\u72ac.csv").read_bytes() == b"x"


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_elsewhere(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    refused(
        make(tmp_path / "a", ("good.wav", b"sound"), (name, b"evil")), "leads out|is there twice"
    )


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    link = zipfile.ZipInfo("a")
    link.external_attr = (kind | 0o777) << 16
    refused(zipped(tmp_path / "a", (link, b"../.."), ("a/out.wav", b"evil")), "a link or a device")


@pytest.mark.parametrize("target", ["../..", "/", "good.wav"])
@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes, target: str) -> None:
    link = tarfile.TarInfo("a")
    link.type, link.linkname = kind, target
    entries = (("good.wav", b"sound"), (link, b""), ("a/out.wav", b"evil"))
    refused(tarred(tmp_path / "a", *entries), "a link, a device or sparse")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_bombs(tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "ratio", ("a.wav", bytes(100_000_000)))
    assert path.stat().st_size < 1_000_000
    refused(path, "unpack to more than 67108864 bytes")
    monkeypatch.setattr(archive, "MOST_BYTES", 10_000)
    noise = random.Random(0).randbytes(6000)
    (tmp_path / "two").mkdir()
    refused(
        make(tmp_path / "two" / "size", ("a.wav", noise), ("b.wav", noise)), "more than 10000 bytes"
    )


def test_a_bomb_of_a_tar_s_header(tmp_path: Path) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 60_000_000
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(long.tobuf() + bytes(60_000_000)))
    refused(path, "a header of it asks for 60000")


def test_a_sparse_file_in_a_tar(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("a.wav")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\0"  # the size that it shall have
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:512]))
    (tmp_path / "a").write_bytes(gzip.compress(bytes(block) + bytes(1024)))
    refused(tmp_path / "a", "sparse")


def test_a_hundred_thousand_entries(tmp_path: Path) -> None:
    """Put together by hand: the libraries take half a minute to write them."""
    path = zipped(tmp_path / "zip", ("000000", b""))
    content = path.read_bytes()
    first = content.index(b"PK\1\2")
    entry = content[first : content.index(b"PK\5\6")]
    entries = b"".join(entry.replace(b"000000", b"%06d" % i) for i in range(100_000))
    # Zip64's end and its locator, for what does not fit into sixteen bits.
    count, size, end = 100_000, len(entries), first + len(entries)
    tail = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, first)
    tail += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    tail += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, size, first, 0)
    path.write_bytes(content[:first] + entries + tail)
    refused(path, "more than 50000 entries")
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    content = folder.tobuf() * 100_000 + bytes(1024)
    (tmp_path / "tar").write_bytes(gzip.compress(content, compresslevel=1))
    refused(tmp_path / "tar", "more than 50000 entries")


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile's, while it is crafted
def test_a_name_twice_or_in_another_s_way(tmp_path: Path, make: Callable[..., Path]) -> None:
    refused(make(tmp_path / "a", ("a.wav", b"1"), ("a.wav", b"2")), "is there twice")
    refused(make(tmp_path / "b", ("b", b"1"), ("b/c.wav", b"2")), "is there twice")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_too_long(tmp_path: Path, make: Callable[..., Path]) -> None:
    refused(make(tmp_path / "a", ("a" * 300, b"1")), "too long a name")
    refused(make(tmp_path / "b", ("a/" * 600 + "b", b"1")), "too long a name")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a", ("a.wav", b"sound"))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, "encrypted")


def test_a_size_that_is_not_the_true_one(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a", ("a.wav", bytes(500_000)))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(content)
    refused(path, "does not unpack")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.wav")) <= 1000


@pytest.mark.parametrize("make", [zipped, tarred])
def test_cut_and_changed_archives_are_one_line(tmp_path: Path, make: Callable[..., Path]) -> None:
    rng = random.Random(0)
    noise = rng.randbytes(3000)
    whole = make(tmp_path / "whole", ("a.wav", noise), ("b/c.wav", b"d" * 5000)).read_bytes()
    for number in range(300):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path = tmp_path / f"{number}"
        path.mkdir()
        (path / "a").write_bytes(broken[: rng.choice((len(broken), rng.randrange(len(broken))))])
        (path / "target").mkdir()
        try:
            archive.unpack(path / "a", path / "target")
        except archive.ArchiveError as error:
            if not str(error).isprintable():
                raise AssertionError(repr(str(error))) from error
        except OSError as error:
            raise AssertionError(f"case {number}") from error
        assert {file.name for file in path.iterdir()} == {"a", "target"}
        for file in path.rglob("*"):
            assert not file.is_symlink()
            assert os.path.realpath(file).startswith(os.path.realpath(path))
