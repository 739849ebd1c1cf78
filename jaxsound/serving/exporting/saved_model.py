"""SavedModel, of TensorFlow's own operations: a folder, for TensorFlow and its server."""

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from jaxsound.errors import UserError
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import program, tensorflow_graph
from jaxsound.serving.exporting.program import Run

RUNTIME = "tensorflow"
SIGNATURE = "serving_default"


def write(classifier: Classifier, path: Path) -> None:
    """Writes the folder; its one signature is `serving_default`."""
    tf.get_logger().setLevel("ERROR")
    scores = function(classifier)
    signatures = {SIGNATURE: scores.get_concrete_function()}
    tf.saved_model.save(tf.Module(), str(path), signatures=signatures)


def load(path: Path) -> Run:
    """What was written, ready to run."""
    loaded = tf.saved_model.load(str(path))
    scores = loaded.signatures[SIGNATURE]

    def run(waveform: np.ndarray, samples: np.ndarray) -> np.ndarray:
        given = dict(zip(program.INPUTS, (waveform, samples), strict=True))
        return scores(**{k: tf.constant(v) for k, v in given.items()})[program.OUTPUT].numpy()

    return run


def function(classifier: Classifier) -> Any:
    """A `tf.function` of `waveform` `[B, n]` float32 and `samples` `[B]` int32.

    Raises:
      UserError: the model has what TensorFlow's operations cannot say; one line names it.
    """
    if any(model.config.model.dtype != "float32" for model in classifier.models):
        raise UserError("the model computes in bfloat16, which only stablehlo keeps")
    shapes = program.arguments(classifier)
    with warnings.catch_warnings():
        # Known of a transform that is vectorised; the graph is float32 throughout.
        warnings.filterwarnings("ignore", message="Explicitly requested dtype float64")
        traced = jax.make_jaxpr(program.side_by_side(classifier))(*shapes)
    specs = [
        tf.TensorSpec([None, *shape.shape[1:]], shape.dtype, name)
        for shape, name in zip(shapes, program.INPUTS, strict=True)
    ]

    def scores(waveform: tf.Tensor, samples: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.shape(samples)[0]
        found = tensorflow_graph.run(traced, shapes[1].shape[0], batch, waveform, samples)
        return {program.OUTPUT: found}

    return tf.function(scores, input_signature=specs, autograph=False)
