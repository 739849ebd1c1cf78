"""One clip's features: from a decoded record to the frames that a store keeps."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsound.data import audio
from jaxsound.features import frontend as front
from jaxsound.features.frontend import FrontendConfig

_KEPT = ("label", "fold", "group", "clip_id")  # of a record, in its line
_FULL_SCALE = np.float32(1 / 32768)


def transform(
    frontend: FrontendConfig, record: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """A clip's frames and its line in a store's `clips.jsonl`.

    Each clip goes through the frontend alone, so its numbers cannot depend on which clips a batch
    would have held when a run was killed, or on which machine had which; on a CPU larger batches
    are no faster.

    Args:
      frontend: what to compute.
      record: as `jaxsound.data.dataset.Dataset` describes it.

    Returns:
      Frames `[its length, M]` in `frontend.dtype`, and the line.
    """
    rate, samples = int(record["sample_rate"]), np.asarray(record["audio"])
    waveform = audio.resample(samples.astype(np.float32) * _FULL_SCALE, rate, frontend.sample_rate)
    padded = np.zeros((1, bucket(len(waveform), frontend)), np.float32)
    padded[0, : len(waveform)] = waveform
    features = front.frontend(frontend, padded, np.array([len(waveform)], np.int32))
    frames = np.asarray(features)[0, : frontend.frames(len(waveform))].astype(frontend.dtype)
    line = {key: _plain(record[key]) for key in _KEPT}
    line["manually_verified"] = int(record.get("manually_verified", -1))
    return frames, line | {"sample_rate": rate, "samples": len(samples), "frames": len(frames)}


def _plain(value: Any) -> str | int:
    """Text as str, numbers as int: TFDS gives bytes and numpy scalars."""
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else int(value)


def bucket(samples: int, frontend: FrontendConfig) -> int:
    """Padded length, of a few: 1 s times 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, ...

    Each costs a compilation of half a second, once in a process. Past 1 s at most a quarter is
    padding, and nothing in a data set whose clips all last 4 or 5 s.
    """
    octave = 0
    while True:
        for quarters in (4, 5, 6):
            length = math.ceil(quarters * 2**octave * frontend.sample_rate / 4)
            if length >= samples:
                return length
        octave += 1
