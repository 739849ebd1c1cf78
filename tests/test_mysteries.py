"""What the authors of the five projects wondered about, each shown once (docs/mysteries.md)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsound.config import default_config
from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.training.losses import cross_entropy
from jaxsound.training.state import build_network

# Frames at 0, 128, ..., 2048: played backwards, a sound has the same frames in reverse.
RATE, SAMPLES = 8000, 2049
SPECTROGRAM = FrontendConfig(
    kind="stft", power=1.0, dtype="float32", sample_rate=RATE, n_fft=128, hop_length=128
)


def chirps(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sounds `[count, SAMPLES]` that rise (0) from a random pitch, or the same played backwards."""
    low, span = rng.uniform(300, 800, (count, 1)), rng.uniform(1500, 2500, (count, 1))
    time = np.arange(SAMPLES) / RATE
    phase = 2 * np.pi * (low * time + span * time**2 / (2 * time[-1]))
    sound, falls = np.sin(phase), rng.integers(0, 2, count)
    sound = np.where(falls[:, None] == 1, sound[:, ::-1], sound)
    return (sound + 0.05 * rng.normal(size=sound.shape)).astype(np.float32), falls


def s0_encoder(positions: str) -> Any:
    """s0's encoder at a quarter of its width and one layer."""
    config = default_config("transformer").model
    config.stem, config.stem_frames, config.stem_activation = "frames", 1, "relu"
    config.norm, config.activation, config.positions = "post", "relu", positions
    config.width, config.depth, config.heads, config.mlp_ratio, config.dropout = 32, 1, 4, 4.0, 0.0
    return config


def accuracy_on_unheard_chirps(positions: str) -> float:
    sound, label = chirps(np.random.default_rng(0), 512)
    x = frontend(SPECTROGRAM, sound, np.full(len(sound), SAMPLES, np.int32))
    x = (x - x.mean()) / x.std()
    train, test, length = x[:384], x[384:], jnp.full(len(x), x.shape[1])
    network, params, stats = build_network(
        s0_encoder(positions),
        features=x.shape[2],
        classes=2,
        frames=x.shape[1],
        key=jax.random.key(0),
    )
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params: Any, opt_state: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            logits, _ = network.apply(params, stats, train, length[:384], train=False)
            return cross_entropy(logits, jax.nn.one_hot(label[:384], 2)).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for _ in range(60):
        params, opt_state = step(params, opt_state)
    logits, _ = network.apply(params, stats, test, length[384:], train=False)
    return float((np.asarray(logits).argmax(-1) == label[384:]).mean())


@pytest.mark.parametrize(("positions", "low", "high"), [("sinusoidal", 0.95, 1), ("none", 0, 0.7)])
def test_positions_tell_a_rising_from_a_falling_chirp(
    positions: str, low: float, high: float
) -> None:
    assert low <= accuracy_on_unheard_chirps(positions) <= high
