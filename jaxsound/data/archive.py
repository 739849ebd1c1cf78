"""Archives from elsewhere: zip and tar.gz, of plain files and folders alone.

Every name, kind and size is looked at before it is written, and no link is ever made, so nothing
lands outside the folder. What grows out of proportion is refused before or while it grows.
"""

import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, cast

MOST_ENTRIES = 50_000  # the largest publisher's archive here has about 11 000
MOST_BYTES = 64 * 2**30  # unpacked
MOST_GROWTH = 50  # unpacked over packed; sound shrinks to a half or, mostly silent, to a tenth
FREE_GROWTH = 64 * 2**20  # bytes up to which any growth is taken
_LONGEST_NAME = 1000  # bytes
_AT_ONCE = 2**24  # bytes; tar's own reading of names is as long as a header says
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)


class ArchiveError(Exception):
    """Why an archive is not unpacked, in a few words."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a zip or tar.gz into a folder.

    Args:
      archive: the file; its content decides which of the two it is.
      folder: is there. After an error it holds a part, for the caller to remove.

    Raises:
      ArchiveError: it is neither, is damaged, or holds a link, a device, a name that leads
        elsewhere, a name twice, more than 50 000 entries, more than 64 GiB, or more than 50 times
        its own size.
    """
    most = min(MOST_BYTES, max(FREE_GROWTH, MOST_GROWTH * archive.stat().st_size))
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder, most)
        else:
            _untar(archive, folder, most)
    except _BROKEN as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"it does not unpack: {line}") from error


def _unzip(archive: Path, folder: Path, most: int) -> None:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        _check_count(len(entries))
        _check_size(sum(entry.file_size for entry in entries), most)
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"{_shown(entry.filename)} is a link or a device")
            if entry.flag_bits & 1:
                raise ArchiveError(f"{_shown(entry.filename)} is encrypted")
            _place(folder, entry.filename)
        for entry in entries:
            if entry.is_dir():
                _make(folder, entry.filename)
            else:
                with file.open(entry) as content:
                    _write(folder, entry.filename, content)


def _untar(archive: Path, folder: Path, most: int) -> None:
    with gzip.open(archive) as packed:
        reader = _Bounded(packed, most)
        with tarfile.open(fileobj=cast(IO[bytes], reader), mode="r:") as file:
            for count, entry in enumerate(file, start=1):
                _check_count(count)
                if entry.issparse() or not (entry.isreg() or entry.isdir()):
                    raise ArchiveError(f"{_shown(entry.name)} is a link, a device or sparse")
                if entry.isdir():
                    _make(folder, entry.name)
                elif content := file.extractfile(entry):
                    _write(folder, entry.name, content)
        while reader.read(_AT_ONCE):  # to the end, where the checksum is
            pass


class _Bounded:
    """A stream to read forwards that ends in an `ArchiveError` where it grows too long."""

    def __init__(self, file: gzip.GzipFile, most: int):
        self._file = file
        self._most = most

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _AT_ONCE:
            raise ArchiveError(f"a header of it asks for {size} bytes")
        data = self._file.read(size)
        _check_size(self._file.tell(), self._most)
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        _check_size(position, self._most)
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


def _check_count(entries: int) -> None:
    if entries > MOST_ENTRIES:
        raise ArchiveError(f"it has more than {MOST_ENTRIES} entries")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ArchiveError(f"it would unpack to more than {most} bytes")


def _place(folder: Path, name: str) -> Path:
    """Where an entry goes; raises if that is not below the folder."""
    parts = name.rstrip("/").split("/")
    elsewhere = name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name)
    if elsewhere or "\\" in name or "\0" in name:
        raise ArchiveError(f"{_shown(name)} leads out of its folder")
    longest = max(len(os.fsencode(part)) for part in parts)
    if longest > 255 or len(os.fsencode(name)) > _LONGEST_NAME:
        raise ArchiveError(f"{_shown(name)} is too long a name")
    return folder.joinpath(*parts)


def _make(folder: Path, name: str) -> None:
    path = _place(folder, name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"{_shown(name)} is there twice") from error


def _write(folder: Path, name: str, content: IO[bytes]) -> None:
    path = _place(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"{_shown(name)} is there twice") from error


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}...")
