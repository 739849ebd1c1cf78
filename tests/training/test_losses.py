"""Losses, weights and schedules against scikit-learn and closed forms."""

import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from jaxsound.config import default_config
from jaxsound.training import losses, optim


def test_cross_entropy_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(20, 4)), rng.integers(0, 4, 20)
    loss = losses.cross_entropy(jnp.asarray(logits), losses.soft_labels(jnp.asarray(label), 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = log_loss(label, probabilities, labels=range(4))
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_smoothing_keeps_a_distribution() -> None:
    target = losses.soft_labels(jnp.array([2, 0]), 4, 0.2)
    np.testing.assert_allclose(target, [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]])


def test_balanced_weights_equal_scikit_learn_and_forgive_an_absent_class() -> None:
    labels = np.array([0, 0, 0, 1, 3, 3])
    weight = losses.class_weights("balanced", labels, 4)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels) * 3 / 4
    np.testing.assert_allclose(weight[[0, 1, 3]], expected, rtol=1e-6)
    assert weight[2] == 0
    np.testing.assert_array_equal(losses.class_weights("none", labels, 4), 1)


def test_weighted_mean_of_nothing_is_zero() -> None:
    assert losses.weighted_mean(jnp.ones(3), jnp.zeros(3)) == 0


def test_schedule_warms_up_to_the_peak_and_ends_at_zero() -> None:
    config = default_config("cnn").optimizer
    rate = optim.schedule(config, 100, 10)
    values = [float(rate(step)) for step in range(101)]
    assert values[0] == 0
    assert np.argmax(values) == 5
    np.testing.assert_allclose(max(values), config.peak_lr)
    np.testing.assert_allclose(values[-1], 0, atol=1e-9)
    config.warmup_fraction = 0.0
    np.testing.assert_allclose(float(optim.schedule(config, 1, 1)(0)), config.peak_lr)


def test_weight_decay_leaves_biases_and_scales_alone() -> None:
    config = default_config("cnn").optimizer
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    optimizer = optim.make_optimizer(config, 10, 10)
    state = optimizer.init(params)
    zero = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    for _ in range(3):
        updates, state = optimizer.update(zero, state, params)
        params = optax.apply_updates(params, updates)
    assert (np.asarray(params["kernel"]) < 1).all()
    np.testing.assert_array_equal(params["bias"], 1)
