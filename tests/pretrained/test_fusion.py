"""Fused CLAP is transformers': four views of a longer clip, every stage, its embedding."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.config import default_config, validate
from jaxsound.errors import UserError
from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.models import fusion
from jaxsound.pretrained import files, weights
from jaxsound.pretrained.layouts import layouts
from tests.pretrained.originals import (
    assert_close,
    blank,
    jit,
    network,
    publish,
    torch,
    transformers,
)
from tests.pretrained.test_htsat import FRONTEND, SIZES, config_of, original

FUSED = dataclasses.replace(FRONTEND, excerpt="whole", htk=True, norm="")
CHUNK = 1 + round(FUSED.seconds * FUSED.sample_rate) // FUSED.hop_length


def middles(total: int, chunk: int) -> list[int]:
    """The middle of each third of the places, the plain way."""
    thirds = np.array_split(np.arange(total - chunk + 1), 3)
    return [int(third[(len(third) - 1) // 2]) if len(third) else 0 for third in thirds]


def four(clip: np.ndarray, chunk: int) -> np.ndarray:
    """What transformers' extractor makes of a log-mel `[T, M]`, which knows 64 bins alone."""
    if len(clip) <= chunk:
        return np.stack([clip] * 4)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(clip)[None, None], (chunk, clip.shape[1]), mode="bilinear"
    )
    return np.stack([small[0, 0], *(clip[at : at + chunk] for at in middles(len(clip), chunk))])


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_stages_and_embedding_of_longer_and_shorter_clips(
    size: dict[str, Any], tmp_path: Path
) -> None:
    theirs, bins = original(size, fusion=True), size["bins"]
    chunk = 15 * bins
    config = config_of(size, fusion=True, chunk_frames=chunk)
    lengths = (3 * chunk - 5, chunk, chunk + 1, chunk // 2, 2 * chunk)
    frames = 3 * chunk + 9
    graph, values = network(publish(theirs, tmp_path), config, bins=bins, frames=frames)

    @jit
    def run(values: Any, x: Any) -> Any:
        model = nnx.merge(graph, *values)
        x = model.tokens(x, jnp.asarray(lengths), False)
        states = [x]
        for i, block in enumerate(model.blocks, 1):
            x = block(x, False, None)
            if i in np.cumsum(size["depths"]):
                states.append(x)
        return states, model.norm(x).mean((1, 2))

    x = np.random.default_rng(0).normal(-40, 20, size=(5, frames, bins)).astype(np.float32)
    x[np.arange(frames)[None] >= np.asarray(lengths)[:, None]] = 1e3
    states, pooled = run(values, jnp.asarray(x))
    for row, length in enumerate(lengths):
        clip = torch.from_numpy(four(x[row, :length], chunk))[None]
        longer = torch.tensor([[length > chunk]])
        with torch.no_grad():
            found = theirs(clip, is_longer=longer, output_hidden_states=True)
        assert len(found.hidden_states) == len(states) == len(size["depths"]) + 1
        for mine, wanted in zip(states, found.hidden_states, strict=True):
            assert_close(mine[row], wanted[0].permute(1, 2, 0))
        assert_close(pooled[row], found.pooler_output[0])


@pytest.mark.parametrize("samples", [480_480, 487_000, 700_001])
def test_views_are_those_of_the_feature_extractor(
    samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    clip = 0.1 * rng.normal(size=samples) * (1.5 + np.sin(np.arange(samples) / 1e5))
    clip = clip.astype(np.float32)
    monkeypatch.setattr(np.random, "choice", lambda places: places[(len(places) - 1) // 2])
    extractor = transformers.ClapFeatureExtractor(frequency_min=50, truncation="fusion")
    found = extractor(clip, sampling_rate=48000, return_tensors="np")
    assert found["is_longer"].all()
    padded = np.zeros((2, 720_000), np.float32)
    padded[0, :samples] = clip
    padded[1, :1000] = clip[:1000]
    count = np.array([samples, 1000], np.int32)
    features = frontend(FUSED, padded, count)
    lengths = jnp.asarray([FUSED.frames(int(n)) for n in count])
    assert lengths[1] == CHUNK
    whole, chunks = fusion.views(features, lengths, CHUNK)
    mine = np.concatenate([whole[:1], chunks[0]])
    np.testing.assert_allclose(mine, found["input_features"][0], rtol=0, atol=1e-3)
    # One that is shorter is repeated as ever.
    repeated = dataclasses.replace(FUSED, excerpt="start")
    np.testing.assert_allclose(
        whole[1], frontend(repeated, padded[1:], count[1:])[0], rtol=0, atol=1e-4
    )


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    """Statistics of a small network, and what a training step makes of clips before its blocks.

    The first BatchNorm keeps its statistics, so that clips meet in those of fusion alone.
    """
    config = config_of(SIZES["small"], fusion=True, chunk_frames=100)
    graph, *state = blank(config, bins=8, frames=300)
    rng = np.random.default_rng(0)
    params, stats = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.1, 0.9, x.shape) * (1 if x.ndim < 2 else 0.3)), state
    )

    @jit
    def run(x: Any, length: Any, seed: Any) -> Any:
        def loss(params: Any) -> Any:
            model = nnx.merge(graph, params, stats, copy=True)
            model.input_norm.fixed = True
            tokens = model.tokens(x, length, True, nnx.Rngs(dropout=jax.random.key(seed)))
            return (tokens**2 * jnp.arange(8)).sum(), (tokens, nnx.state(model, nnx.BatchStat))

        return jax.value_and_grad(loss, has_aux=True)(params)

    return stats, run


LENGTHS = np.array([0, 60, 100, 101, 250])


def clips() -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(5, 300, 8)).astype(np.float32)
    return np.where(np.arange(300)[None, :, None] < LENGTHS[:, None, None], x, 0)


