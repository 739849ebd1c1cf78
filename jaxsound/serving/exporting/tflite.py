"""TFLite (LiteRT), converted from TensorFlow's own operations: one file, for phones and boards."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import program, saved_model
from jaxsound.serving.exporting.program import Run

RUNTIME = "ai-edge-litert"


def write(classifier: Classifier, path: Path) -> None:
    """Writes float32 weights and TFLite's built-in operations alone."""
    with tempfile.TemporaryDirectory(prefix="jaxsound_") as folder:
        saved_model.write(classifier, Path(folder))
        with _quiet():
            converted = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        path.write_bytes(converted)


def load(path: Path) -> Run:
    """What was written, ready to run."""
    with _quiet():
        runner = Interpreter(model_path=str(path)).get_signature_runner(saved_model.SIGNATURE)

    def run(waveform: np.ndarray, samples: np.ndarray) -> np.ndarray:
        return runner(**dict(zip(program.INPUTS, (waveform, samples), strict=True)))[program.OUTPUT]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Converter and interpreter write to standard error, past every level of logging."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
