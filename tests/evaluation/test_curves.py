"""Curves are read back whole, whatever a kill left of their file."""

import json
from pathlib import Path

from jaxsound.evaluation import curves


def test_the_best_point_is_the_earliest_highest_of_the_last_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    points = [(1, 0.99), (1, 0.3), (3, 0.8), (2, 0.8), (4, None), (5, float("nan"))]
    lines = [json.dumps({"step": step, "test/accuracy": value}) for step, value in points]
    lines.append(json.dumps({"step": 6, "validation/accuracy": 1.0}))
    path.write_text("\n".join(lines) + '\n{"step": 7, "test/acc')
    assert curves.best(path, "test/accuracy") == (2, 0.8)
    assert curves.best(path, "test/loss") is None
    assert curves.best(tmp_path / "none", "test/accuracy") is None