def test_a_step_draws_its_own_chunks_of_longer_clips_alone(trained: tuple[Any, Any]) -> None:
    _, run = trained
    first, again, other = (run(clips(), LENGTHS, seed)[0][1][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:3], other[:3])
    assert (first[4] != other[4]).mean() > 0.9


def test_statistics_of_fusion_are_longer_clips_alone(trained: tuple[Any, Any]) -> None:
    stats, run = trained

    def moved(x: np.ndarray, length: np.ndarray) -> dict[Any, np.ndarray]:
        found = weights.flat(run(x, length, 1)[0][1][1])
        return {path: np.asarray(x) for path, x in found.items() if path[0] == "fusion"}

    before = {path: x for path, x in weights.flat(stats).items() if path[0] == "fusion"}
    shorter, x = np.minimum(LENGTHS, 100), clips()
    kept = moved(x, shorter)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), kept, before)
    after = moved(x, LENGTHS)
    assert len(after) == 8
    assert not any(np.allclose(after[path], before[path]) for path in before)
    x[:3] *= 3
    jax.tree.map(np.testing.assert_array_equal, moved(x, LENGTHS), after)


@pytest.mark.parametrize("most", [250, 101, 100, 0])
def test_gradients_are_finite(most: int, trained: tuple[Any, Any]) -> None:
    lengths = np.minimum(LENGTHS, most) if most != 101 else np.array([0, 0, 0, 0, 101])
    (loss, _), gradient = trained[1](clips(), lengths, 1)
    found = weights.flat(gradient)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in found.values())
    assert (found["fusion", "project", "kernel"] != 0).any() == (most > 100)


def test_shorter_clips_are_the_same_with_and_without_longer_ones_beside_them() -> None:
    config = config_of(SIZES["small"], fusion=True, chunk_frames=100)
    graph, *state = blank(config, bins=8, frames=300)
    state = jax.tree.map(lambda x: jnp.linspace(0.1, 0.9, x.size).reshape(x.shape), state)
    run = jit(lambda v, x, length: nnx.merge(graph, *v).tokens(x, length, False))
    beside = run(state, clips(), LENGTHS)[:3]
    alone = run(state, clips()[:3, :100], LENGTHS[:3])
    np.testing.assert_allclose(alone, beside, atol=1e-5)


def test_chunks_are_anywhere_in_their_thirds() -> None:
    lengths = jnp.asarray([7, 10, 11, 12, 20, 40])
    keys = jax.random.split(jax.random.key(0), 400)
    draws = np.asarray(jit(jax.vmap(lambda key: fusion.places(lengths, 10, key)))(keys))
    fixed = np.asarray(fusion.places(lengths, 10))
    for clip, length in enumerate(lengths.tolist()):
        thirds = np.array_split(np.arange(max(length - 10, 0) + 1), 3)
        for third, places in enumerate(thirds):
            wanted = places.tolist() or [0]
            assert sorted(set(draws[:, clip, third].tolist())) == wanted
            assert fixed[clip, third] == wanted[(len(wanted) - 1) // 2]


def test_every_tensor_has_one_place_and_comes_back(tmp_path: Path) -> None:
    config = config_of(SIZES["small"], fusion=True)
    published = publish(original(SIZES["small"], fusion=True), tmp_path)
    names = [name for entry in layouts(config)[1].entries for name in entry.names]
    nothing = ("num_batches_tracked", "relative_position_index")
    there = sorted(name for name in published.tensors if not name.endswith(nothing))
    assert sorted(names) == there
    _, params, stats = blank(config, bins=8, frames=128)
    start = weights.fit(published, config, params, stats, features=8)
    kept = weights.tensors(config, start.params, start.stats, layouts(config)[1].name)
    for name, value in kept.items():
        np.testing.assert_array_equal(value, published.tensors[name])


def test_a_file_with_or_without_fusion_says_so(tmp_path: Path) -> None:
    notes = {}
    for there in (True, False):
        published = publish(original(SIZES["small"], fusion=there), tmp_path / str(there))
        config = config_of(SIZES["small"])
        start = weights.fit(published, config, *blank(config, bins=8, frames=128)[1:], features=8)
        notes[there] = start.note
    assert "without fusion (model.fusion=False)" in notes[True]
    assert "fusion" not in notes[False].split("SHA-256")[1]
    config = config_of(SIZES["small"], fusion=True)
    with pytest.raises(UserError, match=r"fusion_model\.\S+ is missing, and 2\d more \(.* fused"):
        weights.fit(
            files.read(str(tmp_path / "False")),
            config,
            *blank(config, bins=8, frames=128)[1:],
            features=8,
        )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model.chunk_frames": 1025}, "model.chunk_frames=1025: a picture of 256 has 1024"),
        ({"data.pad_seconds": 10.0}, "data.pad_seconds=10.0 and the frontend leave 1001 frames"),
        ({"frontend.excerpt": "start"}, "data.pad_seconds=30.0 and the frontend leave 1001"),
        ({"model.chunk_frames": 900}, "chunk_frames=900: clips are padded to 1001 frames"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], line: str) -> None:
    config = default_config("htsat")
    fields = {f.name: getattr(FUSED, f.name) for f in dataclasses.fields(FrontendConfig)}
    config.frontend.update(fields)
    config.update_from_flattened_dict({"model.fusion": True, "data.pad_seconds": 30.0})
    validate(config)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=line) as refused:
        validate(config)
    assert "\n" not in str(refused.value)
