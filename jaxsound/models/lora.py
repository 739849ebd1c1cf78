"""Low-rank changes beside a frozen layer (LoRA; Hu et al., 2021)."""

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


class LoRA(nnx.Module):
    """What is added to a linear layer's output; nothing at first."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, *, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(inputs**-0.5)
        self.down = nnx.Param(normal(rngs.params(), (inputs, rank)))
        self.up = nnx.Param(jnp.zeros((rank, outputs)))
        self.scale = alpha / rank

    def __call__(self, x: Array) -> Array:
        """`[..., inputs]` -> `[..., outputs]`, to be added."""
        return x @ self.down[...].astype(x.dtype) @ self.up[...].astype(x.dtype) * self.scale


def lora_pair(
    width: int, rank: int, alpha: float, rngs: nnx.Rngs
) -> tuple[LoRA | None, LoRA | None]:
    """For the queries and the values of a block; none where the rank is 0."""
    if not rank:
        return None, None
    return LoRA(width, width, rank, alpha, rngs=rngs), LoRA(width, width, rank, alpha, rngs=rngs)
