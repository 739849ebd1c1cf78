"""The benchmarks' harness and table, and that both sides of a comparison do the same work."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = f"""
import os
import sys

sys.path.insert(0, {str(BENCHMARKS)!r})
from harness import Contestant, Row, main, note


def prepare(*values, refuse=False):
    if refuse:
        raise SystemExit("differs from the reference")
    figures = iter(values)
    note(f"{{os.getpid()}} is {{os.environ.get('COLOUR', 'plain')}}")
    return lambda: next(figures)


def rows(args):
    own = Contestant("jaxsound", lambda: prepare(99, 4, 2, 3))
    peer = Contestant("peer", lambda: prepare(99, 1, 1, 2), {{"COLOUR": "red"}})
    other = Contestant("other", lambda: prepare(7))
    broken = Contestant("broken", lambda: prepare(refuse=True))
    return [
        Row("speed", "clips/s", [own, peer], (2,), rounds=3),
        Row("seconds", "s", [own, other, peer], (0, 0.5), smaller=True, rounds=3, together=True),
        Row("anew", "s", [other, peer], (0,), rounds=2, fresh=True, warm_up=False),
        Row("refused", "s", [own, broken], (1,)),
    ]


main("trivial", __file__, rows)
"""


def load(name: str) -> Any:
    """A file of benchmarks/, imported as the scripts there import it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "trivial.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), f"--out={folder}", "--patience=0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def measured(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((folder / "trivial.json").read_text())["rows"]
    return row


def colours(row: dict[str, Any]) -> dict[str, str]:
    """Process -> its COLOUR, from the notes."""
    return dict(note.split(" is ") for note in row["notes"])


def test_figures_are_those_after_the_warm_up_each_side_in_a_process_of_its_own(tmp_path: Path):
    row = measured(tmp_path, "--only=speed")
    assert row["figures"] == {"jaxsound": [4, 2, 3], "peer": [1, 1, 2]}
    assert row["median"] == {"jaxsound": 3, "peer": 1}
    assert row["best"] == {"jaxsound": 4, "peer": 2}
    assert sorted(colours(row).values()) == ["plain", "red"]


def test_contestants_that_belong_together_share_a_process_and_a_peer_can_be_left_out(
    tmp_path: Path,
):
    row = measured(tmp_path, "--only=seconds", "--without=other")
    assert row["best"] == {"jaxsound": 2, "peer": 1}
    assert row["goals"] == [0.5]
    assert len(colours(row)) == 1


def test_fresh_contestants_start_again_for_every_run(tmp_path: Path):
    row = measured(tmp_path, "--only=anew")
    assert row["figures"] == {"other": [7, 7], "peer": [99, 99]}
    assert len(colours(row)) == 4


def test_a_refusal_ends_the_benchmark_with_its_reason(tmp_path: Path):
    done = run(tmp_path, "--only=refused")
    assert done.returncode != 0
    assert "broken, preparing, ended early: differs from the reference" in done.stderr


def result(**changes: Any) -> dict[str, Any]:
    return {
        "area": "step",
        "unit": "s",
        "smaller": True,
        "goals": [2.0],
        "idle_before": 0.99,
        "idle_after": 0.99,
        "best": {"jaxsound": 1.0, "peer": 1.5},
        "median": {"jaxsound": 1.0, "peer": 2.0},
        "notes": [],
    } | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "2.00x | 2x, reached"),
        ({"goals": [2.1]}, "2.00x | 2.1x, **not reached**"),
        ({"smaller": False}, "0.50x | 2x, **not reached**"),
        ({"goals": [0]}, "2.00x | context"),
        ({"idle_after": 0.5}, "not quiet: 50% idle"),
        ({"notes": ["at most 1 dB off"]}, "- step: at most 1 dB off"),
    ],
)
def test_the_table_says_how_many_times_better_jaxsound_is(changes: dict[str, Any], said: str):
    table = load("harness").table([result(**changes)])
    assert said in table
    assert ("not quiet" in table) == ("idle_after" in changes)


@pytest.mark.parametrize("network", ["cnn", "transformer"])
def test_peers_have_jaxsounds_parameters(network: str):
    """For the steps of ESC-50's configurations, and for the small networks of crossval.py."""
    pytest.importorskip("torch")
    peers, script = load("torch_peers"), load("torch_crossval")
    small = load("esc10_small").get_config(f"network={network}")
    for config, classes, peer in (
        (load("steps").configure(network), 50, None),
        (small, 10, script.build(network)),
    ):
        peer = peer or peers.build(config.model, 501, config.frontend.n_mels, classes)
        assert peers.parameters(peer) == parameters(config, classes)
    ours = (small.epochs, small.batch_size, small.optimizer.peak_lr, small.optimizer.weight_decay)
    assert ours == (script.EPOCHS, script.BATCH, script.LR, script.WEIGHT_DECAY)
    front = small.frontend
    ours = (front.sample_rate, front.n_fft, front.hop_length, front.n_mels, front.fmin)
    assert ours == (script.RATE, script.N_FFT, script.HOP, script.MELS, script.FMIN)


def parameters(config: Any, classes: int) -> int:
    """Of jaxsound's network, which is not built for it."""
    from jaxsound.training import state

    def params(key: jax.Array) -> Any:
        bins = config.frontend.n_mels
        return state.build_network(
            config.model, features=bins, classes=classes, frames=251, key=key
        )[1]

    shapes = jax.eval_shape(params, jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
