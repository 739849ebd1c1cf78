"""The publishers' archives: download, verify, unpack.

`checksums.tsv` beside this file has sizes and SHA-256, in TFDS's form. Zenodo publishes an MD5
alone. TFDS's own download cannot go on where it broke off, and its unpacking runs on TensorFlow,
so both are done here; archives appear under their name once complete.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxsound.data import archive, transfer
from jaxsound.errors import UserError


def fetch(builder: Any, dl_manager: tfds.download.DownloadManager) -> Path:
    """The folder that holds what all of `builder.ARCHIVES` unpack to.

    Raises `UserError` when an archive cannot be had or is not the one that its publisher
    describes. What is left then is at most the part of a download that broke off, from which the
    next call goes on.
    """
    downloads = Path(dl_manager.download_dir)
    key = hashlib.sha256(repr(builder.archive_key()).encode()).hexdigest()[:16]
    folder = downloads / f"{builder.name}-{key}"
    if folder.is_dir():
        return folder
    downloads.mkdir(parents=True, exist_ok=True)
    archives = {url: _download(builder, url, downloads) for url in builder.ARCHIVES}
    _unpack(archives, folder, builder.TITLE)
    return folder


def _download(builder: Any, url: str, downloads: Path) -> Path:
    """The archive of that address, with the right checksum."""
    kind, expected, size = "MD5", builder.ARCHIVES[url], None
    if not expected:
        known = builder.url_infos[url]
        kind, expected, size = "SHA-256", known.checksum, known.size
    key = hashlib.sha256(f"{url} {expected}".encode()).hexdigest()[:16]
    path = downloads / f"{key}-{os.path.basename(url)}"
    if not path.exists():
        print(f"downloading {builder.TITLE}: {url}", file=sys.stderr)
        try:
            transfer.get(url, path, size)
        except transfer.OtherFileError as error:
            raise UserError(_damaged(builder.TITLE, url, str(error))) from error
        except transfer.TransferError as error:
            raise UserError(_offline(builder.TITLE, url, str(error))) from error
    if (got := _digest(path, kind)) != expected:
        path.unlink()
        raise UserError(_damaged(builder.TITLE, url, f"{kind} {got} instead of {expected}"))
    return path


def _unpack(archives: dict[str, Path], folder: Path, title: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        for url, path in archives.items():
            print(f"unpacking {os.path.basename(url)}", file=sys.stderr)
            try:
                archive.unpack(path, unpacked)
            except archive.ArchiveError as error:
                raise UserError(_damaged(title, url, str(error))) from error
        unpacked.rename(folder)


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind.replace("-", "").lower()).hexdigest()


def _damaged(title: str, url: str, what: str) -> str:
    return (
        f"the download of {title} from {url} is not what its publisher describes ({what}); "
        "try again, or get it another way and give its folder: --config.data.manual_dir=DIR"
    )


def _offline(title: str, url: str, why: str) -> str:
    return (
        f"{title} cannot be downloaded from {url} ({why}); give the folder of a copy with "
        "--config.data.manual_dir=DIR, or run on built-in sounds with "
        "--config=configs/quickstart.py"
    )
