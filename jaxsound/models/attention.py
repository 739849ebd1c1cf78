"""Attention over a clip's own tokens, by XLA or cuDNN."""

import jax
import jax.numpy as jnp

from jaxsound.models import masking

Array = jax.Array


def fuses(attention: str, dtype: jnp.dtype, head_width: int) -> bool:
    """Whether cuDNN's fused attention is wanted and, if that is left open, takes these shapes.

    It skips the padded keys and never writes the attention map. It needs a GPU of compute
    capability 8 or more and bfloat16. Elsewhere than on a GPU the same network uses XLA's.
    """
    if attention == "xla" or jax.default_backend() != "gpu":
        return False
    if attention == "cudnn":
        return True
    capability = getattr(jax.local_devices()[0], "compute_capability", "0")  # none on AMD's
    major = capability.partition(".")[0]
    able = major.isdecimal() and int(major) >= 8
    return able and dtype == jnp.bfloat16 and head_width % 8 == 0 and head_width <= 128


def attend(q: Array, k: Array, v: Array, length: Array, *, fused: bool) -> Array:
    """Scaled dot products of `[B, T, H, D]` each, over keys before `length [B]`: `[B, T, H, D]`."""
    if fused:  # needs a key to attend to, even in a clip of nothing but padding
        valid = jnp.maximum(length, 1).astype(jnp.int32)
        return jax.nn.dot_product_attention(
            q, k, v, key_value_seq_lengths=valid, implementation="cudnn"
        )
    keys = masking.length_mask(length, k.shape[1])[:, None, None, :]
    return jax.nn.dot_product_attention(q, k, v, mask=keys)
