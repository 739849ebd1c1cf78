"""Operations of a traced program say in TensorFlow, TFLite and ONNX what they say in JAX."""

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound.errors import UserError

tf = pytest.importorskip("tensorflow")
tensorflow_graph = pytest.importorskip("jaxsound.serving.exporting.tensorflow_graph")

Run = Callable[[np.ndarray], np.ndarray]
SHAPE = (8, 6, 4)  # of what each clip has
INDEX = np.array([[5, 0, 2], [3, 3, 1]])


def of_each_clip(x: jax.Array) -> jax.Array:
    """Indices that are a clip's own, computed from it."""
    index = jnp.floor(jnp.abs(x[:, :3, 0, 0]) * 2).astype(jnp.int32)
    return jax.vmap(lambda clip, index: clip[jnp.clip(index, 0, 7)])(x, index)


def slices_of_each_clip(x: jax.Array) -> jax.Array:
    """Two rows and three columns from a clip's own place on, or from where so many are left."""
    row, column = (jnp.floor(jnp.abs(x[:, 0, 0, i]) * 4).astype(jnp.int32) for i in (0, 1))
    cut = jax.vmap(lambda clip, *at: jax.lax.dynamic_slice(clip, (*at, 0), (2, 3, 4)))
    return cut(x, row, column)


def slices_at_places(x: jax.Array) -> jax.Array:
    """Squares of two by two, at four places of every clip; the last is cut short."""
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(0, 2, 3, 4), collapsed_slice_dims=(), start_index_map=(2, 1)
    )
    places = jnp.array([[0, 3], [4, 0], [2, 6], [5, 7]])
    sizes = (x.shape[0], 2, 2, 4)
    return jax.lax.gather(x, places, numbers, sizes, mode=jax.lax.GatherScatterMode.CLIP)


def convolved(x: jax.Array, kernel: tuple[int, ...], groups: int = 1, **params: Any) -> jax.Array:
    """Along the first axis, or the first two, of a clip."""
    weights = np.random.default_rng(1).standard_normal(kernel).astype(np.float32)
    names = ("NTC", "TIO", "NTC") if len(kernel) == 3 else ("NHWC", "HWIO", "NHWC")
    x = x.sum(2) if len(kernel) == 3 else x
    params.update(dimension_numbers=names, feature_group_count=groups)
    return jax.lax.conv_general_dilated(x, weights, **params)


CASES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "every second row and column": lambda x: x[:, 1::2, ::2],
    "two axes by one index": lambda x: x[:, INDEX, INDEX[::-1]],
    "axes apart": lambda x: x[:, INDEX, :, INDEX % 4],
    "along the batch too": lambda x: x[jnp.arange(x.shape[0])[:, None], INDEX[:1], 2],
    "of each clip its own": of_each_clip,
    "slices of each clip": slices_of_each_clip,
    "slices at places": slices_at_places,
    "rolled by nothing and by two": lambda x: jnp.roll(x, (0, 2), (1, 2)) * 2,
    "rounded": lambda x: jnp.round(x * 4) + jnp.round(jnp.floor(x) + 0.5),
    "one axis, in groups": lambda x: convolved(
        x, (5, 2, 6), window_strides=(2,), padding=((3, 1),), groups=2
    ),
    "one axis, each by itself": lambda x: convolved(
        x, (3, 1, 8), window_strides=(1,), padding=((2, 2),), rhs_dilation=(2,), groups=4
    ),
    "two axes, in groups": lambda x: convolved(
        x, (3, 2, 2, 6), window_strides=(2, 1), padding=((1, 1), (0, 1)), groups=2
    ),
    "two axes, each by itself, strides apart": lambda x: convolved(
        x, (3, 2, 1, 4), window_strides=(2, 1), padding=((1, 1), (0, 1)), groups=4
    ),
}


def everything(x: jax.Array) -> jax.Array:
    """All cases, `[B, ...]`, one after another: `[B, n]`."""
    return jnp.concatenate([case(x).reshape(x.shape[0], -1) for case in CASES.values()], 1)


def written(function: Callable[[jax.Array], jax.Array]) -> Any:
    (batch,) = jax.export.symbolic_shape("b")
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *SHAPE), jnp.float32))
    return tf.function(
        lambda x: {"y": tensorflow_graph.run(traced, batch, tf.shape(x)[0], x)},
        input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, "x")],
        autograph=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One program by every runtime that is here, since converting takes seconds."""
    graph, folder = written(everything), str(tmp_path_factory.mktemp("operations"))
    found: dict[str, Run] = {"tensorflow": lambda x: graph(x)["y"].numpy()}
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter

        tf.saved_model.save(tf.Module(), folder, {"serving_default": graph.get_concrete_function()})
        converted = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        runner = Interpreter(model_content=converted).get_signature_runner()
        found["tflite"] = lambda x: runner(x=x)["y"]
    if importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime"):
        import onnxruntime
        import tf2onnx

        spec = graph.input_signature
        model, _ = tf2onnx.convert.from_function(graph, input_signature=spec, opset=17)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        found["onnx"] = lambda x: session.run(None, {"x": x})[0]
    return found


@pytest.fixture(scope="module")
def expected() -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of several clips and of one, and what JAX makes of them."""
    rng, function = np.random.default_rng(0), jax.jit(everything)
    clips = [rng.standard_normal((batch, *SHAPE)).astype(np.float32) for batch in (3, 1)]
    return [(x, np.asarray(function(x))) for x in clips]


@pytest.mark.parametrize("name", CASES)
def test_an_operation_means_the_same_in_every_runtime(
    name: str, runs: dict[str, Run], expected: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    clip = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    sizes = {case: jax.eval_shape(f, clip).size for case, f in CASES.items()}
    ends = dict(zip(sizes, itertools.accumulate(sizes.values()), strict=True))
    own = slice(ends[name] - sizes[name], ends[name])
    for x, wanted in expected:
        for runtime, run in runs.items():
            np.testing.assert_allclose(run(x)[:, own], wanted[:, own], atol=1e-5, err_msg=runtime)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jax.lax.round(x, jax.lax.RoundingMethod.AWAY_FROM_ZERO),
        lambda x: convolved(
            x, (3, 4, 2), window_strides=(1,), padding=((1, 1),), lhs_dilation=(2,)
        ),
    ],
)
def test_what_has_no_form_is_refused(function: Callable[[jax.Array], jax.Array]) -> None:
    with pytest.raises(UserError, match="no form in TensorFlow here"):
        written(function).get_concrete_function()
