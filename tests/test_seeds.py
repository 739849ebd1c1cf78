"""Every system that people tried before is a config with its author's parameter count."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxsound.config import frontend_config, validate
from jaxsound.experiment import input_shape
from jaxsound.training import optim
from jaxsound.training.state import build_network
from tests.test_config import load

FILES = sorted((Path(__file__).parents[1] / "configs" / "seeds").glob("*.py"))
# As the pages of the five projects give them, with their classes.
COUNTS = {
    "s0_conv2d": (147_113, 41),
    "s1_resnet18": (11_195_890, 50),
    "s1_resnet50": (23_604_210, 50),
    "s2_cnn1d": (1_547_258, 10),
    "s3_resnet18": (11_195_890, 50),
    "s3_cnn8": (1_177_138, 50),
    "s3_cnn4": (24_729_522, 50),
    "s3_cnn4_relu": (672_754, 50),
    "s4_m3": (4_012_096, 4),
    "s4_m4": (58_145_732, 4),
    "s4_m5": (195_972, 4),
    "s4_m6": (4_287_620, 4),
}


def build(path: Path, classes: int) -> tuple[int, tuple[int, ...]]:
    """Parameters, and the shape of two clips' logits; nothing is computed."""
    config = load(path)
    validate(config)
    frames, bins = input_shape(config, longest=10**9)

    def logits(x: jax.Array) -> tuple[jax.Array, object]:
        network, params, stats = build_network(
            config.model, features=bins, classes=classes, frames=frames, key=jax.random.key(0)
        )
        length = jnp.array([frames, 3])
        return network.apply(params, stats, x, length, train=False)[0], params

    out, params = jax.eval_shape(logits, jax.ShapeDtypeStruct((2, frames, bins), jnp.float32))
    return sum(x.size for x in jax.tree.leaves(params)), out.shape


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_seed_is_valid_and_has_its_authors_parameters(path: Path) -> None:
    wanted, classes = COUNTS.get(path.stem, (None, 7))
    found, shape = build(path, classes)
    assert shape == (2, classes)
    assert wanted in (None, found)


def test_no_count_is_forgotten() -> None:
    assert COUNTS.keys() <= {path.stem for path in FILES}
    assert len(FILES) == 17


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_seed_tells_its_story(path: Path) -> None:
    doc = " ".join(path.read_text().split('"""')[1].split())
    assert "The original " in doc
    assert "What went wrong there" in doc
    assert "Measured" in doc
    if "as_coded" in doc:
        assert load(path, "as_coded").to_json() != load(path).to_json()


def test_input_shapes_are_the_authors() -> None:
    shapes = {path.stem: input_shape(load(path), longest=10**9) for path in FILES}
    assert shapes["s0_conv2d"] == (64, 32)
    assert shapes["s0_transformer"] == (1563, 128)
    assert shapes["s1_resnet18"] == (716, 256)
    assert shapes["s2_cnn1d"] == (1501, 128)
    assert shapes["s3_cnn4"] == (384, 100)
    assert shapes["s4_m5"] == (173, 15)
    assert shapes["s4_m6"] == (128, 128)


def test_s1_had_stopped_by_its_thirtieth_epoch() -> None:
    path = next(path for path in FILES if path.stem == "s1_resnet18")
    per_epoch = 25
    rates = {}
    for variant in ("as_coded", "as_intended"):
        config = load(path, variant)
        schedule = optim.schedule(config.optimizer, 80 * per_epoch, per_epoch)
        rates[variant] = [float(schedule(epoch * per_epoch)) for epoch in (0, 29, 30)]
    assert rates["as_coded"] == pytest.approx([2e-4, 2e-6, 2e-7])
    assert rates["as_intended"] == pytest.approx([2e-4, 2e-4, 2e-5])
    assert frontend_config(load(path)).features == 256
