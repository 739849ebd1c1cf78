"""Published networks have their published number of parameters.

Those that a config in `configs/seeds` uses are counted by `tests/test_seeds.py`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxsound.models import build_model
from tests.models.test_padding import model_config

# With one input channel: torchvision's published totals less what two more channels take.
NETWORKS = {  # name, depth or variant -> parameters at 1000 classes
    ("resnet", "depth", 34): 21_797_672 - 2 * 49 * 64,
    ("resnet", "depth", 101): 44_549_160 - 2 * 49 * 64,
    ("efficientnet", "variant", "b1"): 7_794_184 - 2 * 9 * 32,
    ("efficientnet", "variant", "b2"): 9_109_994 - 2 * 9 * 32,
}


@pytest.mark.parametrize(("name", "key", "value"), NETWORKS)
def test_parameters(name: str, key: str, value: int | str) -> None:
    """Nothing is compiled."""
    config = model_config(name, **{key: value})

    def build(x: jax.Array, length: jax.Array) -> tuple[Any, jax.Array]:
        model = build_model(config, features=32, classes=1000, frames=64, rngs=nnx.Rngs(0))
        return nnx.state(model, nnx.Param), model(x, length, train=False)

    x = jax.ShapeDtypeStruct((2, 64, 32), jnp.float32)
    params, logits = jax.eval_shape(build, x, jax.ShapeDtypeStruct((2,), jnp.int32))
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == NETWORKS[name, key, value]
    assert logits.shape == (2, 1000)
