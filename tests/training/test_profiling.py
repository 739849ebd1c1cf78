"""A trace is taken of the steps asked for, once, and left whole."""

import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxsound.training.profiling import Profile


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the profiler was asked for."""
    said: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: said.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: said.append("stop"))
    return said


@pytest.mark.parametrize(
    ("span", "steps", "expected"),
    [
        ("", range(10), []),
        ("3:5", range(10), ["3", "start", "5", "stop"]),
        ("3:5", range(4, 10), ["4", "start", "5", "stop"]),  # goes on from a checkpoint
        ("3:5", range(5, 10), []),
        ("8:20", range(10), ["8", "start", "end", "stop"]),
    ],
)
def test_start_and_stop(
    span: str, steps: range, expected: list[str], calls: list[str], tmp_path: Path
) -> None:
    found = []
    with Profile(span, tmp_path) as profile:
        for step in steps:
            profile.before(step, jnp.zeros(()))
            found += [str(step), *calls] if calls else []
            calls.clear()
    found += ["end", *calls] if calls else []
    assert found == expected


def test_the_trace_lies_where_tensorboard_looks(tmp_path: Path) -> None:
    with Profile("0:1", tmp_path) as profile:
        for step in range(2):
            profile.before(step, jnp.sin(jnp.ones(8)))
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 0


def test_the_trace_names_its_steps(tmp_path: Path) -> None:
    with Profile("3:6", tmp_path) as profile:
        for step in range(10):
            profile.before(step, jnp.zeros(()))
            with profile.step(step):
                jnp.sin(jnp.ones(8)).block_until_ready()
    (trace,) = tmp_path.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    numbers = [event["args"]["step_num"] for event in events if "step_num" in event.get("args", {})]
    assert numbers == ["3", "4", "5"]
