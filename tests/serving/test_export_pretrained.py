"""Networks with published weights, from sound to probabilities, in every runtime."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import program
from tests.serving.conftest import RATE, sound, trained

saved_model = pytest.importorskip("jaxsound.serving.exporting.saved_model")
WITHIN = 5e-5
NEEDED = {"saved_model": (), "tflite": ("ai_edge_litert",), "onnx": ("onnxruntime", "tf2onnx")}
HTSAT: dict[str, Any] = {
    "model": "htsat",
    "data.normalize": "none",
    "frontend.seconds": 1.0,
    "frontend.pad": "repeatpad",
    "frontend.ends": "reflect",
    "frontend.hop_length": 320,
    "frontend.n_mels": 8,
    "frontend.top_db": 0.0,
    "frontend.dtype": "float32",
    "model.picture": 16,
    "model.patch": 2,
    "model.window": 4,
    "model.width": 8,
    "model.depths": (2, 1),
    "model.heads": (2, 2),
}
FUSED = {  # what lasts longer than half a second is heard in four views
    "frontend.seconds": 0.5,
    "frontend.excerpt": "whole",
    "model.fusion": True,
    "model.chunk_frames": 13,
}
NETWORKS: dict[str, dict[str, Any]] = {  # as their configs have them, but small
    "htsat": HTSAT,
    "htsat, fused": HTSAT | FUSED,
    "wav2vec2": {
        "model": "wav2vec2",
        "model.channels": 8,
        "model.width": 16,
        "model.depth": 1,
        "model.heads": 2,
        "model.positions": 6,
        "model.position_groups": 2,
        "model.hidden": 8,
    },
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[Classifier]:
    """One for all formats, and traced once."""
    classifier = Classifier([trained(**NETWORKS[request.param])])
    scores = saved_model.function(classifier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "function", lambda _: scores)
        yield classifier


@pytest.fixture(scope="module")
def heard(network: Classifier) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips of several lengths, noise after their ends, and what the checkpoint says of them."""
    seconds = (1.0, 0.31, 0.05, 0.71, 0.0001)
    clips = [sound(length, seed=i) for i, length in enumerate(seconds)]
    waveform = np.random.default_rng(0).uniform(-1, 1, (len(clips), RATE)).astype(np.float32)
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    expected = network.score(clips)[0]
    assert np.ptp(expected[:4], axis=0).max() > 1e-3  # the clips do differ
    return waveform, np.array([len(clip) for clip in clips], np.int32), expected


@pytest.mark.parametrize("to", NEEDED)
def test_it_says_what_the_checkpoint_says_at_every_length(
    to: str,
    network: Classifier,
    heard: tuple[np.ndarray, np.ndarray, np.ndarray],
    tmp_path: Path,
) -> None:
    if to == "onnx" and os.environ.get("JAXSOUND_PARITY") != "whole":
        pytest.skip("converted for long: set JAXSOUND_PARITY=whole")
    for package in NEEDED[to]:
        pytest.importorskip(package)
    form = importlib.import_module(f"jaxsound.serving.exporting.{to}")
    form.write(network, tmp_path / "written")
    run: program.Run = form.load(tmp_path / "written")
    waveform, samples, expected = heard
    np.testing.assert_allclose(run(waveform, samples), expected, atol=WITHIN)
    for i in range(len(samples)):
        alone = run(waveform[i : i + 1], samples[i : i + 1])
        np.testing.assert_allclose(alone, expected[i : i + 1], atol=WITHIN)
