"""Files at addresses: gs://, s3:// and what else fsspec knows, or paths of this machine.

fsspec does the work. gs:// needs the package gcsfs and s3:// s3fs, which find their credentials as
Google's and Amazon's own tools do.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from jaxsound.errors import UserError

Place = str | os.PathLike[str]

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "az": "adlfs"}
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
        if is_remote(place):
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
