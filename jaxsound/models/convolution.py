"""A convolution whose weight gradient is fast on CPU.

XLA's CPU backend runs a convolution's forward pass and the gradient of its input several times
faster than the gradient of its kernel, most of all on large maps. As one matrix product for each
position of the kernel, that gradient takes a fraction of the time. Accelerators keep XLA's own.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pairs = tuple[tuple[int, int], ...]
NUMBERS = ("NHWC", "HWIO", "NHWC")
LARGE = 4096  # positions in a batch's map; smaller ones gain nothing and compile faster as they are


def conv_general_dilated(
    x: Array, kernel: Array, strides: Any, padding: Any, **options: Any
) -> Array:
    """`jax.lax.conv_general_dilated` for `nnx.Conv`, with a gradient of its own on CPU.

    Args:
      x: `[B, T, M, D]`; other ranks, groups and dilation are left to XLA.
      kernel: `[kT, kM, D, outputs]`.
      strides: for T and M.
      padding: before and after T and M.
      **options: the rest of that function's arguments.
    """
    dilations = (options.get(name) or () for name in ("lhs_dilation", "rhs_dilation"))
    plain = x.ndim == 4 and options.get("feature_group_count", 1) == 1
    plain = plain and all(step == 1 for step in itertools.chain(*dilations))
    small = math.prod(x.shape[:-1]) < LARGE
    if jax.default_backend() != "cpu" or not plain or small:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _convolve(tuple(strides), tuple((a, b) for a, b in padding), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(strides: tuple[int, ...], padding: Pairs, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NUMBERS)


def _forward(strides: tuple[int, ...], padding: Pairs, x: Array, kernel: Array) -> Any:
    return _convolve(strides, padding, x, kernel), (x, kernel)


def _backward(
    strides: tuple[int, ...], padding: Pairs, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = saved

    def of_input(x: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NUMBERS)

    _, pull = jax.vjp(of_input, x)
    return pull(gradient)[0], _kernel_gradient(strides, padding, x, kernel.shape, gradient)


def _kernel_gradient(
    strides: tuple[int, ...], padding: Pairs, x: Array, shape: tuple[int, ...], gradient: Array
) -> Array:
    """`[kT, kM, D, outputs]`: at each position, what it met times what came of it."""
    rows, columns = gradient.shape[1:3]
    reach = ((rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    flat = gradient.reshape(-1, shape[3])

    def met(i: int, j: int) -> Array:
        limit = (x.shape[0], i + reach[0], j + reach[1], shape[2])
        return lax.slice(padded, (0, i, j, 0), limit, (1, *strides, 1)).reshape(-1, shape[2])

    positions = [met(i, j) for i, j in itertools.product(range(shape[0]), range(shape[1]))]
    if shape[2] == 1:
        return (jnp.concatenate(positions, 1).T @ flat).reshape(shape)
    return jnp.stack([position.T @ flat for position in positions]).reshape(shape)


_convolve.defvjp(_forward, _backward)
