"""What each augmentation does to a clip, by the very functions that training uses."""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxsound.explore import canvas
from jaxsound.explore.survey import Clip, features, seconds_of
from jaxsound.features.frontend import FrontendConfig
from jaxsound.keys import AUGMENT, IN_SOUND
from jaxsound.training import augment, hearing

DRAWS = 3
TYPICAL = {
    "time_masks": 2,
    "time_mask_share": 0.15,
    "freq_masks": 2,
    "freq_mask_share": 0.15,
    "time_roll": True,
    "gain_db": 6.0,
    "mixup": 0.3,
    "time_mix": 0.5,
    "freq_mix": 0.5,
    "mel_jitter": 0.1,
}
BY_CHANCE = ("loop", "between_class", "noise", "low_pass")  # in sound; drawn as if certain
Effect = Callable[[jax.Array], tuple[np.ndarray, str]]  # key -> [T, M], and what was drawn


def chosen(config: Any, frontend: FrontendConfig) -> tuple[dict[str, Any], bool]:
    """The settings to show, and whether they are the experiment's own.

    Args:
      config: the `augment` section. What works in sound is shown where it is on.
      frontend: gain is a shift of decibels and of nothing else.
    """
    own = {key: config[key] for key in TYPICAL}
    in_sound = any(config[key] != off for key, off in IN_SOUND.items())
    is_own = in_sound or any(own[key] for key in TYPICAL if not key.endswith("_share"))
    settings = own if is_own else dict(TYPICAL)
    if in_sound:
        settings |= {key: config[key] for key in AUGMENT}
    if frontend.kind != "log_mel" or frontend.scale != "none":
        settings["gain_db"] = 0.0
    return settings, is_own


def figure(clips: Sequence[Clip], settings: dict[str, Any], config: FrontendConfig) -> Figure:
    """A row for each augmentation: the plain clip, then the same clip augmented.

    Args:
      clips: the first is augmented, mixup mixes it with the second, and features are normalised
        by all of them.
      settings: as `chosen` returns them.
      config: the experiment's frontend.
    """
    values = [features(clip, config) for clip in clips]
    mean, std = np.concatenate(values).mean(0), np.concatenate(values).std(0)
    std = np.where(std > 1e-4, std, 1).astype(np.float32)
    plain, other = ((value - mean) / std for value in values[:2])
    effects = _effects(plain, other, clips[1].name, std, settings)
    effects |= _effects_in_sound(clips[:2], config, (mean, std), settings)
    low, high = canvas.limits([plain], 0.01, 0.998)
    drawing = canvas.new(canvas.WIDTH, 1.5 * len(effects) + 0.4)
    rows = drawing.subplots(len(effects), 1 + DRAWS, sharey=True, squeeze=False)
    for row, (name, effect) in zip(rows, effects.items(), strict=True):
        images = [(plain, f"{canvas.shown(clips[0].name)}, plain")]
        for i in range(DRAWS):
            made, told = effect(jax.random.key(i))
            images.append((made, f"{name} {told}"))
        for panel, (image, title) in zip(row, images, strict=True):
            seconds = seconds_of(len(image), clips[0], config)
            shades = canvas.picture(panel, image, seconds, low, high)
            panel.set_title(title)
            panel.locator_params(axis="x", nbins=5)
    drawing.supxlabel("time, s", fontsize=9, color=canvas.INK)
    drawing.supylabel("feature", fontsize=9, color=canvas.INK)
    canvas.colour_bar(
        drawing, shades, list(rows.flat), "normalised: 0 is the mean, and what masks leave"
    )
    return drawing


