"""The parts of an export: the program, its form in TensorFlow, and the proof."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound.errors import UserError
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import artefact, program, verification
from tests.serving.conftest import RATE, sound, trained

tf = pytest.importorskip("tensorflow")
saved_model = pytest.importorskip("jaxsound.serving.exporting.saved_model")
tensorflow_graph = pytest.importorskip("jaxsound.serving.exporting.tensorflow_graph")

SECOND = {"frontend.seconds": 1.0}
SYSTEMS: dict[str, dict[str, Any]] = {  # of families that compile in seconds
    "cnn": {
        **SECOND,
        "frontend.pad": "reflect",
        "frontend.n_fft": 255,
        "model.residual": True,
        "model.pool": "mean_max",
    },
    "transformer": {
        "frontend.kind": "mfcc",
        "frontend.n_mfcc": 8,
        "frontend.delta": 2,
        "model.width": 16,
        "model.depth": 1,
        "model.stem_channels": (4, 4),
        "model.positions": "learned",
        "model.pool": "attention",
    },
    "tokens": {
        **SECOND,
        "frontend.excerpt": "loudest",
        "frontend.pad": "floor",
        "frontend.top_db": 0.0,
        "model": "transformer",
        "model.width": 16,
        "model.depth": 1,
        "model.stem": "frames",
        "model.positions": "rotary",
        "model.pool": "class_token",
        "model.norm": "post",
    },
    "stack": {
        "frontend.seconds": 0.5,
        "frontend.excerpt": "whole",
        "frontend.kind": "stft",
        "frontend.pad": "repeatpad",
        "frontend.ends": "reflect",
        "frontend.power": 1.0,
        "frontend.scale": "minmax",
        "model.layers": ("conv 8 3x5", "batch_norm", "tanh", "max_pool 2x3", "mean_max"),
    },
    "ast": {
        **SECOND,
        "frontend.kind": "fbank",
        "frontend.pad": "blank",
        "model.width": 16,
        "model.depth": 1,
        "model.heads": 2,
    },
    "one dimension": {
        "frontend.resize_frames": 32,
        "frontend.resize_bins": 24,
        "frontend.scale": "standardize",
        "model": "stack",
        "model.dims": 1,
        "model.layers": ("conv 8 5 stride=2", "relu", "max_pool 4", "mean", "linear 8", "gelu"),
    },
}


def system(name: str) -> Classifier:
    """An untrained model that hears differences."""
    model = trained(**{"model": name, **SYSTEMS[name]})
    if model.frontend.scale != "none":
        width = model.frontend.features
        state = dataclasses.replace(model.state, mean=jnp.zeros(width), std=jnp.ones(width))
        model = dataclasses.replace(model, state=state)
    return Classifier([model])


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_has_a_form_in_tensorflow(name: str) -> None:
    classifier = system(name)
    clips = [sound(seconds, seed=i) for i, seconds in enumerate((1.0, 0.4, 0.005))]
    clips = [clip[: classifier.cut.size] for clip in clips]
    waveform = np.full((3, classifier.cut.size), 0.9, np.float32)  # no clip's own past its end
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    expected = classifier.score(clips)[0]
    samples = np.array([len(clip) for clip in clips], np.int32)
    found = saved_model.function(classifier)(waveform, samples)[program.OUTPUT].numpy()
    np.testing.assert_allclose(found, expected, atol=artefact.BOUND / 2)
    assert np.ptp(expected, axis=0).max() > 1e-2


@pytest.mark.parametrize("name", ["cnn", "tokens", "stack", "one dimension"])
def test_frames_of_a_clip_are_counted_as_the_frontend_counts_them(name: str) -> None:
    config = system(name).frontend
    counts = np.array([0, 1, 79, 80, 81, 4000, RATE - 1, RATE], np.int32)
    expected = [config.frames(int(count)) for count in counts]
    np.testing.assert_array_equal(program._frames(config, jnp.asarray(counts)), expected)


def test_the_proof_sees_who_does_not_heed_samples(classifier: Classifier) -> None:
    right = jax.jit(program.clip_by_clip(classifier))
    clips = [sound(1.0, seed=seed) for seed in range(4)]

    def deaf(waveform: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return np.asarray(right(waveform, np.full_like(samples, RATE)))

    def first_alone(waveform: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return np.repeat(np.asarray(right(waveform, samples))[:1], len(samples), 0)

    def broken(waveform: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return np.where(samples[:, None] < RATE, np.nan, np.asarray(right(waveform, samples)))

    def proved(run: program.Run) -> float:
        return verification.difference(classifier, run, clips)

    assert proved(lambda waveform, samples: np.asarray(right(waveform, samples))) < 1e-6
    assert proved(deaf) > artefact.BOUND
    assert proved(first_alone) > artefact.BOUND
    assert np.isnan(proved(broken))


def test_bfloat16_is_stablehlos_alone() -> None:
    model = trained(**{"model.dtype": "bfloat16"})
    with pytest.raises(UserError, match="bfloat16"):
        saved_model.function(Classifier([model]))


def test_halves_stay_halves_whatever_an_optimiser_makes_of_it() -> None:
    x = np.random.default_rng(0).uniform(-80, 0, (64, 64)).astype(np.float32)

    def halves(x: jax.Array) -> jax.Array:
        return (x.astype(jnp.float16).astype(jnp.float32) + 8.8) / 20.9

    traced = jax.make_jaxpr(halves)(x)
    spec = [tf.TensorSpec(x.shape, tf.float32, "x")]
    graph = tf.function(lambda x: tensorflow_graph.run(traced, None, None, x), input_signature=spec)
    np.testing.assert_allclose(graph(x).numpy(), halves(x), atol=1e-6)
    tf2onnx, onnxruntime = map(pytest.importorskip, ("tf2onnx", "onnxruntime"))
    model, _ = tf2onnx.convert.from_function(graph, input_signature=spec)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, halves(x), atol=1e-6)


def test_an_operation_without_a_form_is_named() -> None:
    traced = jax.make_jaxpr(jax.lax.erf_inv)(np.zeros(3, np.float32))
    with pytest.raises(UserError, match="'erf_inv'"):
        tensorflow_graph.run(traced, None, None, tf.zeros(3))
