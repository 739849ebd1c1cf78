"""A convolution whose gradients are fast on CPU, in loops and out of them.

XLA's CPU backend hands a plain forward convolution to a fast library. The gradients that JAX
derives are convolutions too, but of forms that run several times slower, and up to 30 times slower
inside a loop (jax issue 12868). Written by hand they keep to what is fast: the input's gradient as
a plain forward convolution, the kernel's as one matrix product for each of its positions.
Accelerators keep XLA's own.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pairs = tuple[tuple[int, int], ...]
NUMBERS = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    x: Array, kernel: Array, strides: Any, padding: Any, **options: Any
) -> Array:
    """`jax.lax.conv_general_dilated` for `nnx.Conv`, with gradients of its own on CPU.

    Args:
      x: `[B, T, D]` or `[B, T, M, D]`.
      kernel: `[kT, D, outputs]` or `[kT, kM, D, outputs]`; depthwise `[..., 1, D]`.
      strides: for T and M.
      padding: before and after T and M.
      **options: the rest of that function's arguments; dilation, and groups other than one for
        each channel, are left to XLA.
    """
    groups = options.get("feature_group_count", 1)
    dilations = (options.get(name) or () for name in ("lhs_dilation", "rhs_dilation"))
    plain = all(step == 1 for step in itertools.chain(*dilations))
    plain = plain and (groups == 1 or groups == x.shape[-1] == kernel.shape[-1])
    if jax.default_backend() != "cpu" or not plain:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    if x.ndim == 3:
        narrow = _convolve((*strides, 1), (*padding, (0, 0)), x[:, :, None], kernel[:, None])
        return narrow[:, :, 0]
    return _convolve(tuple(strides), tuple((a, b) for a, b in padding), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(strides: tuple[int, ...], padding: Pairs, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=NUMBERS,
        feature_group_count=x.shape[3] // kernel.shape[2],
    )


def _forward(strides: tuple[int, ...], padding: Pairs, x: Array, kernel: Array) -> Any:
    return _convolve(strides, padding, x, kernel), (x, kernel)


def _backward(
    strides: tuple[int, ...], padding: Pairs, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        _input_gradient(strides, padding, x.shape, kernel, gradient),
        _kernel_gradient(strides, padding, x, kernel.shape, gradient),
    )


def _input_gradient(
    strides: tuple[int, ...], padding: Pairs, shape: tuple[int, ...], kernel: Array, gradient: Array
) -> Array:
    """`[B, T, M, D]`: the outputs' gradient under the turned kernel.

    With strides, each of their phases of the input met kernel positions of its own: they are
    computed one by one and interleaved, so that no product is with a zero between the outputs.
    """
    sizes = [n + sum(around) for n, around in zip(shape[1:3], padding, strict=True)]
    counts = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    groups = shape[3] // kernel.shape[2]

    def phase(i: int, j: int) -> Array:
        part = kernel[i :: strides[0], j :: strides[1]]
        if not part.size:
            return jnp.zeros((shape[0], *counts, shape[3]), gradient.dtype)
        turned = part[::-1, ::-1]
        around = [
            (part.shape[axis] - 1, counts[axis] - gradient.shape[axis + 1]) for axis in (0, 1)
        ]
        return lax.conv_general_dilated(
            gradient,
            turned if groups > 1 else turned.swapaxes(2, 3),
            (1, 1),
            around,
            dimension_numbers=NUMBERS,
            feature_group_count=groups,
        )

    rows = [jnp.stack([phase(i, j) for j in range(strides[1])], 3) for i in range(strides[0])]
    whole = jnp.stack(rows, 2)  # [B, T / stride, stride, M / stride, stride, D]
    whole = whole.reshape(shape[0], counts[0] * strides[0], counts[1] * strides[1], shape[3])
    (top, _), (left, _) = padding
    return whole[:, top : top + shape[1], left : left + shape[2]]


def _kernel_gradient(
    strides: tuple[int, ...], padding: Pairs, x: Array, shape: tuple[int, ...], gradient: Array
) -> Array:
    """`[kT, kM, D, outputs]`: at each position, what it met times what came of it.

    A loop over positions, since side by side their slices would take a kernel's size times the
    memory of `x`. A single channel meets all of them in one product.
    """
    rows, columns = gradient.shape[1:3]
    reach = ((rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    flat = gradient.reshape(-1, shape[3])

    def met(i: Any, j: Any) -> Array:
        size = (x.shape[0], *reach, x.shape[3])
        window = lax.dynamic_slice(padded, (0, i, j, 0), size)
        return window[:, :: strides[0], :: strides[1]].reshape(-1, x.shape[3])

    def product(position: tuple[Array, Array]) -> Array:
        if shape[2] < x.shape[3]:
            return (met(*position) * flat).sum(0)[None]
        return met(*position).T @ flat

    positions = list(itertools.product(range(shape[0]), range(shape[1])))
    if len(positions) == 1:
        return product((jnp.int32(0), jnp.int32(0))).reshape(shape)
    if x.shape[3] == 1:
        return (jnp.concatenate([met(*p) for p in positions], 1).T @ flat).reshape(shape)
    rows_columns = tuple(jnp.asarray(part, jnp.int32) for part in zip(*positions, strict=True))
    return lax.map(product, rows_columns).reshape(shape)


_convolve.defvjp(_forward, _backward)
