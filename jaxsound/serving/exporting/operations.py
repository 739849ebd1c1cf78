"""Operations of a traced program that look at tensors alone, as TensorFlow's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from jaxsound.errors import UserError

Value = Any  # a tensor; a complex one is a pair of real ones
Rule = Callable[..., Value]
Complex = tuple[np.ndarray, np.ndarray]
NARROWED = {"float64": "float32", "float16": "float32", "int64": "int32", "uint32": "int32"}


def dtype(aval: Any) -> tf.DType:
    name = np.dtype(aval.dtype).name
    return tf.dtypes.as_dtype(NARROWED.get(name, name))


def constant(value: Any) -> tf.Tensor:
    array = np.asarray(value)
    return tf.constant(array, tf.dtypes.as_dtype(NARROWED.get(array.dtype.name, array.dtype.name)))


def spectrum(x: Value, length: int) -> tuple[Value, Value]:
    """Of real rows `[R, length]`: real and imaginary parts, `[R, 1 + length // 2]` each."""
    first, twiddle, second = _fourier(length)
    # Samples n = n1 N2 + n2 to frequencies k = k1 + N1 k2: over n1, then over n2.
    x = tf.transpose(tf.reshape(x, [-1, *twiddle[0].shape]), [0, 2, 1])
    parts = tf.matmul(x, first[0]), tf.matmul(x, first[1])
    parts = _product(parts, (twiddle[0].T, twiddle[1].T), tf.multiply)
    parts = tf.transpose(parts[0], [0, 2, 1]), tf.transpose(parts[1], [0, 2, 1])
    kept = [tf.transpose(part, [0, 2, 1]) for part in _product(parts, second, tf.matmul)]
    frequencies = kept[0].shape[1] * kept[0].shape[2]
    real, imaginary = (tf.reshape(part, [-1, frequencies]) for part in kept)
    return real[:, : length // 2 + 1], imaginary[:, : length // 2 + 1]


def _fourier(length: int) -> tuple[Complex, Complex, Complex]:
    """A transform of real numbers in two short ones, real and imaginary parts of each factor.

    The transform over n1 `[N1, N1]`, the twiddle factors `[N1, N2]`, and the transform over n2
    `[N2, 1 + N2 // 2]` with the frequencies up to half the rate. Sums of N1 and N2 terms are more
    exact than sums of N1 N2, and a tenth of the work (Cooley and Tukey, 1965).
    """
    rows = max(n for n in range(1, math.isqrt(length) + 1) if length % n == 0)
    columns = length // rows

    def turned(a: np.ndarray, b: np.ndarray, period: int) -> Complex:
        angle = 2 * np.pi / period * (a[:, None] * b[None, :] % period)
        return np.cos(angle).astype(np.float32), -np.sin(angle).astype(np.float32)

    n1, n2 = np.arange(rows), np.arange(columns)
    return turned(n1, n1, rows), turned(n1, n2, length), turned(n2, n2[: columns // 2 + 1], columns)


def _product(x: tuple[Value, Value], y: tuple[Value, Value], times: Rule) -> tuple[Value, Value]:
    """Of pairs of real and imaginary parts."""
    (a, b), (c, d) = x, y
    return times(a, c) - times(b, d), times(a, d) + times(b, c)


def convolution(x: Value, kernel: Value, **params: Any) -> Value:
    """Over one axis or two: of all channels, of groups of them, or of each by itself."""
    numbers = params["dimension_numbers"]
    batch, channel, *space = numbers.lhs_spec
    outputs, inputs, *window = numbers.rhs_spec
    lone = len(space) == 1
    turned = set(params["lhs_dilation"]) != {1} or params["batch_group_count"] > 1
    if len(space) > 2 or turned:
        raise UserError("a convolution of this kind has no form in TensorFlow here")
    x = tf.transpose(x, [batch, *space, channel])
    kernel = tf.transpose(kernel, [*window, inputs, outputs])
    x = tf.pad(x, [(0, 0), *params["padding"], (0, 0)])
    strides, dilations = list(params["window_strides"]), list(params["rhs_dilation"])
    if lone:
        x, kernel = x[:, :, None], kernel[:, None]
        strides, dilations = strides * 2, [*dilations, 1]
    y = _convolved(x, kernel, params["feature_group_count"], strides, dilations)
    out_batch, out_channel, *out_space = numbers.out_spec
    order = np.argsort([out_batch, *out_space, out_channel])
    return tf.transpose(y[:, :, 0] if lone else y, order)


def _convolved(
    x: Value, kernel: Value, groups: int, strides: list[int], dilations: list[int]
) -> Value:
    """`[B, H, W, D]` by `[h, w, D / groups, E]` without padding: channels last."""
    if groups == x.shape[-1] > 1 and strides[0] == strides[1]:
        kernel = tf.reshape(kernel, [*kernel.shape[:2], groups, kernel.shape[3] // groups])
        return tf.nn.depthwise_conv2d(x, kernel, [1, *strides, 1], "VALID", dilations=dilations)
    # One by one: TensorFlow has groups on some devices only.
    y = [
        tf.nn.conv2d(part, of, strides, "VALID", dilations=dilations)
        for part, of in zip(_parts(x, groups), _parts(kernel, groups), strict=True)
    ]
    return tf.concat(y, -1)


def _parts(x: Value, groups: int) -> list[Value]:
    """Of channels."""
    # By sizes: tf2onnx takes splits of one tensor in two and in four for the same.
    return tf.split(x, [x.shape[-1] // groups] * groups, -1) if groups > 1 else [x]


def _select(which: Value, *cases: Value) -> Value:
    if which.dtype != tf.bool or len(cases) != 2:
        raise UserError("a choice of more than two has no form in TensorFlow here")
    return tf.where(which, cases[1], cases[0])


def _divide(x: Value, y: Value) -> Value:
    """Of whole numbers towards zero."""
    return tf.raw_ops.Div(x=x, y=y) if x.dtype.is_integer else x / y


def _remainder(x: Value, y: Value) -> Value:
    if not x.dtype.is_integer:
        raise UserError("a remainder of fractions has no form in TensorFlow here")
    return x - _divide(x, y) * y


def _sign(x: Value) -> Value:
    if not x.dtype.is_integer:
        return tf.sign(x)
    return tf.cast(x > 0, x.dtype) - tf.cast(x < 0, x.dtype)


def _erfc(x: Value) -> Value:
    """1 - erf(x), within 1.5e-7 (Abramowitz and Stegun, 7.1.26): TFLite has neither."""
    size = tf.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    polynomial = tf.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = (polynomial + factor) * t
    rest = polynomial * tf.exp(-size * size)
    return tf.where(x < 0, 2.0 - rest, rest)


def clamp(low: Value, x: Value, high: Value) -> Value:
    """Maximum first: of whole numbers from 0 to 6 the other order is a ReLU that TFLite lacks."""
    return tf.minimum(tf.maximum(x, low), high)


def _logical(of_truth: Rule, of_bits: Rule) -> Rule:
    return lambda *xs: of_truth(*xs) if xs[0].dtype == tf.bool else of_bits(*xs)


ELEMENTWISE: dict[str, Rule] = {
    "add": tf.add,
    "add_any": tf.add,
    "sub": tf.subtract,
    "mul": tf.multiply,
    "div": _divide,
    "rem": _remainder,
    "max": tf.maximum,
    "min": tf.minimum,
    "neg": tf.negative,
    "sign": _sign,
    "abs": tf.abs,
    "exp": tf.exp,
    "log": tf.math.log,
    "tanh": tf.tanh,
    "logistic": tf.sigmoid,
    "sqrt": tf.sqrt,
    "rsqrt": tf.math.rsqrt,
    "square": tf.square,
    "pow": tf.pow,
    "floor": tf.floor,
    "erfc": _erfc,
    "and": _logical(tf.logical_and, tf.bitwise.bitwise_and),
    "or": _logical(tf.logical_or, tf.bitwise.bitwise_or),
    "not": _logical(tf.logical_not, tf.bitwise.invert),
    "eq": tf.equal,
    "ne": tf.not_equal,
    "lt": tf.less,
    "le": tf.less_equal,
    "gt": tf.greater,
    "ge": tf.greater_equal,
    "select_n": _select,
    "clamp": clamp,
    "stop_gradient": tf.identity,
    "copy": tf.identity,
}
