"""The compiled step: what reaches the network, the plateau's scale, and memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from jaxsound.config import default_config
from jaxsound.training import optim, selection, sharding, state, step

FRAMES, BINS, BATCH, CLASSES = 12, 10, 8, 3


def config_of(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("stack")
    config.model.dims = 1
    config.model.layers = ("mean",)
    config.batch_size = BATCH
    config.optimizer.warmup_fraction = 0.0
    config.update_from_flattened_dict(changes)
    return config


def batch_of(plain: np.ndarray | None = None) -> step.Batch:
    rng = np.random.default_rng(0)
    batch = {
        "features": jnp.asarray(rng.normal(size=(BATCH, FRAMES, BINS)), jnp.float32),
        "length": jnp.asarray(rng.integers(1, FRAMES + 1, BATCH), jnp.int32),
        "label": jnp.arange(BATCH) % CLASSES,
        "mask": jnp.ones(BATCH, bool),
    }
    return batch if plain is None else batch | {"plain": jnp.asarray(plain)}


@dataclasses.dataclass(frozen=True)
class Looking(state.Network):
    """A network that shows what it is given: its loss is linear in the parameters `[B, T, M]`."""

    def apply(self, params: Any, stats: Any, features: Any, length: Any, **_: Any) -> Any:
        past = jnp.arange(features.shape[1]) >= length[:, None]
        seen = jnp.where(past[..., None], jnp.nan, features)
        return jnp.zeros((len(features), CLASSES)), {"seen": seen, "length": length}


def seen_by_the_network(config: Any, batch: step.Batch, features: int, key: int = 0) -> Any:
    """Features `[B, T, M]`, NaN past the length, as training gives them to the network."""
    network = Looking(None, CLASSES, features)
    params, optimizer = {"w": jnp.zeros(())}, optax.sgd(0.0)
    start = state.create_state(
        params,
        {},
        optimizer,
        mean=jnp.zeros(BINS),
        std=jnp.ones(BINS),
        class_weight=jnp.ones(CLASSES),
        ema=False,
    )
    run = jax.jit(step.make_train_step(network, optimizer, config, FRAMES))
    new, _ = run(start, batch, jax.random.key(key))
    return np.asarray(new.stats["seen"])


AUGMENTED = {
    "augment.time_masks": 1,
    "augment.time_mask_share": 1.0,
    "augment.freq_masks": 2,
    "augment.time_roll": True,
    "augment.gain_db": 6.0,
    "augment.mixup": 0.4,
}


def test_plain_examples_pass_unchanged_and_the_others_do_not() -> None:
    plain = np.arange(BATCH) % 2 == 0
    batch = batch_of(plain)
    seen = seen_by_the_network(config_of(**AUGMENTED), batch, BINS)
    past = np.arange(FRAMES) >= np.asarray(batch["length"])[:, None]
    expected = np.where(past[..., None], np.nan, batch["features"])
    np.testing.assert_array_equal(seen[plain], expected[plain])
    changed = [not np.array_equal(*x, equal_nan=True) for x in zip(seen, expected, strict=True)]
    np.testing.assert_array_equal(changed, ~plain)


def test_a_crop_in_frequency_is_a_run_of_bins_and_each_example_s_own() -> None:
    batch, bins = batch_of(), 4
    starts = set()
    for key in range(4):
        seen = seen_by_the_network(config_of(), batch, bins, key)
        for row, features, length in zip(seen, batch["features"], batch["length"], strict=True):
            runs = [features[:length, i : i + bins] for i in range(BINS - bins + 1)]
            (start,) = [i for i, run in enumerate(runs) if np.array_equal(run, row[:length])]
            starts.add(start)
    assert starts == set(range(BINS - bins + 1))


def test_evaluation_takes_the_middle_bins() -> None:
    config, batch = config_of(), batch_of()
    network, params, stats = state.build_network(
        config.model, features=4, classes=CLASSES, frames=FRAMES, key=jax.random.key(0)
    )
    whole = state.create_state(
        params,
        stats,
        optax.sgd(0.1),
        mean=jnp.zeros(BINS),
        std=jnp.ones(BINS),
        class_weight=jnp.ones(CLASSES),
        ema=False,
    )
    logits = step.make_eval_step(network, FRAMES)
    middle = dataclasses.replace(whole, mean=whole.mean[3:7], std=whole.std[3:7])
    cut = batch | {"features": batch["features"][..., 3:7]}
    np.testing.assert_array_equal(logits(whole, batch), logits(middle, cut))
    other = batch | {"features": batch["features"].at[..., 3].add(1.0)}
    assert (np.asarray(logits(whole, batch)) != logits(whole, other)).any()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_scale_is_one_of_the_learning_rate(name: str) -> None:
    common = {"optimizer.name": name, "optimizer.schedule": "plateau", "optimizer.peak_lr": 0.1}
    found = []
    for rate, scale in ((0.1, 0.25), (0.025, 1.0)):
        config = config_of(**common | {"optimizer.peak_lr": rate})
        network, params, stats = state.build_network(
            config.model, features=BINS, classes=CLASSES, frames=FRAMES, key=jax.random.key(0)
        )
        optimizer = optim.make_optimizer(config.optimizer, 10, 2)
        current = state.create_state(
            params,
            stats,
            optimizer,
            mean=jnp.zeros(BINS),
            std=jnp.ones(BINS),
            class_weight=jnp.ones(CLASSES),
            ema=False,
        )
        current = selection.begin(config, current)
        current.selection.scale = jnp.float32(scale)
        run = jax.jit(step.make_train_step(network, optimizer, config, FRAMES))
        for _ in range(3):
            current, _ = run(current, batch_of(), jax.random.key(0))
        found.append(jax.tree.leaves(current.params))
    for a, b, start in zip(*found, jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        assert np.abs(np.asarray(a - start)).max() > 1e-4


def test_a_transformer_s_step_of_512_clips_of_1501_frames_takes_under_four_gigabytes() -> None:
    config = default_config("transformer")
    config.batch_size = 512
    config.model.update({"stem": "frames", "stem_frames": 1, "depth": 2, "mlp_ratio": 16.0})
    config.model.update({"norm": "post", "activation": "relu", "remat": True})
    config.optimizer.accumulate = 64
    optimizer = optim.make_optimizer(config.optimizer, 10, 10)
    kept = []

    def start(key: jax.Array) -> state.TrainState:
        network, params, stats = state.build_network(
            config.model, features=128, classes=10, frames=1501, key=key
        )
        kept.append(network)
        ones = jnp.ones(128)
        return state.create_state(
            params, stats, optimizer, mean=ones, std=ones, class_weight=jnp.ones(10), ema=False
        )

    shapes = jax.eval_shape(start, jax.random.key(0))
    batch = {
        "features": jax.ShapeDtypeStruct((512, 1501, 128), jnp.float16),
        "length": jax.ShapeDtypeStruct((512,), jnp.int32),
        "label": jax.ShapeDtypeStruct((512,), jnp.int32),
    }
    run = jax.jit(step.make_train_step(kept[0], optimizer, config, 1501), donate_argnums=0)
    memory = run.lower(shapes, batch, jax.random.key(0)).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.argument_size_in_bytes < 4e9


@pytest.mark.parametrize(
    ("name", "change", "share"),
    [
        ("transformer", {"model.remat": True}, 0.7),
        ("cnn", {"optimizer.accumulate": 8}, 0.3),
    ],
)
def test_what_should_save_memory_saves_it(name: str, change: dict[str, Any], share: float) -> None:
    small = {"transformer": {"width": 32, "depth": 3, "stem": "frames"}, "cnn": {"channels": (8,)}}

    def memory(change: dict[str, Any]) -> int:
        config = default_config(name)
        config.batch_size = 16
        config.model.update(small[name])
        config.update_from_flattened_dict(change)
        optimizer = optim.make_optimizer(config.optimizer, 10, 10)
        network, params, stats = state.build_network(
            config.model, features=32, classes=3, frames=512, key=jax.random.key(0)
        )
        ones = jnp.ones(32)
        current = state.create_state(
            params, stats, optimizer, mean=ones, std=ones, class_weight=jnp.ones(3), ema=False
        )
        batch = {
            "features": jnp.zeros((16, 512, 32)),
            "length": jnp.full(16, 512),
            "label": jnp.zeros(16, jnp.int32),
        }
        placement = sharding.Placement(sharding.make_mesh(16), stacked=False)
        run: Any = placement.jit_train(step.make_train_step(network, optimizer, config, 512))
        compiled = run.lower(current, batch, jax.random.key(0)).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert memory(change) < share * memory({})
