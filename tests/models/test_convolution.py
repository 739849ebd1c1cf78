"""The convolution's own gradients on CPU are XLA's."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsound.models import convolution


@pytest.mark.parametrize(
    ("inputs", "groups", "kernel", "strides", "padding"),
    [
        (1, 1, (7, 5), (2, 2), ((3, 3), (2, 2))),
        (3, 1, (3, 3), (1, 1), ((1, 1), (1, 1))),
        (3, 1, (3, 2), (2, 3), ((1, 2), (0, 0))),
        (2, 1, (1, 1), (2, 1), ((0, 0), (0, 0))),
        (4, 4, (3, 5), (2, 1), ((1, 1), (2, 2))),
        (4, 2, (3, 3), (1, 1), ((1, 1), (1, 1))),
        (3, 1, (5,), (3,), ((2, 2),)),
        (4, 4, (4,), (1,), ((0, 0),)),
    ],
)
def test_gradients_equal_those_of_xla(
    inputs: int,
    groups: int,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
) -> None:
    rng = np.random.default_rng(0)
    size = (2, *(11, 9)[: len(kernel)], inputs)
    x = jnp.asarray(rng.normal(size=size), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(*kernel, inputs // groups, 4)), jnp.float32)
    numbers = ("NHWC", "HWIO", "NHWC") if len(kernel) == 2 else ("NHC", "HIO", "NHC")

    def gradients(convolve: Callable[..., jax.Array]) -> tuple[jax.Array, ...]:
        def loss(x: jax.Array, weights: jax.Array) -> jax.Array:
            y = convolve(
                x,
                weights,
                strides,
                padding,
                dimension_numbers=numbers,
                feature_group_count=groups,
            )
            return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(x, weights)

    ours = gradients(convolution.conv_general_dilated)
    xlas = gradients(lax.conv_general_dilated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, xlas)
