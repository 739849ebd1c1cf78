"""What an evaluation leaves: whole files, and JSON that every reader reads."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# File names that are not text survive the trip through a CSV.
TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}


def to_json(record: Mapping[str, Any]) -> str:
    """The record as JSON: arrays become lists, and a figure that is not finite becomes null."""
    return json.dumps(_plain(record), indent=1, allow_nan=False) + "\n"


def write(path: Path, text: str) -> None:
    """Writes a file, and its folder if need be; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w", newline="", **TEXT) as file:  # type: ignore[call-overload]
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, Mapping) or hasattr(value, "items"):  # ConfigDict is no Mapping
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
