"""StableHLO by `jax.export`: one file, for CPUs and CUDA GPUs, run with jax alone."""

from pathlib import Path

import jax
import numpy as np

from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import program
from jaxsound.serving.exporting.program import Run

PLATFORMS = ("cpu", "cuda")  # not TPUs, which have no float64 for the frontend's transform
RUNTIME = "jax"


def write(classifier: Classifier, path: Path) -> None:
    """Writes the checkpoint's own computation, bit for bit but for the compiler's freedom."""
    compiled = jax.jit(program.clip_by_clip(classifier))
    exported = jax.export.export(compiled, platforms=PLATFORMS)(*program.arguments(classifier))
    path.write_bytes(exported.serialize())


def load(path: Path) -> Run:
    """What was written, ready to run."""
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda waveform, samples: np.asarray(exported.call(waveform, samples))
