"""Dropout drops what it says, and keeps the expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models import masking

COUNT = 200_000


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dropout_drops_its_rate_and_scales_the_rest(rate: float, dtype: jnp.dtype) -> None:
    x = jnp.ones((COUNT,), dtype)
    y = masking.dropout(x, rate, train=True, rngs=nnx.Rngs(dropout=0))
    assert y.dtype == dtype
    values = np.asarray(y, np.float32)
    kept = values != 0
    deviation = np.sqrt(rate * (1 - rate) / COUNT)
    assert abs(kept.mean() - (1 - rate)) < 5 * deviation
    np.testing.assert_allclose(
        values[kept], 1 / (1 - rate), rtol=1e-4 if dtype == jnp.float32 else 1e-2
    )


def test_dropout_is_the_identity_in_evaluation_and_another_with_each_key() -> None:
    x = jax.random.normal(jax.random.key(0), (64, 64))
    assert masking.dropout(x, 0.5, train=False, rngs=None) is x
    assert masking.dropout(x, 0.0, train=True, rngs=None) is x
    rngs = nnx.Rngs(dropout=0)
    first, second = (masking.dropout(x, 0.5, train=True, rngs=rngs) for _ in range(2))
    assert 0.4 < np.mean((np.asarray(first) == 0) != (np.asarray(second) == 0)) < 0.6


def test_a_rate_next_to_one_leaves_finite_values() -> None:
    y = masking.dropout(jnp.ones(COUNT), 0.9999999, train=True, rngs=nnx.Rngs(dropout=0))
    assert np.isfinite(y).all()
