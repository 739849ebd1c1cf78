"""ONNX, converted from TensorFlow's own operations: one file, for onnxruntime and its like."""

from pathlib import Path

import numpy as np
import onnxruntime
import tf2onnx

from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import program, saved_model
from jaxsound.serving.exporting.program import Run

RUNTIME = "onnxruntime"
OPSET = 17  # what runtimes from 2022 on read


def write(classifier: Classifier, path: Path) -> None:
    """Writes the file; its first dimension is called `batch`."""
    scores = saved_model.function(classifier)
    model, _ = tf2onnx.convert.from_function(
        scores, input_signature=scores.input_signature, opset=OPSET
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path.write_bytes(model.SerializeToString())


def load(path: Path) -> Run:
    """What was written, ready to run."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(waveform: np.ndarray, samples: np.ndarray) -> np.ndarray:
        given = dict(zip(program.INPUTS, (waveform, samples), strict=True))
        (found,) = session.run([program.OUTPUT], given)
        return found

    return run