def _effects(
    plain: np.ndarray, other: np.ndarray, other_name: str, std: np.ndarray, settings: dict[str, Any]
) -> dict[str, Effect]:
    """Name of each augmentation that is on -> what it makes of the plain clip `[T, M]`."""
    longest = max(len(plain), len(other))
    both = jnp.stack([_padded(plain, longest), _padded(other, longest)])
    lengths = jnp.array([len(plain), len(other)], jnp.int32)
    one, length = both[:1], lengths[:1]
    scale = jnp.asarray(std)

    def cut(made: jax.Array) -> np.ndarray:
        return np.asarray(made[0, : len(plain)])

    def masks(time: int, freq: int) -> Effect:
        shares: dict[str, Any] = {
            key: settings[f"{key[:4]}_mask_share"] for key in ("time_share", "freq_share")
        }
        counts = {"time_masks": time, "freq_masks": freq}
        mask = jax.jit(functools.partial(augment.spec_augment, **counts | shares))

        def effect(key: jax.Array) -> tuple[np.ndarray, str]:
            return cut(mask(key, one, length)), ""

        return effect

    def roll(key: jax.Array) -> tuple[np.ndarray, str]:
        return cut(augment.time_roll(key, one, length)), ""

    def gain(key: jax.Array) -> tuple[np.ndarray, str]:
        made = augment.gain(key, one, length, scale, settings["gain_db"])
        decibels = float(((made - one)[0, 0] * scale).mean())
        return cut(made), f"{decibels:+.1f} dB".replace("-", "−")

    mix = jax.jit(functools.partial(augment.mixup, alpha=settings["mixup"]))

    def mixup(key: jax.Array) -> tuple[np.ndarray, str]:
        # Half of all permutations of two leave a clip by itself, and most ratios are near 0 or 1.
        for attempt in range(64):
            drawn = jax.random.fold_in(key, attempt)
            made, frames, mixed = mix(drawn, both, lengths, jnp.eye(2))
            share = float(mixed[0, 1])
            if 0.1 < share < 0.9:
                break
        told = f"{100 * share:.0f} % {canvas.shown(other_name, 14)}"
        return np.asarray(made[0, : int(frames[0])]), told

    def mixed_band(axis: int) -> Effect:
        mix_band = jax.jit(functools.partial(augment.band_mix, chance=1.0, axis=axis))

        def effect(key: jax.Array) -> tuple[np.ndarray, str]:
            for attempt in range(64):  # as below
                made, mixed = mix_band(jax.random.fold_in(key, attempt), both, lengths, jnp.eye(2))
                if 0.1 < (share := float(mixed[0, 1])) < 0.9:
                    break
            return cut(made), f"{100 * share:.0f} % {canvas.shown(other_name, 14)}"

        return effect

    def jitter(key: jax.Array) -> tuple[np.ndarray, str]:
        return cut(augment.mel_jitter(key, one, settings["mel_jitter"])), ""

    effects = {
        "time masks": (settings["time_masks"], masks(settings["time_masks"], 0)),
        "frequency masks": (settings["freq_masks"], masks(0, settings["freq_masks"])),
        "roll": (settings["time_roll"], roll),
        "gain": (settings["gain_db"], gain),
        "mixup": (settings["mixup"], mixup),
        "time mix": (settings["time_mix"], mixed_band(1)),
        "frequency mix": (settings["freq_mix"], mixed_band(2)),
        "mel jitter": (settings["mel_jitter"], jitter),
    }
    return {name: effect for name, (is_on, effect) in effects.items() if is_on}


def _effects_in_sound(
    clips: Sequence[Clip],
    config: FrontendConfig,
    scale: tuple[np.ndarray, np.ndarray],
    settings: dict[str, Any],
) -> dict[str, Effect]:
    """Likewise, of what is done to the waveforms of these two clips."""
    sounds = [clip.at(config.sample_rate) for clip in clips]
    size = max(map(len, sounds))
    mean, std = scale

    def effect_of(name: str) -> Effect:
        alone = {name: 1.0 if name in BY_CHANCE else settings[name]}
        others = settings | IN_SOUND | alone
        section = SimpleNamespace(**others)
        hear = jax.jit(hearing.make_hearing(section, config, size=size, classes=2))
        rows = np.zeros((2, hearing.window(section, size)), np.int16)
        for row, sound in zip(rows, sounds, strict=True):
            row[: len(sound)] = np.clip(np.round(sound * 32768), -32768, 32767)
        batch = {
            "features": jnp.asarray(rows),
            "length": jnp.array([len(sound) for sound in sounds], jnp.int32),
            "label": jnp.arange(2),
        }

        def effect(key: jax.Array) -> tuple[np.ndarray, str]:
            made, frames, label = hear(key, batch)
            told = f"{100 * float(label[0, 1]):.0f} %" if name == "between_class" else ""
            return (np.asarray(made[0, : int(frames[0])]) - mean) / std, told

        return effect

    on = [name for name, off in IN_SOUND.items() if settings.get(name, off) != off]
    return {name.replace("_", " ").removesuffix(" db"): effect_of(name) for name in on}


def _padded(values: np.ndarray, frames: int) -> jax.Array:
    return jnp.pad(jnp.asarray(values), ((0, frames - len(values)), (0, 0)))
