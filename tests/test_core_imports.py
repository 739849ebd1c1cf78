"""The core needs only jax, flax, optax and numpy; TensorFlow is one module's business."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "jaxsound"
CORE = [
    "jaxsound.models",
    "jaxsound.features.spectral",
    "jaxsound.features.frontend",
    *(
        f"jaxsound.training.{name}"
        for name in (
            *("state", "step", "losses", "optim", "selection"),
            *("augment", "augment_sound", "hearing"),
        )
    ),
]
# What jaxsound depends on beside those four, one import for each.
OTHERS = (
    "absl.flags array_record clu grain jaxtyping librosa matplotlib ml_collections "
    "orbax.checkpoint soundfile soxr tensorboard tensorflow tensorflow_datasets tqdm"
)


@pytest.fixture(scope="module")
def forbidden() -> list[str]:
    """Those that jax, flax and optax do not themselves import: theirs are not ours to forbid."""
    code = "import sys, jax, flax.nnx, optax; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = sorted(set(OTHERS.split()) - set(out.stdout.split()))
    assert {"tensorflow", "grain", "ml_collections", "clu", "librosa"} <= set(names)
    return names


def test_core_imports_nothing_else(forbidden: list[str]) -> None:
    block = "".join(f"sys.modules[{name!r}] = None; " for name in forbidden)
    code = f"import sys; {block}import {', '.join(CORE)}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tensorflow_is_imported_by_the_writer_and_by_exports_to_it_alone() -> None:
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(n.split(".")[0] == "tensorflow" or "metric_writers" in n for n in names):
                found.add(path.relative_to(ROOT).as_posix())
    exports = {name for name in found if name.startswith("serving/exporting/")}
    assert found - exports == {"training/writer.py"}


def test_files_stay_small() -> None:
    sizes = {
        p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in ROOT.rglob("*.py")
    }
    assert sizes["main.py"] <= 60
    assert sizes["train.py"] <= 250
    assert max(sizes.values()) <= 400
