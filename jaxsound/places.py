"""Files at addresses: gs://, s3:// and what else fsspec knows, or paths of this machine.

fsspec does the work. gs:// needs the package gcsfs and s3:// s3fs, which find their credentials as
Google's and Amazon's own tools do.
"""

import contextlib
import datetime
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import fsspec
from fsspec.implementations.local import LocalFileSystem

from jaxsound.errors import UserError

Place = str | os.PathLike[str]

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "az": "adlfs"}
RECORD = ".remote.json"  # in a copy: what each of its files was made from
_AT_ONCE = 256  # files copied between two writes of the record
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def is_remote(place: Place) -> bool:
    """Whether it is an address, SCHEME://..., and not a path."""
    return _SCHEME.match(os.fspath(place)) is not None


def filesystem(place: Place) -> tuple[Any, str]:
    """fsspec's filesystem that an address or a path is on, and its name there.

    Raises:
      UserError: the scheme is not known, or needs a package that is not installed.
    """
    text = os.fspath(place)
    scheme = text.partition("://")[0]
    try:
        filesystem, name = fsspec.core.url_to_fs(text)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        needs = f"pip install {package}" if package else " ".join(str(error).split())
        raise UserError(f"{text}: {scheme}:// needs a package that is missing: {needs}") from error
    except ValueError as error:
        raise UserError(f"{text}: {scheme}:// is not known; there are gs:// and s3://") from error
    return filesystem, name


@contextlib.contextmanager
def in_one_line(place: Place) -> Iterator[None]:
    """Turns what a store on the network says of a failure into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each package has errors of its own beside OSError
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{place}: {line}") from error


def exists(place: Place) -> bool:
    filesystem_, name = filesystem(place)
    with in_one_line(place):
        filesystem_.invalidate_cache()  # others write there too
        return bool(filesystem_.exists(name))


def read(place: Place) -> bytes:
    """The whole file; raises `UserError` if it cannot be had."""
    filesystem_, name = filesystem(place)
    with in_one_line(place):
        content: bytes = filesystem_.cat_file(name)
        return content


def write(place: Place, content: bytes) -> None:
    """Makes the file, and its folder. It appears whole or not at all."""
    filesystem_, name = filesystem(place)
    with in_one_line(place):
        put(filesystem_, name, content)


def put(filesystem_: Any, name: str, content: bytes) -> None:
    """`write`, on a filesystem of fsspec's; raises what that raises."""
    if not isinstance(filesystem_, LocalFileSystem):
        filesystem_.pipe_file(name, content)
        return
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    beside.write_bytes(content)
    beside.replace(path)


def remove(place: Place) -> None:
    """Removes a folder and all that is in it, if it is there."""
    filesystem_, name = filesystem(place)
    with in_one_line(place), contextlib.suppress(FileNotFoundError):
        filesystem_.rm(name, recursive=True)


def local(place: Place, cache: Path) -> Path:
    """A path on this machine: of an address, a copy in `cache/remote`, brought up to date.

    A file that is there already is taken as it is while size and time at the address stay. Files
    get the times that they have there, so that what is prepared from them is found again.

    Args:
      place: of a file or a folder.
      cache: jaxsound's cache directory.

    Raises:
      UserError: nothing there, it cannot be read, or `filesystem` raises.
    """
    if not is_remote(place):
        return Path(place).expanduser()
    text = os.fspath(place).rstrip("/")
    filesystem_, root = filesystem(text)
    folder = copy_of(text, cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with in_one_line(place), filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        filesystem_.invalidate_cache()
        found = filesystem_.find(root, detail=True)
        if not found:
            raise UserError(f"{text}: nothing is there")
        if list(found) == [root]:  # a file
            folder, root = folder.parent, root.rpartition("/")[0]
        folder.mkdir(exist_ok=True)
        _bring(filesystem_, root, found, folder)
    return copy_of(text, cache)


def copy_of(place: str, cache: Path) -> Path:
    """Where an address's copy lies: a folder of its own, so that names stay what they are."""
    name = place.rpartition("/")[2]
    return cache / "remote" / hashlib.sha256(place.encode()).hexdigest()[:16] / name


def _bring(filesystem_: Any, root: str, found: dict[str, Any], folder: Path) -> None:
    """Makes `folder` hold what was `found` below `root`, and nothing else."""
    record = _recorded(folder)
    marks = {_below(root, name): _mark(info) for name, info in found.items()}
    for name in record.keys() - marks.keys():
        (folder / name).unlink(missing_ok=True)
    new = [
        name
        for name, mark in marks.items()
        if record.get(name) != mark or not (folder / name).is_file()
    ]
    kept = {name: mark for name, mark in record.items() if marks.get(name) == mark}
    for start in range(0, len(new), _AT_ONCE):
        names = new[start : start + _AT_ONCE]
        for parent in {(folder / name).parent for name in names}:
            parent.mkdir(parents=True, exist_ok=True)
        sources = [f"{root}/{name}" for name in names]
        filesystem_.get(sources, [str(folder / name) for name in names])
        for name in names:
            if seconds := marks[name][1]:
                os.utime(folder / name, (seconds, seconds))
        kept |= {name: marks[name] for name in names}
        (folder / RECORD).write_text(json.dumps(kept))


def _below(root: str, name: str) -> str:
    return name.removeprefix(root).lstrip("/")


def _mark(info: dict[str, Any]) -> list[Any]:
    """Size and time of change, in seconds since 1970; 0 where a store does not tell."""
    times = (info.get(key) for key in ("mtime", "LastModified", "updated", "created"))
    when = next((time for time in times if time), 0)
    if isinstance(when, str):
        when = datetime.datetime.fromisoformat(when)
    if isinstance(when, datetime.datetime):
        when = when.timestamp()
    return [info["size"], round(when)]


def _recorded(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record
