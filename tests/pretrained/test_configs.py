"""Every config of published weights is valid and builds its network, and so are its variants."""

from pathlib import Path

import jax
import pytest

from jaxsound.config import validate
from jaxsound.errors import UserError
from jaxsound.experiment import input_shape
from jaxsound.pretrained import files
from jaxsound.pretrained.weights import flat
from jaxsound.training import finetune
from jaxsound.training.state import plan_network
from tests.test_config import CONFIGS, load

MASKED = CONFIGS / "pretrained" / "masked_audio_folder.py"  # which makes weights
FILES = sorted(set((CONFIGS / "pretrained").glob("*.py")) - {MASKED})


@pytest.mark.parametrize("arg", ["fold=2,probe", "lora,fold=2"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_valid_with_patterns_that_name_parameters(path: Path, arg: str) -> None:
    transformer = path.stem.startswith(("ast", "clap", "wav2vec2"))
    if "lora" in arg and not transformer:
        with pytest.raises(UserError, match="lora"):
            load(path, arg)
        return
    validate(load(path))
    config = load(path, arg)
    validate(config)
    assert tuple(config.folds) == (2,)
    frames, bins = input_shape(config, longest=10**9)
    _, initialise = plan_network(config.model, features=bins, classes=7, frames=frames)
    params, _ = jax.eval_shape(initialise, jax.random.key(0))
    finetune.check(config.pretrained, params)
    kept = dict(
        zip(
            finetune.names(params),
            jax.tree.leaves(finetune.frozen(config.pretrained, params)),
            strict=True,
        )
    )
    trained = {name for name, keep in kept.items() if not keep}
    new = ("hidden", "head") if config.model.name == "wav2vec2" else ("head",)
    classifier = {f"{layer}.{part}" for layer in new for part in ("kernel", "bias")}
    assert classifier <= trained
    assert ("probe" in arg) == (trained == classifier)
    assert ("lora" in arg) == any("lora" in name for name in trained)
    assert config.pretrained.weights


def test_what_masked_pre_training_makes_fits_its_fine_tune() -> None:
    made, used = load(MASKED), load(MASKED.with_name("masked_esc50.py"))
    for config in (made, used):
        validate(config)
    assert made.frontend == used.frontend
    assert used.pretrained.weights == "runs/masked_audio_folder/fold_1"
    trees = []
    for config in (made, used):
        frames, bins = input_shape(config, longest=10**9)
        sizes = {"features": bins, "classes": 7, "frames": frames}
        _, initialise = plan_network(config.model, **sizes, task=config.task)
        params, _ = jax.eval_shape(initialise, jax.random.key(0))
        trees.append({path: leaf.shape for path, leaf in flat(params).items() if path[0] != "head"})
    assert trees[0] == trees[1]


def test_a_repository_without_a_commit_stops_with_one_line() -> None:
    config = load(CONFIGS / "pretrained" / "resnet152_instruments.py")
    with pytest.raises(UserError, match="name the commit"):
        files.pin(config.pretrained)
