"""The curves of a fold, read back from its `metrics.jsonl`."""

import json
import math
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a `metrics.jsonl`; [] where there is none."""
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:  # torn by a kill
                continue
            if isinstance(line, dict) and "step" in line:
                lines.append(line)
    return lines


def best(path: Path, tag: str) -> tuple[int, float] | None:
    """Step and value of a curve's maximum, the earliest of equal ones; None without a curve."""
    values = {line["step"]: line[tag] for line in read(path) if line.get(tag) is not None}
    finite = [(step, value) for step, value in sorted(values.items()) if math.isfinite(value)]
    return max(finite, key=lambda point: point[1], default=None)
