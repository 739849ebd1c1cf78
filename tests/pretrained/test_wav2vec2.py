"""wav2vec 2.0 and HuBERT are the originals: every hidden state and the logits of every clip."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models import wav2vec2
from jaxsound.pretrained import files, weights
from jaxsound.pretrained.layouts import layouts
from tests.pretrained.originals import (
    CLASSES,
    assert_close,
    blank,
    jit,
    model_config,
    needs_time,
    network,
    publish,
    shaken,
    torch,
    transformers,
)

LENGTHS = (4000, 2113, 400)
SIZES = {
    "small": {"width": 24, "depth": 1, "heads": 2, "channels": 8, "positions": 5},
    "larger": {"width": 64, "depth": 3, "heads": 4, "channels": 32, "positions": 16},
}
BASE = {"width": 768, "depth": 12, "heads": 12, "channels": 512, "positions": 128}
BASE |= {"position_groups": 16, "hidden": 256}
PROVED = [
    *(pytest.param(size, LENGTHS, id=name) for name, size in SIZES.items()),
    pytest.param(BASE, (80000, 40571, 400), id="base", marks=needs_time),
]
KINDS = ("Wav2Vec2", "Hubert")


def original(kind: str, size: dict[str, int], suffix: str = "ForSequenceClassification") -> Any:
    size = {"position_groups": 4, "hidden": 16} | size
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=size["width"],
        num_hidden_layers=size["depth"],
        num_attention_heads=size["heads"],
        intermediate_size=4 * size["width"],
        conv_dim=[size["channels"]] * 7,
        num_conv_pos_embeddings=size["positions"],
        num_conv_pos_embedding_groups=size["position_groups"],
        classifier_proj_size=size["hidden"],
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    return shaken(getattr(transformers, kind + suffix)(config))


def config_of(size: dict[str, int]) -> Any:
    return model_config("wav2vec2", **{"position_groups": 4, "hidden": 16} | size)


def sounds(lengths: tuple[int, ...] = LENGTHS) -> np.ndarray:
    """Noise of some loudness and offset, and large numbers past each clip's length."""
    x = np.random.default_rng(0).normal(0.05, 0.1, size=(len(lengths), max(lengths)))
    x[np.arange(max(lengths))[None] >= np.asarray(lengths)[:, None]] = 1e3
    return x.astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "lengths"), PROVED)
def test_states_and_logits(
    kind: str, size: dict[str, int], lengths: tuple[int, ...], tmp_path: Path
) -> None:
    theirs = original(kind, size)
    published = publish(theirs, tmp_path)
    graph, values = network(published, config_of(size), bins=1, frames=max(lengths))

    @jit
    def run(values: Any, x: Any) -> Any:
        model = nnx.merge(graph, *values)
        length = jnp.asarray(lengths)
        state, valid = model.begin(x, length)
        states = [state]
        for block in model.blocks:
            states.append(block(states[-1], valid, False, None))
        return states, valid, model(x, length, train=False)

    x = sounds(lengths)
    states, valid, logits = run(values, jnp.asarray(x)[..., None])
    extractor = transformers.Wav2Vec2FeatureExtractor()
    for row, length in enumerate(lengths):
        heard = extractor(x[row, :length], sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            found = theirs(heard["input_values"], output_hidden_states=True)
        assert len(found.hidden_states) == len(states) == size["depth"] + 1
        for mine, wanted in zip(states, found.hidden_states, strict=True):
            assert valid[row] == wanted.shape[1]
            assert_close(mine[row, : valid[row]], wanted[0])
            assert (mine[row, valid[row] :] == 0).all()
        assert_close(logits[row], found.logits[0])


def test_the_front_end_is_theirs() -> None:
    x = sounds()
    mine = wav2vec2.standardised(jnp.asarray(x), jnp.asarray(LENGTHS))
    extractor = transformers.Wav2Vec2FeatureExtractor()
    for row, length in enumerate(LENGTHS):
        heard = extractor(x[row, :length], sampling_rate=16000, return_tensors="np")
        wanted = heard["input_values"][0]
        np.testing.assert_allclose(mine[row, :length], wanted, rtol=0, atol=1e-3)
        assert (mine[row, length:] == 0).all()


@pytest.mark.parametrize(("kind", "suffix"), [("Wav2Vec2", "ForPreTraining"), ("Hubert", "Model")])
def test_what_pre_training_left_is_read_without_its_own_tools(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    size = SIZES["small"]
    published = publish(original(kind, size, suffix), tmp_path)
    _, (params, _) = network(published, config_of(size), bins=1, frames=4000)
    values = weights.flat(params)
    untouched = {path for path, value in values.items() if (value == 7).all()}
    assert {path[0] for path in untouched} == {"hidden", "head"}


def test_there_and_back_are_the_same_bits_in_every_layout(tmp_path: Path) -> None:
    config = config_of(SIZES["small"])
    _, params, stats = blank(config, bins=1, frames=4000)
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    for layout in layouts(config):
        if "without" in layout.name:
            continue
        files.write(tmp_path / "x.safetensors", weights.tensors(config, tree, stats, layout.name))
        published = files.read(str(tmp_path / "x.safetensors"))
        start = weights.fit(published, config, params, stats, features=1)
        jax.tree.map(np.testing.assert_array_equal, start.params, tree)
        assert layout.name in start.note
