"""Every recipe is valid, builds its network, and is of the size that its docstring says."""

import runpy
from pathlib import Path

import pytest
from flax import nnx

from jaxsound.config import validate
from jaxsound.experiment import input_shape
from jaxsound.job import workdir
from jaxsound.models import cp_resnet
from jaxsound.models.transformer import make_stem
from tests.test_config import CONFIGS, load
from tests.test_seeds import build

FILES = sorted((CONFIGS / "recipes").glob("*.py"))
# In thousands, at ten classes.
SIZES = {
    "esc10_cnn": 2413,
    "esc10_cnn_cpu": 264,
    "esc10_transformer": 3035,
    "esc10_transformer_cpu": 749,
    "esc50_cnn": 2413,
    "esc50_samples": 2861,
    "esc50_transformer": 3035,
    "urbansound8k_cnn": 2413,
}
LIMITED = [path for path in FILES if path.stem != "esc10_cnn_cpu"]  # in what a unit sees
TOKENS = {
    "esc10_transformer": 256,
    "esc50_transformer": 256,
    "esc10_transformer_cpu": 32,
    "esc50_samples": 108,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_valid_and_of_its_size(path: Path) -> None:
    config = load(path, "fold=2")
    validate(config)
    assert tuple(config.folds) == (2,)
    found, shape = build(path, 10)
    assert shape == (2, 10)
    assert round(found / 1000) == SIZES[path.stem]


@pytest.mark.parametrize("path", LIMITED, ids=lambda path: path.stem)
def test_receptive_fields_and_tokens_are_within_their_limits(path: Path) -> None:
    config = load(path)
    frames, bins = input_shape(config, longest=10**9)
    if config.model.name == "cp_resnet":
        assert cp_resnet.receptive_field(config.model) == 87
        return
    stem = make_stem(config.model, bins, rngs=nnx.Rngs(0))
    assert stem.times(frames) * stem.bins == TOKENS[path.stem] <= 256


def test_all_of_them_train_on_sound_and_end_without_mixing() -> None:
    assert len(FILES) == len(SIZES) == 8
    for path in FILES:
        config = load(path)
        assert config.data.input == "waveform"
        assert config.optimizer.final_fraction == 0
        assert config.optimizer.ema > 0
        assert config.augment.until == 0.9


@pytest.mark.parametrize("path", [p for p in FILES if p.stem.endswith("_cpu")], ids=str)
def test_an_ablation_compares_the_recipe_with_each_choice_taken_back(path: Path) -> None:
    base = load(path, "short")
    first, *others = runpy.run_path(str(path))["sweep"]()
    assert first == {}
    assert len(others) > 10
    assert base.data.validation > 0
    assert base.eval_every == base.epochs
    for changes in others:
        config = load(path, "short")
        config.update_from_flattened_dict(changes)
        validate(config)
        flat = workdir.flat(config.to_dict())
        assert {k for k, v in workdir.flat(base.to_dict()).items() if flat[k] != v} == set(changes)
