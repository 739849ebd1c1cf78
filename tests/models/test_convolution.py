"""The convolution's own gradient on CPU is XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsound.models import convolution


@pytest.mark.parametrize(
    ("inputs", "kernel", "strides", "padding"),
    [
        (1, (7, 5), (2, 2), ((3, 3), (2, 2))),
        (3, (3, 3), (1, 1), ((1, 1), (1, 1))),
        (3, (3, 2), (2, 3), ((1, 2), (0, 0))),
        (2, (1, 1), (2, 1), ((0, 0), (0, 0))),
    ],
)
def test_gradients_equal_those_of_xla(
    inputs: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolution, "LARGE", 0)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 11, 9, inputs)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(*kernel, inputs, 4)), jnp.float32)

    def gradients(convolve):  # type: ignore[no-untyped-def]
        def loss(x: jax.Array, weights: jax.Array) -> jax.Array:
            y = convolve(x, weights, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
            return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(x, weights)

    ours = gradients(convolution.conv_general_dilated)
    xlas = gradients(lax.conv_general_dilated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, xlas)
