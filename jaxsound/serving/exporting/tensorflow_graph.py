"""A JAX program written in TensorFlow's own operations, which TFLite and ONNX know too.

`jax2tf` wraps XLA's program into one operation, which neither converter can read. Here each
operation of the traced program (its jaxpr) is written as TensorFlow's. The batch stays open.

Two things differ from XLA. All is float32: doubles are rounded, halves are what float32 holds of
them, and the frontend's Fourier transform is a few products of matrices. And broadcasting is put
off: a value may have size 1 along an axis where the program has more, until it is needed whole.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jax.extend import core

from jaxsound.errors import UserError
from jaxsound.serving.exporting import operations
from jaxsound.serving.exporting.operations import Rule, Value

_LAZY = ("broadcast_in_dim", "convert_element_type", "transpose", "iota", "integer_pow")


def run(program: core.ClosedJaxpr, symbol: Any, batch: tf.Tensor, *inputs: tf.Tensor) -> Value:
    """Writes a program of one output into the graph that is being traced.

    Args:
      program: traced with `jax.make_jaxpr`.
      symbol: the symbolic batch in its shapes.
      batch: int32 `[]`, what the symbol stands for.
      *inputs: of the program.

    Raises:
      UserError: an operation that has no form here; one line names it.
    """
    return _Graph(symbol, batch).closed(program, inputs)[0]


class _Graph:
    """Values of one traced program."""

    def __init__(self, symbol: Any, batch: tf.Tensor):
        self.symbol = symbol
        self.batch = batch

    def closed(self, program: core.ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
        values: dict[Any, Value] = {}
        constants = [operations.constant(value) for value in program.consts]
        jaxpr = program.jaxpr
        values.update(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Value:
            literal = isinstance(variable, core.Literal)
            return operations.constant(variable.val) if literal else values[variable]

        for equation in jaxpr.eqns:
            found = self.equation(equation, [read(variable) for variable in equation.invars])
            values.update(zip(equation.outvars, found, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def equation(self, equation: Any, values: list[Value]) -> Sequence[Value]:
        """The outputs of one operation."""
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            return self.scan(values, **params)
        if (inner := params.get("call_jaxpr", params.get("jaxpr"))) is not None:
            if not hasattr(inner, "consts"):
                inner = core.ClosedJaxpr(inner, ())
            return self.closed(inner, values)
        avals = [variable.aval for variable in equation.invars]
        out = equation.outvars[0].aval
        if name in operations.ELEMENTWISE:
            return [operations.ELEMENTWISE[name](*values)]
        rule = getattr(self, f"op_{name.replace('-', '_')}", None)
        if rule is None:
            raise UserError(f"the model's operation {name!r} has no form in TensorFlow here")
        if name not in _LAZY:
            values = [self.whole(v, aval) for v, aval in zip(values, avals, strict=True)]
        result = rule(values, avals, out, **params)
        return result if isinstance(result, list) else [result]

    def size(self, length: Any) -> Any:
        """A dimension as a number, or as a tensor where it is a multiple of the batch."""
        return length if isinstance(length, int) else self.batch * (length // self.symbol)

    def shaped(self, x: Value, shape: Sequence[Any]) -> Value:
        """`x` in a shape in which at most one length depends on the batch."""
        lengths = [int(n) if isinstance(n, int | np.integer) else -1 for n in shape]
        if lengths.count(-1) > 1:
            raise UserError(
                "the model mixes clips of a batch, which has no form in TensorFlow here"
            )
        return tf.reshape(x, lengths)

    def whole(self, x: Value, aval: Any) -> Value:
        """`x` in its full size, where broadcasting was put off."""
        if isinstance(x, tuple) or x.shape.rank == 0:
            return x
        pairs = zip(x.shape, aval.shape, strict=True)
        if all(have != 1 or (isinstance(want, int) and want == 1) for have, want in pairs):
            return x
        return tf.broadcast_to(x, [self.size(length) for length in aval.shape])

    def scan(self, values: list[Value], **params: Any) -> list[Value]:
        """A loop of known length, written out."""
        consts, carry = params["num_consts"], params["num_carry"]
        fixed, state, rows = values[:consts], values[consts:], values[consts + carry :]
        state, stacked = state[:carry], []
        order = range(params["length"])
        for i in reversed(order) if params["reverse"] else order:
            found = self.closed(params["jaxpr"], [*fixed, *state, *(row[i] for row in rows)])
            state = found[:carry]
            stacked.append(found[carry:])
        if params["reverse"]:
            stacked.reverse()
        return [*state, *(tf.stack(parts) for parts in zip(*stacked, strict=True))]

    def op_broadcast_in_dim(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        lengths: list[Any] = [1] * len(out.shape)
        for axis, length in zip(params["broadcast_dimensions"], values[0].shape, strict=True):
            lengths[axis] = length
        return self.shaped(values[0], lengths)

    def op_reshape(self, values: Any, avals: Any, out: Any, **_: Any) -> Value:
        return self.shaped(values[0], out.shape)

    op_squeeze = op_expand_dims = op_reshape

    def op_transpose(self, values: Any, avals: Any, out: Any, permutation: Any) -> Value:
        return tf.transpose(values[0], permutation)

    def op_convert_element_type(self, values: Any, avals: Any, out: Any, **_: Any) -> Value:
        if isinstance(values[0], tuple):
            return values[0]
        x = tf.cast(values[0], operations.dtype(out))
        if out.dtype != np.float16:
            return x
        # To float16's 11 bits (Dekker, 1971): tf2onnx drops casts to a type and back. Without the
        # minimum TensorFlow's optimiser moves what is added afterwards into the difference.
        large = x * 8193.0
        return tf.minimum(large - (large - x), float(np.finfo(np.float16).max))

    def op_iota(self, values: Any, avals: Any, out: Any, dimension: int, **_: Any) -> Value:
        numbers = tf.range(self.size(out.shape[dimension]))
        lengths = [-1 if axis == dimension else 1 for axis in range(len(out.shape))]
        return tf.cast(tf.reshape(numbers, lengths), operations.dtype(out))

    def op_dim_as_value(self, values: Any, avals: Any, out: Any, dim: Any) -> Value:
        return tf.cast(self.size(dim), operations.dtype(out))

    def op_concatenate(self, values: Any, avals: Any, out: Any, dimension: int) -> Value:
        # TFLite's delegate refuses empty tensors, such as what a roll by nothing brings round.
        full = [v for v, aval in zip(values, avals, strict=True) if aval.shape[dimension] != 0]
        return tf.concat(full or values, dimension)

    def op_stack(self, values: Any, avals: Any, out: Any, axis: int) -> Value:
        return tf.stack(values, axis)

    def op_pad(self, values: Any, avals: Any, out: Any, padding_config: Any) -> Value:
        x, fill = values
        if any(inner for _, _, inner in padding_config):
            raise UserError("padding between elements has no form in TensorFlow here")
        around = [(max(low, 0), max(high, 0)) for low, high, _ in padding_config]
        cut = tuple(slice(max(-low, 0), -max(-high, 0) or None) for low, high, _ in padding_config)
        return tf.pad(x, around, constant_values=fill)[cut]

    def op_slice(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        steps = params["strides"] or (1,) * len(out.shape)
        limits = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
        ends = [(a, b if isinstance(b, int) else None, step) for a, b, step in limits]
        return values[0][tuple(slice(*end) for end in ends)]

    def op_split(self, values: Any, avals: Any, out: Any, sizes: Any, axis: int) -> list[Value]:
        return tf.split(values[0], sizes, axis)

    def op_rev(self, values: Any, avals: Any, out: Any, dimensions: Any) -> Value:
        return tf.reverse(values[0], dimensions)

    def op_dynamic_slice(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        return self.sliced(values[0], avals[0].shape, values[1:], params["slice_sizes"])

    def sliced(self, x: Value, shape: Any, starts: Sequence[Any], sizes: Any) -> Value:
        """`sizes` of `x` from `starts` on, or from where that much is left."""
        begin, end = [], []
        for start, length, whole in zip(starts, sizes, shape, strict=True):
            full = not isinstance(whole, int) or length == whole
            begin.append(0 if full else operations.clamp(0, start, whole - length))
            end.append(-1 if full else length)
        return tf.slice(x, begin, end)

    def op_gather(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
        if len(avals[1].shape) > 1:
            return _gather(self, values, avals, out, numbers, sizes)
        starts: list[Any] = [0] * len(sizes)
        for i, axis in enumerate(numbers.start_index_map):
            starts[axis] = values[1][i]
        return self.shaped(self.sliced(values[0], avals[0].shape, starts, sizes), out.shape)

    def op_scatter_add(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        """One slice, added where it belongs."""
        x, index, update = values
        numbers, shape = params["dimension_numbers"], list(avals[2].shape)
        if len(avals[1].shape) > 1 or numbers.operand_batching_dims:
            raise UserError("adding at several places has no form in TensorFlow here")
        for axis in sorted(numbers.inserted_window_dims):
            shape.insert(axis, 1)
        around: list[Any] = [(0, 0)] * len(shape)
        for i, axis in enumerate(numbers.scatter_dims_to_operand_dims):
            if isinstance(shape[axis], int):
                around[axis] = (index[i], out.shape[axis] - shape[axis] - index[i])
        return x + tf.pad(self.shaped(update, shape), around)

    def op_dot_general(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        """As one product of (stacks of) matrices."""
        (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
        left, right = (aval.shape for aval in avals)
        left_free = [i for i in range(len(left)) if i not in (*left_sum, *left_batch)]
        right_free = [i for i in range(len(right)) if i not in (*right_sum, *right_batch)]
        stack = [math.prod(left[i] for i in left_batch)] if left_batch else []
        inner = math.prod(left[i] for i in left_sum)
        rows = math.prod(left[i] for i in left_free)
        columns = math.prod(right[i] for i in right_free)
        a = tf.transpose(values[0], [*left_batch, *left_free, *left_sum])
        b = tf.transpose(values[1], [*right_batch, *right_sum, *right_free])
        product = tf.matmul(
            self.shaped(a, [*stack, rows, inner]), self.shaped(b, [*stack, inner, columns])
        )
        return tf.cast(self.shaped(product, out.shape), operations.dtype(out))

    def op_conv_general_dilated(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        return operations.convolution(*values, **params)

    def op_fft(self, values: Any, avals: Any, out: Any, **params: Any) -> Value:
        """Of real numbers, over the last axis: the pair of real and imaginary parts."""
        if params["fft_type"] != jax.lax.FftType.RFFT or len(params["fft_lengths"]) > 1:
            raise UserError("this Fourier transform has no form in TensorFlow here")
        rows = self.shaped(values[0], [math.prod(out.shape[:-1]), *params["fft_lengths"]])
        parts = operations.spectrum(rows, *params["fft_lengths"])
        return [tuple(self.shaped(part, out.shape) for part in parts)]

    def op_real(self, values: Any, avals: Any, out: Any) -> Value:
        return values[0][0]

    def op_imag(self, values: Any, avals: Any, out: Any) -> Value:
        return values[0][1]

    def reduced(
        self, reduce: Rule, values: Any, avals: Any, out: Any, axes: Any, **_: Any
    ) -> Value:
        return reduce(values[0], list(axes))

    op_reduce_sum = functools.partialmethod(reduced, tf.reduce_sum)
    op_reduce_max = functools.partialmethod(reduced, tf.reduce_max)
    op_reduce_min = functools.partialmethod(reduced, tf.reduce_min)
    op_reduce_and = functools.partialmethod(reduced, tf.reduce_all)
    op_reduce_or = functools.partialmethod(reduced, tf.reduce_any)

    def op_integer_pow(self, values: Any, avals: Any, out: Any, y: int) -> Value:
        return tf.square(values[0]) if y == 2 else tf.pow(values[0], float(y))

    def op_round(self, values: Any, avals: Any, out: Any, rounding_method: Any) -> Value:
        if rounding_method != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
            raise UserError("halves rounded away from zero have no form in TensorFlow here")
        return tf.round(values[0])

    def op_argmax(self, values: Any, avals: Any, out: Any, axes: Any, **_: Any) -> Value:
        return tf.argmax(values[0], axes[0], output_type=tf.int32)


def _gather(
    graph: _Graph, values: Any, avals: Any, out: Any, numbers: Any, sizes: Sequence[int]
) -> Value:
    """Many slices of the operand; of a batch, of each clip its own where the axes are paired.

    The axes that are indexed become one, and so do their indices and offsets within a slice.
    Indices are clipped to where a slice exists, which for those within is every mode's meaning.
    """
    operand, indices = values
    shape, rank = avals[0].shape, len(avals[1].shape) - 1
    part = {d: i for i, d in enumerate(numbers.start_index_map)}
    axes = [d for d in part if sizes[d] != shape[d]] or [min(part)]
    axes.sort(key=lambda d: isinstance(shape[d], int))  # steps are within the batch
    steps = [math.prod(shape[d] for d in axes[i:]) for i in range(1, len(axes) + 1)]
    outer, pairs = list(numbers.operand_batching_dims), list(numbers.start_indices_batching_dims)
    others = [d for d in range(len(shape)) if d not in (*axes, *outer)]
    free = [i for i in range(rank) if i not in pairs]
    starts = [
        step * operations.clamp(0, indices[..., part[d]], graph.size(shape[d]) - sizes[d])
        for d, step in zip(axes, steps, strict=True)
    ]
    offsets = [step * np.arange(sizes[d]) for d, step in zip(axes, steps, strict=True)]
    within = functools.reduce(np.add.outer, offsets).astype(np.int32).reshape(-1)
    index = tf.transpose(functools.reduce(tf.add, starts), [*pairs, *free])[..., None] + within
    operand = tf.transpose(operand, [*outer, *axes, *others])
    flat = [*(shape[d] for d in outer), math.prod(shape[d] for d in axes)]
    operand = graph.shaped(operand, [*flat, *(shape[d] for d in others)])
    picked = tf.gather(operand, index, axis=len(outer), batch_dims=len(outer))
    slices = [*(sizes[d] for d in axes), *(shape[d] for d in others)]
    picked = graph.shaped(picked, [*(avals[1].shape[i] for i in [*pairs, *free]), *slices])
    # Axes of what was picked, by where they come from; then as the program has them.
    came = [*(("index", i) for i in [*pairs, *free]), *(("operand", d) for d in [*axes, *others])]
    kept = [d for d in range(len(shape)) if d not in (*numbers.collapsed_slice_dims, *outer)]
    from_index, from_operand = iter(range(rank)), iter(kept)
    wanted = [
        ("operand", next(from_operand)) if i in numbers.offset_dims else ("index", next(from_index))
        for i in range(len(out.shape))
    ]
    gone = [label for label in came if label not in wanted]
    return graph.shaped(
        tf.transpose(picked, [came.index(label) for label in [*wanted, *gone]]), out.shape
    )
