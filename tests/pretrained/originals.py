"""The originals, of transformers and PyTorch, small and with random values, published as files."""

import functools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.keys import MODEL_COMMON, MODELS
from jaxsound.models import build_model
from jaxsound.pretrained import files, weights

torch = pytest.importorskip("torch", reason="the originals need PyTorch (the extra 'test')")
transformers = pytest.importorskip(
    "transformers", reason="the originals need transformers (the extra 'test')"
)
CLASSES = 5
RELATIVE = 1e-4  # of the largest value of each tensor compared
WHOLE = os.environ.get("JAXSOUND_PARITY") == "whole"  # networks of the published size, too
needs_time = pytest.mark.skipif(not WHOLE, reason="whole networks: set JAXSOUND_PARITY=whole")

# Compiling is nearly all that these tests do: half as long without optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def shaken(module: Any) -> Any:
    """The same for inference, whose every value does something: initial ones are zeros and ones."""
    generator = torch.Generator().manual_seed(0)

    def normal(like: Any) -> Any:
        return torch.randn(like.shape, generator=generator)

    for part in module.modules():
        for name, value in part.named_parameters(recurse=False):
            if value.ndim > 1:
                value.data = normal(value) / np.sqrt(np.prod(value.shape[1:]))
            elif "Norm" in type(part).__name__ and name == "weight":
                value.data = 1 + 0.1 * normal(value)
            else:
                value.data = 0.1 * normal(value)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean = 0.1 * normal(part.running_mean)
            part.running_var = 1 + 0.2 * torch.rand(part.running_var.shape, generator=generator)
    return module.eval()


def publish(module: Any, folder: Path) -> files.Published:
    """What the original's own library leaves in a folder for others, read."""
    transformers.utils.logging.disable_progress_bar()
    module.save_pretrained(folder)
    return files.read(str(folder))


def model_config(name: str, **changes: Any) -> SimpleNamespace:
    """The `model` section for a network without dropout."""
    keys = {key: spec.default for key, spec in (MODELS[name] | MODEL_COMMON).items()}
    return SimpleNamespace(**(keys | {"name": name, "dropout": 0.0, "drop_path": 0.0} | changes))


def blank(config: Any, *, bins: int, frames: int, classes: int = CLASSES) -> tuple[Any, Any, Any]:
    """Graph, parameters and statistics of a network; all values are 7, for none may stay."""
    model = nnx.eval_shape(
        lambda: build_model(config, features=bins, classes=classes, frames=frames, rngs=nnx.Rngs(0))
    )
    graph, *state = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graph, *jax.tree.map(lambda x: jnp.full(x.shape, 7, x.dtype), state)


def network(published: files.Published, config: Any, **size: Any) -> tuple[Any, Any]:
    """A network that has the publisher's values, split: graph and state."""
    graph, params, stats = blank(config, **size)
    start = weights.fit(published, config, params, stats, features=size["bins"])
    return graph, (start.params, start.stats)


def assert_close(ours: Any, theirs: Any) -> None:
    """Within 1e-4 of the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RELATIVE * np.abs(theirs).max())
