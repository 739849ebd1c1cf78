"""What is exported: one function from waveforms to probabilities, the frontend included.

B batch, n samples of a window, T frames, M feature columns, C classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.serving.classifier import Classifier
from jaxsound.training.step import make_eval_step

Array = jax.Array
INPUTS = ("waveform", "samples")
OUTPUT = "probabilities"
Program = Callable[[Array, Array], Array]
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]  # the same of what was written


def clip_by_clip(classifier: Classifier) -> Program:
    """The checkpoint's own arithmetic: `(waveform [B, n] float32, samples [B] int32) -> [B, C]`.

    The frontend goes over the batch in a loop. Vectorised over a batch of unknown size, its
    transform would lose its float64.
    """

    def program(waveform: Array, samples: Array) -> Array:
        features = jax.lax.map(lambda clip: _features(classifier, *clip), (waveform, samples))
        return _probabilities(classifier, features, samples)

    return program


def side_by_side(classifier: Classifier) -> Program:
    """The same with every clip's frontend at once, in float32."""

    def program(waveform: Array, samples: Array) -> Array:
        features = jax.vmap(lambda *clip: _features(classifier, *clip))(waveform, samples)
        return _probabilities(classifier, features, samples)

    return program


def arguments(classifier: Classifier) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes and types of what a program takes; the batch is the symbol `b`."""
    (batch,) = jax.export.symbolic_shape("b")
    waveform = jax.ShapeDtypeStruct((batch, classifier.cut.size), jnp.float32)
    return waveform, jax.ShapeDtypeStruct((batch,), jnp.int32)


def _features(classifier: Classifier, waveform: Array, samples: Array) -> Array:
    """`[n]` and its own samples `[]` -> `[T, M]`."""
    samples = jnp.clip(samples, 0, classifier.cut.size)
    return frontend(classifier.frontend, waveform[None], samples[None])[0, : classifier.frames]


def _probabilities(classifier: Classifier, features: Array, samples: Array) -> Array:
    samples = jnp.clip(samples, 0, classifier.cut.size)
    length = jnp.minimum(_frames(classifier.frontend, samples), classifier.frames)
    # As the feature store keeps them.
    batch: dict[str, Any] = {
        "features": features.astype(classifier.frontend.dtype),
        "length": length.astype(jnp.int32),
    }
    found = [
        jax.nn.softmax(make_eval_step(model.network, classifier.frames)(model.state, batch))
        for model in classifier.models
    ]
    return sum(found[1:], found[0]) / len(found)


def _frames(config: FrontendConfig, samples: Array) -> Array:
    """`FrontendConfig.frames` of each clip, `[B]`, for numbers that are known when it runs."""
    if config.resize_frames:
        return jnp.full_like(samples, config.resize_frames)
    used = jnp.minimum(samples, config.most) if config.most else samples
    used = used if config.pad == "none" else jnp.maximum(used, config.limit)
    return jnp.maximum(1, 1 + (used - config.first) // config.step)
