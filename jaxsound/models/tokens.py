"""Tokens left out in training (patchout; Koutini et al., 2022), exact about lengths.

Each clip loses the same share of its own tokens, however many the batch has been padded to, so
that what is left is as short for the whole batch, and attention is the cheaper for it.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

Array = jax.Array
Count = TypeVar("Count", int, jax.Array)
_PARTS = 10_000  # shares are rounded to these, and counts are then exact in integers


def left(count: Count, share: float) -> Count:
    """How many of so many are left: `count` less its `share`, rounded down."""
    return count - count * round(share * _PARTS) // _PARTS


def drop_tokens(
    key: Array,
    x: Array,
    length: Array,
    bins: int,
    tokens: float,
    times: float,
    frequencies: float,
) -> tuple[Array, Array]:
    """Leaves out whole times and frequencies first, then single tokens of what remains.

    Args:
      key: PRNG key; which tokens of a clip stay does not depend on the padding.
      x: `[B, N, D]`, the tokens of one time after those of another.
      length: `[B]` valid tokens, a multiple of `bins`.
      bins: tokens to a time.
      tokens: share of single tokens.
      times: share of the times.
      frequencies: share of the bins.

    Returns:
      The tokens that stay, in their order, zero past each clip's, and how many they are.
    """
    batch, total, _ = x.shape
    time_key, bin_key, token_key = jax.random.split(key, 3)
    own = length // bins
    columns = total // bins
    in_time = some(time_key, jnp.arange(columns) < own[:, None], left(own, times))
    every = jnp.ones((batch, bins), bool)
    in_bin = some(bin_key, every, jnp.full((batch,), left(bins, frequencies)))
    stays = (in_time[:, :, None] & in_bin[:, None, :]).reshape(batch, total)
    length = left(left(own, times) * left(bins, frequencies), tokens)
    stays = some(token_key, stays, length)
    most = left(left(columns, times) * left(bins, frequencies), tokens)
    order = jnp.argsort(~stays, axis=1, stable=True)[:, :most]
    x = jnp.take_along_axis(x, order[..., None], axis=1)
    valid = jnp.arange(most)[None, :] < length[:, None]
    return jnp.where(valid[..., None], x, 0), length


def some(key: Array, candidates: Array, count: Array) -> Array:
    """Of the `candidates [B, N]` a random `count [B]`, as another such mask.

    Which they are does not depend on how many others there are after the last candidate.
    """
    # With N first, a position's number is the same whatever N is.
    drawn = jax.random.uniform(key, candidates.shape[::-1]).T
    score = jnp.where(candidates, drawn, 2.0)
    rank = jnp.argsort(jnp.argsort(score, axis=1), axis=1)
    return candidates & (rank < count[:, None])
