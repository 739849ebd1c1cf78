"""A checkpoint's manifest: the size and SHA-256 of every file, written before it counts as saved.

Orbax writes a checkpoint under a temporary name and renames it when it is whole. The manifest is
written just before that, so a checkpoint without one lost it, or is of a version that wrote none.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_METADATA = "_CHECKPOINT_METADATA"  # of Orbax, which adds the time of the renaming to it
_LATER = {MANIFEST, _METADATA, "commit_success.txt"}  # written after the manifest


def write(folder: Path) -> None:
    """Writes the manifest of all files that are in a checkpoint's folder now."""
    files = {name: _measure(folder / name) for name in _files(folder)}
    record = {"files": files, "metadata": _metadata(folder)}
    beside = folder / f"{MANIFEST}.tmp"
    with beside.open("w", encoding="utf-8") as file:
        json.dump(record, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / MANIFEST)


def fault(folder: Path, *, needs_manifest: bool = True) -> str:
    """What is wrong with a checkpoint; '' if all of it is as it was written.

    Args:
      folder: of one step.
      needs_manifest: whether one without a manifest is taken to be damaged, or as it is.

    Returns:
      The first file that differs, and how.
    """
    try:
        if not (folder / MANIFEST).exists() and not needs_manifest:
            return ""
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, (size, digest) in record["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes and had {size}"
            if _measure(path)[1] != digest:
                return f"{name} is not what was written (its SHA-256 differs)"
        if _metadata(folder) != record["metadata"]:
            return f"{_METADATA} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    return ""


def _files(folder: Path) -> list[str]:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in names if name not in _LATER]


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(file.fileno()).st_size, digest


def _metadata(folder: Path) -> str:
    """SHA-256 of Orbax's own record of the checkpoint, but for the time of the renaming."""
    try:
        record: dict[str, Any] = json.loads((folder / _METADATA).read_bytes())
        record.pop("commit_timestamp_nsecs", None)
    except (ValueError, AttributeError):
        return "unreadable"
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
