"""Every config file is valid; every wrong value is one line that names its key."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from jaxsound.config import KEYS, default_config, in_one_line, validate
from jaxsound.errors import UserError
from jaxsound.experiment import input_shape
from jaxsound.keys import MODELS
from jaxsound.training.state import build_network

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.glob("*.py"))


def load(path: Path, arg: str = "") -> ml_collections.ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"--config=configs/{path.relative_to(CONFIGS)}" in module.__doc__
    return module.get_config(arg)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_is_valid_and_builds_its_network(path: Path) -> None:
    config = load(path, "fold=2")
    validate(config)
    assert tuple(config.folds) == (2,)
    frames, bins = input_shape(config, longest=10**9)

    def logits(x: jax.Array) -> jax.Array:
        network, params, stats = build_network(
            config.model,
            features=bins,
            classes=7,
            frames=frames,
            key=jax.random.key(0),
        )
        return network.apply(params, stats, x, jnp.array([frames, 3]), train=False)[0]

    x = jax.ShapeDtypeStruct((2, frames, bins), jnp.float32)
    assert jax.eval_shape(logits, x).shape == (2, 7)


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("cnn", "epochs", 0),
        ("cnn", "batch_size", -1),
        ("cnn", "crossval", "parallel"),
        ("cnn", "data.validation", 0.9),
        ("cnn", "data.crop_seconds", 6.0),
        ("cnn", "data.on_bad", "ignore"),
        ("cnn", "data.subset", "esc10"),
        ("cnn", "frontend.hop_length", 0),
        ("cnn", "frontend.fmax", 20000.0),
        ("cnn", "frontend.win_length", 4096),
        ("cnn", "model.channels", (8, 0)),
        ("cnn", "optimizer.accumulate", 5),
        ("cnn", "optimizer.b1", 1.5),
        ("cnn", "augment.time_mask_share", 2.0),
        ("cnn", "select", "best epoch"),
        ("cnn", "data.crop_bins", 1000),
        ("transformer", "model.heads", 3),
        ("transformer", "model.positions", "absolute"),
        ("transformer", "model.dtype", "float16"),
        ("htsat", "data.pad_seconds", 30.0),
        ("wav2vec2", "data.input", "waveform"),
    ],
)
def test_an_impossible_value_is_one_line_with_key_and_value(
    model: str, key: str, value: Any
) -> None:
    config = default_config(model)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=re.escape(key)) as refused:
        validate(config)
    assert str(value) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("changes", [{"kind": "mel", "dtype": "float32"}, {"scale": "minmax"}])
def test_gain_needs_decibels(changes: dict[str, str]) -> None:
    config = default_config("cnn")
    config.augment.gain_db = 3.0
    validate(config)
    config.frontend.update(changes)
    with pytest.raises(UserError, match="gain_db"):
        validate(config)


def test_a_flatten_head_needs_fixed_frames() -> None:
    config = default_config("stack")
    config.model.layers = ("conv 4 3", "relu", "flatten")
    with pytest.raises(UserError, match=r"model\.layers: 'flatten': .*data\.frames"):
        validate(config)
    config.data.frames = 100
    validate(config)


def test_a_locked_config_takes_no_unknown_key() -> None:
    with pytest.raises(AttributeError):
        default_config("cnn").optimizer.learning_rate = 1.0


def test_defaults_are_valid_and_every_key_is_known() -> None:
    for model in MODELS:
        config = default_config(model)
        validate(config)
        flat = {f"config.{key}" for key in _flatten(config.to_dict())}
        assert flat - {"config.model.name"} <= KEYS


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in tree.items():
        keys += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


@pytest.mark.parametrize(
    ("key", "value"), [("select", "best"), ("early_stopping", 3), ("optimizer.schedule", "plateau")]
)
@pytest.mark.parametrize(("without", "none"), [("data.validation", 0.0), ("eval_every", 0)])
def test_what_follows_validation_needs_it(key: str, value: Any, without: str, none: float) -> None:
    config = default_config("cnn")
    config.update_from_flattened_dict({key: value})
    validate(config)
    config.update_from_flattened_dict({without: none})
    with pytest.raises(UserError, match=rf"config\.{re.escape(key)}=.*{re.escape(without)}"):
        validate(config)


def test_folds_side_by_side_cannot_stop_early() -> None:
    config = default_config("cnn")
    config.crossval = "vmap"
    validate(config)
    config.early_stopping = 3
    with pytest.raises(UserError, match=r"config\.early_stopping=3: .*sequential"):
        validate(config)


def test_exact_frames_make_seconds_irrelevant() -> None:
    config = default_config("cnn")
    config.data.crop_seconds = 9.0
    config.data.frames = 100
    validate(config)


@pytest.mark.parametrize(
    ("missing", "beside"),
    [
        ("configs/recipes/none.py", "configs/recipes/ has esc10_cnn.py, "),
        ("configs/none/none.py", "configs/ has audio_folder_cnn.py, "),
        ("none.py", ", recipes/, seeds/"),
        (".", "configs/ has audio_folder_cnn.py, "),
    ],
)
def test_a_config_that_is_missing_is_told_what_is_beside(
    missing: str, beside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    with pytest.raises(UserError, match=re.escape(beside)), in_one_line([f"--config={missing}"]):
        pass
