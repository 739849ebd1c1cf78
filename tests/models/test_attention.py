"""Where attention is fused, it is asked for what the other computes."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound.models import transformer
from jaxsound.models.attention import fuses
from jaxsound.training.state import build_network
from tests.models.test_padding import model_config


@pytest.mark.parametrize(
    ("attention", "backend", "capability", "dtype", "head_width", "expected"),
    [
        ("auto", "gpu", "9.0", "bfloat16", 64, True),
        ("auto", "gpu", "10.0", "bfloat16", 128, True),
        ("auto", "gpu", "7.5", "bfloat16", 64, False),
        ("auto", "gpu", "gfx942", "bfloat16", 64, False),
        ("auto", "gpu", "9.0", "float32", 64, False),
        ("auto", "gpu", "9.0", "bfloat16", 12, False),
        ("auto", "gpu", "9.0", "bfloat16", 256, False),
        ("auto", "cpu", "9.0", "bfloat16", 64, False),
        ("xla", "gpu", "9.0", "bfloat16", 64, False),
        ("cudnn", "gpu", "9.0", "bfloat16", 256, True),
        ("cudnn", "cpu", "9.0", "bfloat16", 64, False),
    ],
)
def test_attention_is_fused_where_a_device_can(
    attention: str,
    backend: str,
    capability: str,
    dtype: str,
    head_width: int,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    device = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert fuses(attention, jnp.dtype(dtype), head_width) is expected


def test_fused_attention_is_given_each_clip_s_own_length(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config("transformer", stem="frames", stem_frames=1, pool="class_token")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 12, 6)), jnp.float32)
    plain = jax.nn.dot_product_attention

    def without_cudnn(*args: Any, implementation: str | None = None, **options: Any) -> jax.Array:
        """cuDNN's contract, by XLA."""
        assert (implementation == "cudnn") == ("key_value_seq_lengths" in options)
        return plain(*args, **options)

    def logits() -> jax.Array:
        network, params, stats = build_network(
            config, features=6, classes=4, frames=12, key=jax.random.key(0)
        )
        return network.apply(params, stats, x, jnp.array([12, 5, 0]), train=False)[0]

    expected = logits()
    monkeypatch.setattr(jax.nn, "dot_product_attention", without_cudnn)
    monkeypatch.setattr(transformer, "fuses", lambda *_: True)
    np.testing.assert_allclose(logits(), expected, rtol=1e-5, atol=1e-6)
