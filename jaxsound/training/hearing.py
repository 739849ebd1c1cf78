"""From a batch of samples to features, inside the training step.

A batch of sound is that of `step.py` with samples in place of frames: `features [B, W]` int16, or
`frames [S]`, all samples of the data set, and `row [B]`; `length [B]` counts samples. W is the
window that is cut out of a clip, N what is left of it, at any speed, to train on.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsound.features.frontend import FrontendConfig, frontend, own_frames
from jaxsound.training import augment_sound, losses
from jaxsound.training.state import Batch

Array = jax.Array
Hear = Callable[..., tuple[Array, Array, Array]]
SOUND_STREAM = 0x736F756E  # far from the small numbers that splitting a key uses
_FULL_SCALE = 1 / 32768


def window(augment: Any, size: int) -> int:
    """W, samples of a clip that `size` samples may be made of at the greatest speed."""
    return math.ceil(size * augment.speed)


def crops(batch: Batch, samples: int) -> Array:
    """`[B, samples]` float32 from -1 to 1 of a batch in either form, zero past each length."""
    sound = batch.get("features")
    if sound is None:

        def cut(row: Array) -> Array:
            return jax.lax.dynamic_slice(batch["frames"], (row,), (samples,))

        sound = jax.vmap(cut)(batch["row"])
    own = jnp.arange(samples)[None, :] < batch["length"][:, None]
    return jnp.where(own, sound.astype(jnp.float32) * _FULL_SCALE, 0)


def _together(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _side_by_side(features: FrontendConfig) -> Callable[..., Array]:
    """The frontend, whose batch takes the clips of all folds where they are side by side.

    Batched by the compiler instead, its float64 would be float32.
    """

    @jax.custom_batching.custom_vmap
    def run(sound: Array, length: Array, *response: Array) -> Array:
        return frontend(features, sound, length, *response)

    @run.def_vmap
    def run_folds(folds: int, batched: Any, *args: Array) -> tuple[Array, bool]:
        each = [
            x if of_fold else jnp.broadcast_to(x, (folds, *x.shape))
            for x, of_fold in zip(args, batched, strict=True)
        ]
        made = run(*(x.reshape(-1, *x.shape[2:]) for x in each))
        return made.reshape(folds, -1, *made.shape[1:]), True

    heard: Callable[..., Array] = run
    return heard


def make_hearing(
    config: Any,
    features: FrontendConfig,
    *,
    size: int,
    classes: int,
    by_device: Callable[[Callable[..., Any]], Callable[..., Any]] = _together,
) -> Hear:
    """A pure `(key, batch, mixing=None) -> (features [B, T, M], frames [B], labels [B, C])`.

    What the `augment` section asks for in sound is done in the order of this function; a batch's
    `plain` examples are only cut. `mixing` says whether clips are mixed at this step; None for
    always.

    Args:
      config: the `augment` section.
      features: the frontend.
      size: N, samples to train on; T is `features.frames(size)`.
      classes: C.
      by_device: makes a function of arrays split over devices one that each device runs on its own
        part (`Placement.by_device`): left to the compiler, every device would hear all clips.
    """
    frequency = np.arange(1 + features.n_fft // 2) * (features.sample_rate / features.n_fft)
    filtered = {
        "equaliser_db": config.equaliser_db,
        "low_pass": config.low_pass,
        "low_pass_hz": config.low_pass_hz,
    }

    features_of = _side_by_side(features)

    def alone(key: Array, sound: Array, length: Array, plain: Array) -> tuple[Array, ...]:
        """What is done to a clip by itself, before it is mixed; and its loudness."""
        cycle_key, speed_key = jax.random.split(key)
        if config.shift or config.loop:
            turned = augment_sound.cycle(
                cycle_key, sound, length, shift=config.shift, loop=config.loop
            )
            sound = jnp.where(plain, sound, turned)
        if config.speed > 1:
            factor = jnp.where(plain, 1.0, config.speed)
            sound, length = augment_sound.speed(speed_key, sound, length, factor, size)
        level = jnp.zeros(())
        if config.between_class:
            level = augment_sound.loudness(sound, features.sample_rate, config.loudness)
        return sound, length, level

    def after(key: Array, sound: Array, length: Array, plain: Array) -> tuple[Array, Array]:
        """What is done to a mix, and the response of the filters that it passes."""
        polarity_key, level_key, noise_key, filter_key = jax.random.split(key, 4)
        heard = sound
        if config.polarity:
            heard = augment_sound.polarity(polarity_key, heard)
        if config.level_db:
            heard = augment_sound.level(level_key, heard, config.level_db)
        if config.noise:
            heard = augment_sound.noise(
                noise_key,
                heard,
                length,
                chance=config.noise,
                low=config.noise_low_db,
                high=config.noise_high_db,
            )
        passed = augment_sound.response(filter_key, frequency, **filtered)
        return jnp.where(plain, sound, heard), jnp.where(plain, 1.0, passed)

    def listen(key: Array, sound: Array, length: Array, plain: Array) -> Array:
        heard, passed = jax.vmap(after)(key, sound, length, plain)
        filters = (passed,) if config.equaliser_db or config.low_pass else ()
        return features_of(heard, length, *filters)

    def hear(key: Array, batch: Batch, mixing: Array | None = None) -> tuple[Array, Array, Array]:
        sound, length = crops(batch, window(config, size)), batch["length"]
        label = losses.soft_labels(batch["label"], classes)
        plain = batch.get("plain", jnp.zeros(len(length), bool))
        keys = jax.random.split(jax.random.fold_in(key, SOUND_STREAM), (3, len(length)))
        sound, length, level = by_device(jax.vmap(alone))(keys[0], sound, length, plain)
        if config.between_class:
            chance = config.between_class
            chance = chance if mixing is None else jnp.where(mixing, chance, 0.0)
            mixed = augment_sound.between_class(keys[1], sound, length, label, level, chance)
            sound = jnp.where(plain[:, None], sound, mixed[0])
            length = jnp.where(plain, length, mixed[1])
            label = jnp.where(plain[:, None], label, mixed[2])
        heard = by_device(listen)(keys[2], sound, length, plain)
        return heard, own_frames(features, length), label

    return hear
