"""A checkpoint written for another runtime, proved against itself, and then put in its place."""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxsound
from jaxsound import tensorflow_notices
from jaxsound.errors import UserError
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.exporting import program, verification

FORMATS = ("stablehlo", "saved_model", "tflite", "onnx")
BOUND = 1e-4  # in probability; an export that differs by more is refused


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: the artefact, what is said about it in `OUT.json`, and its size."""

    path: Path
    about: dict[str, Any]
    bytes: int


def export(
    classifier: Classifier, out: Path, to: str, clips: Sequence[np.ndarray] | None = None
) -> Exported:
    """Writes a classifier for another runtime, with `OUT.json` about it.

    Nothing appears under these names before the artefact, loaded by its own runtime, has given the
    checkpoint's probabilities. An earlier export there is replaced.

    Args:
      classifier: the checkpoint.
      out: the file, or for `saved_model` the folder.
      to: one of `FORMATS`.
      clips: float32 `[<= window]` each, at the model's rate, on which the two are compared; by
        default sounds of the synthetic data set.

    Raises:
      UserError: a package that is missing, a model that the format cannot take, a difference above
        `BOUND`, or something else under that name.
    """
    note = out.with_name(out.name + ".json")
    _refuse_others(out, note)
    form = _format(to)
    if clips is None:
        clips = verification.synthesised(classifier)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".jaxsound_", dir=out.parent) as folder:
        written = Path(folder) / "written"
        try:
            form.write(classifier, written)
        except UserError as error:
            raise UserError(f"{to}: {error}") from error
        except Exception as error:  # converters fail in ways of their own
            raise UserError(f"{to} cannot take this model ({_line(error)})") from error
        try:
            largest = verification.difference(classifier, form.load(written), clips)
        except Exception as error:  # and so do runtimes
            raise UserError(f"{to}: its runtime fails on this model ({_line(error)})") from error
        if not largest <= BOUND:
            raise UserError(
                f"{to}: its probabilities are up to {largest:.1e} from the checkpoint's, more than "
                f"{BOUND:.0e}; nothing was kept"
            )
        about = _about(classifier, to, form.RUNTIME, largest, len(clips))
        described = Path(folder) / "about"
        described.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if out.exists():
            out.rename(Path(folder) / "earlier")
        written.rename(out)
        os.replace(described, note)
    return Exported(out, about, _bytes(out))


def _refuse_others(out: Path, note: Path) -> None:
    """Only what this module wrote may be replaced."""
    if not (out.exists() or note.exists()):
        return
    try:
        earlier = "jaxsound" in json.loads(note.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        earlier = False
    if not earlier:
        raise UserError(f"{out if out.exists() else note}: is there and is no export; name another")


def _format(to: str) -> Any:
    """The module of a format.

    Raises:
      UserError: what it needs is not installed.
    """
    tensorflow_notices.silence()
    try:
        return importlib.import_module(f"jaxsound.serving.exporting.{to}")
    except ImportError as error:
        package = error.name or _line(error)
        raise UserError(f"{to} needs {package}: pip install 'jaxsound[export]'") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _about(
    classifier: Classifier, to: str, runtime: str, largest: float, clips: int
) -> dict[str, Any]:
    waveform, samples = program.INPUTS
    return {
        "jaxsound": jaxsound.__version__,
        "format": to,
        "classes": list(classifier.classes),
        "sample_rate": classifier.sample_rate,
        "window": classifier.cut.size,
        "inputs": {
            waveform: f"float32 [B, {classifier.cut.size}]",
            samples: "int32 [B]",
        },
        "outputs": {program.OUTPUT: f"float32 [B, {len(classifier.classes)}]"},
        "folds": len(classifier.models),
        "steps": [model.step for model in classifier.models],
        "verified": {
            "runtime": f"{runtime} {importlib.metadata.version(_distribution(runtime))}",
            "clips": clips,
            "max_difference": largest,
            "bound": BOUND,
        },
    }


def _distribution(package: str) -> str:
    """TensorFlow comes under several names."""
    names = importlib.metadata.packages_distributions().get(package, [package])
    return names[0]
