"""A deep residual network that begins as a shallow one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models import resnet


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_blocks_begin_as_the_identity_where_wanted(bottleneck: bool, zero: bool) -> None:
    width = 8
    block = resnet.Block(
        width * resnet.EXPANSION if bottleneck else width,
        width,
        1,
        bottleneck=bottleneck,
        zero_init_residual=zero,
        dtype=jnp.dtype("float32"),
        rngs=nnx.Rngs(0),
    )
    x = jax.random.uniform(jax.random.key(0), (2, 6, 4, block.outputs))  # positive, as after a ReLU
    found, length = jax.jit(lambda block, x: block(x, jnp.full(2, 6), True))(block, x)
    assert length.tolist() == [6, 6]
    assert (np.abs(found - x).max() == 0) == zero
