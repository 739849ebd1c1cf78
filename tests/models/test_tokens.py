"""What is left out of a clip's tokens, and the scales of a block's branches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models.tokens import drop_tokens, left
from jaxsound.models.transformer import Block
from tests.models.test_padding import clips, model_config, run

TIMES, BINS = 30, 4
OWN = np.array([0, 1, 7, 29, 30])  # times of each clip


drop = jax.jit(drop_tokens, static_argnums=(3, 4, 5, 6))


def numbered(times: int) -> jax.Array:
    """Tokens `[B, times * BINS, 1]` that hold their own number, from 1; zero past the clip's."""
    number = jnp.arange(1, times * BINS + 1, dtype=jnp.float32)
    own = number <= OWN[:, None] * BINS
    return jnp.where(own, number, 0)[..., None]


def kept(shares: tuple[float, float, float], key: int, times: int = TIMES) -> list[np.ndarray]:
    """The numbers of each clip's tokens that stay, from 0."""
    x, length = drop(jax.random.key(key), numbered(times), jnp.asarray(OWN) * BINS, BINS, *shares)
    x = np.asarray(x)[..., 0]
    most = left(left(times, shares[1]) * left(BINS, shares[2]), shares[0])
    assert x.shape[1] == most
    for row, count in zip(x, np.asarray(length), strict=True):
        assert (row[:count] > 0).all()
        assert (row[count:] == 0).all()
    return [row[: int(n)].astype(int) - 1 for row, n in zip(x, length, strict=True)]


@pytest.mark.parametrize("shares", [(0.3, 0.0, 0.0), (0.0, 0.4, 0.25), (0.5, 0.2, 0.5)])
def test_each_clip_loses_its_own_share_and_keeps_the_order(
    shares: tuple[float, float, float],
) -> None:
    tokens, times, bins = shares
    for numbers, own in zip(kept(shares, key=0), OWN.tolist(), strict=True):
        whole = (own - int(times * own + 1e-6)) * (BINS - int(bins * BINS))
        assert len(numbers) == whole - int(tokens * whole + 1e-6) == len(set(numbers))
        assert (np.diff(numbers) > 0).all()
        assert (numbers < own * BINS).all()
        if not tokens and own:
            rows, columns = {n // BINS for n in numbers}, {n % BINS for n in numbers}
            assert set(numbers) == {r * BINS + c for r in rows for c in columns}


def test_every_token_stays_as_often() -> None:
    counts = np.zeros(OWN[-1] * BINS)
    for key in range(200):
        counts[kept((0.3, 0.2, 0.25), key)[-1]] += 1
    share = counts.mean() / 200
    assert abs(share - 0.7 * 0.8 * 0.75) < 0.01
    assert np.abs(counts - 200 * share).max() < 5 * np.sqrt(200 * share * (1 - share))


def test_what_stays_does_not_depend_on_the_padding() -> None:
    for short, long in zip(kept((0.4, 0.2, 0.25), 3), kept((0.4, 0.2, 0.25), 3, 61), strict=True):
        np.testing.assert_array_equal(short, long)


def test_nothing_is_left_out_in_evaluation() -> None:
    dropping = {"grid": True, "drop_tokens": 0.3, "drop_times": 0.3}
    whole, part = model_config("transformer", grid=True), model_config("transformer", **dropping)
    x = clips(51, 0.0)
    ((evaluated, _),), ((expected, _),) = run(part, False, x), run(whole, False, x)
    np.testing.assert_array_equal(evaluated, expected)
    ((trained, _),), ((untouched, _),) = run(part, True, x), run(whole, True, x)
    assert np.abs(trained - untouched).max() > 1e-3


def test_layer_scale_multiplies_each_branch() -> None:
    rng = np.random.default_rng(0)
    x, length = jnp.asarray(rng.normal(size=(2, 6, 32)), jnp.float32), jnp.array([6, 4])

    def block(first: float) -> Block:
        config = model_config("transformer", layer_scale=first)
        return Block(config, 0.0, rngs=nnx.Rngs(0))

    scaled, plain = block(0.25), block(0.0)
    for layer in (plain.out, plain.down):
        layer.kernel[...] = 0.25 * layer.kernel[...]
    found, wanted = (b(x, length, False, None) for b in (scaled, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(found - block(1.0)(x, length, False, None)).max() > 0.01
    assert plain.scale_1 is None
