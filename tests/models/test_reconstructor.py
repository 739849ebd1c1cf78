"""Masks are whole patches of a clip's own; what is predicted does not depend on padding."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsound.config import default_config
from jaxsound.models.reconstructor import Reconstructor, draw_masks
from jaxsound.training import losses, optim, state, step

FRAMES, BINS, PATCH, SHARE = 26, 10, (4, 3), 0.4
LENGTHS = np.array([26, 9, 1, 0, 17])
TINY = {
    "model.width": 8,
    "model.depth": 1,
    "model.heads": 2,
    "model.stem_channels": (4, 4),
    "model.dropout": 0.0,
    "reconstruction.patch_frames": PATCH[0],
    "reconstruction.patch_bins": PATCH[1],
    "reconstruction.masked_share": SHARE,
    "optimizer.name": "sgd",
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": 0.0,
    "optimizer.warmup_fraction": 0.0,
    "optimizer.peak_lr": 0.1,
}
KINDS: list[dict[str, Any]] = [
    {},
    {"model.grid": True, "model.pool": "class_token"},
    {"model.stem": "frames", "model.pool": "attention", "model.hidden": (4,)},
]


def keys(count: int = len(LENGTHS)) -> jax.Array:
    return jax.random.split(jax.random.key(3), count)


def masks(frames: int = FRAMES) -> np.ndarray:
    return np.asarray(draw_masks(keys(), jnp.asarray(LENGTHS), (frames, BINS), PATCH, SHARE))


def test_masks_are_the_share_of_a_clip_s_own_whole_patches() -> None:
    for mask, length in zip(masks(), LENGTHS, strict=True):
        assert not mask[length:].any()
        patches = [
            mask[t : min(t + PATCH[0], length), m : m + PATCH[1]]
            for t in range(0, length, PATCH[0])
            for m in range(0, BINS, PATCH[1])
        ]
        assert all(patch.all() or not patch.any() for patch in patches)
        count = sum(bool(patch.any()) for patch in patches)
        assert count == (max(round(SHARE * len(patches)), 1) if length else 0)


def test_masks_do_not_depend_on_padding_and_differ_by_key() -> None:
    short, long = masks(), masks(40)
    np.testing.assert_array_equal(long[:, :FRAMES], short)
    assert not long[:, FRAMES:].any()
    same = jnp.full(5, 26)
    drawn = np.asarray(draw_masks(keys(), same, (FRAMES, BINS), PATCH, SHARE))
    assert len({mask.tobytes() for mask in drawn}) == 5


def config_of(**changes: Any) -> Any:
    config = default_config("transformer")
    config.task = "reconstruction"
    config.update_from_flattened_dict(TINY | changes)
    return config


def begin(config: Any) -> tuple[state.Network, state.TrainState, Any]:
    network, initialise = state.plan_network(
        config.model, features=BINS, classes=3, frames=40, task=config.task
    )
    optimizer = optim.make_optimizer(config.optimizer, 10, 1)
    params, stats = initialise(jax.random.key(0))
    return (
        network,
        state.create_state(
            params,
            stats,
            optimizer,
            mean=jnp.full(BINS, 0.5),
            std=jnp.full(BINS, 2.0),
            class_weight=jnp.ones(3),
            ema=False,
        ),
        optimizer,
    )


def batch_of(frames: int = FRAMES) -> step.Batch:
    features = np.random.default_rng(0).normal(size=(len(LENGTHS), 40, BINS))
    return {
        "features": jnp.asarray(features[:, :frames], jnp.float32),
        "length": jnp.asarray(LENGTHS, jnp.int32),
        "label": jnp.zeros(len(LENGTHS), jnp.int32),
        "mask": jnp.ones(len(LENGTHS), bool),
    }


@pytest.mark.parametrize("changes", KINDS, ids=["times", "grid", "frames"])
def test_errors_are_numpy_s_and_do_not_depend_on_padding_or_the_batch(
    changes: dict[str, Any],
) -> None:
    config = config_of(**changes)
    network, begun, _ = begin(config)

    def errors_of(batch: step.Batch) -> np.ndarray:
        run = jax.jit(step.make_error_step(network, batch["features"].shape[1], config))
        return np.asarray(run(begun, batch))

    errors = errors_of(batch_of())
    key = jnp.broadcast_to(jax.random.key(0), LENGTHS.shape)
    masked = np.asarray(draw_masks(key, jnp.asarray(LENGTHS), (FRAMES, BINS), PATCH, SHARE))
    features = (np.asarray(batch_of()["features"]) - 0.5) / 2
    own = np.arange(FRAMES) < LENGTHS[:, None]
    features = np.where(own[..., None], features, 0)
    seen = jnp.asarray(np.where(masked, 0, features))
    length = jnp.asarray(LENGTHS)
    apply = jax.jit(functools.partial(network.apply, train=False))
    made, _ = apply(begun.params, begun.stats, seen, length)
    assert made.shape == features.shape
    for i in range(len(LENGTHS)):
        both = [np.square(np.asarray(made)[i] - features[i]), np.square(features[i])]
        expected = [x[masked[i]].mean() if masked[i].any() else 0 for x in both]
        np.testing.assert_allclose(errors[i], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(errors_of(batch_of(40)), errors, rtol=1e-4, atol=1e-6)
    turned = errors_of({name: value[::-1] for name, value in batch_of().items()})
    np.testing.assert_allclose(turned[::-1], errors, rtol=1e-4, atol=1e-6)


def test_the_loss_looks_at_masked_values_alone() -> None:
    mask, rng = masks(), np.random.default_rng(1)
    error = rng.normal(size=mask.shape).astype(np.float32)
    elsewhere = np.where(mask, error, rng.normal(size=mask.shape) * 1e6)
    loss = losses.masked_square(jnp.asarray(error), jnp.asarray(mask))
    np.testing.assert_array_equal(loss, losses.masked_square(jnp.asarray(elsewhere), mask))
    expected = [(e[m] ** 2).mean() if m.any() else 0 for e, m in zip(error, mask, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    slope = jax.grad(lambda x: losses.masked_square(x, jnp.asarray(mask)).sum())(jnp.asarray(error))
    np.testing.assert_array_equal(np.asarray(slope) != 0, mask)


@pytest.mark.parametrize("changes", KINDS[1:], ids=["grid", "frames"])
def test_a_step_does_not_depend_on_padding_and_trains_every_parameter(
    changes: dict[str, Any],
) -> None:
    config, after = config_of(**changes), []
    for frames in (FRAMES, 40):
        network, begun, optimizer = begin(config)
        run = jax.jit(step.make_train_step(network, optimizer, config, frames))
        after.append(run(begun, batch_of(frames), jax.random.key(5)))
    (new, metrics), (padded, others) = after
    assert set(metrics) == {"loss", "gradient_norm", "finite"}
    np.testing.assert_allclose(metrics["loss"], others["loss"], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        (new.params, new.stats),
        (padded.params, padded.stats),
    )
    first = jax.tree_util.tree_leaves_with_path(begin(config)[1].params)
    moved = jax.tree.leaves(new.params)
    still = [path for (path, old), leaf in zip(first, moved, strict=True) if (old == leaf).all()]
    assert not still


def test_a_patch_larger_than_all_is_all() -> None:
    length = jnp.asarray(LENGTHS)
    mask = draw_masks(keys(), length, (FRAMES, BINS), (2**31 - 1, 2**31 - 1), SHARE)
    expected = np.arange(FRAMES) < LENGTHS[:, None]
    np.testing.assert_array_equal(mask, np.repeat(expected[..., None], BINS, 2))


@dataclasses.dataclass(frozen=True)
class Looking(state.Network):
    """Predicts zero, and shows what it was given."""

    def apply(self, params: Any, stats: Any, features: Any, length: Any, **_: Any) -> Any:
        return jnp.zeros_like(features) + params["w"] * 0, {"seen": features}


def test_in_training_the_network_sees_nothing_of_what_it_is_asked_for() -> None:
    config = config_of()
    params, optimizer = {"w": jnp.zeros(())}, optax.sgd(0.0)
    figures = {"mean": jnp.zeros(BINS), "std": jnp.ones(BINS), "class_weight": jnp.ones(3)}
    start = state.create_state(params, {}, optimizer, **figures, ema=False)
    run = step.make_train_step(Looking(None, 3, BINS), optimizer, config, FRAMES)
    new, metrics = jax.jit(run)(start, batch_of(), jax.random.key(0))
    features = np.asarray(batch_of()["features"])
    hidden = (new.stats["seen"] == 0) & (np.arange(FRAMES) < LENGTHS[:, None])[..., None]
    assert 0.3 < hidden[0].mean() < 0.5
    np.testing.assert_array_equal(new.stats["seen"][0][~hidden[0]], features[0][~hidden[0]])
    losses = [(x[m] ** 2).mean() for x, m in zip(features, hidden, strict=True) if m.any()]
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)


def test_a_token_predicts_its_own_times_and_bins() -> None:
    config = config_of(**KINDS[1])
    network = Reconstructor(config.model, features=BINS, frames=FRAMES, rngs=nnx.Rngs(0))
    times, bins, wide, high = 7, 3, 4, 4
    tokens = jnp.zeros((1, 1 + times * bins, 8)).at[0, 1:, 0].set(jnp.arange(times * bins))
    network.encode = lambda *_, **__: (tokens, None)
    network.head = lambda x: jnp.repeat(x[:, :1], wide * high, 1)
    made = network(jnp.zeros((1, FRAMES, BINS)), jnp.array([FRAMES]), train=False)
    t, m = np.mgrid[:FRAMES, :BINS]
    np.testing.assert_array_equal(made[0], (t // wide) * bins + m // high)
