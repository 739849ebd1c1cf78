"""HTS-AT is the audio tower of transformers' CLAP: its front end, every stage, its embedding."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.data import audio
from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.models import htsat
from jaxsound.pretrained import files, weights
from tests.pretrained.originals import (
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

SIZES = {
    "small": {"bins": 8, "width": 8, "depths": (2, 1), "heads": (2, 4), "window": 4},
    "larger": {"bins": 16, "width": 16, "depths": (2, 3, 1), "heads": (2, 4, 8), "window": 4},
}
PUBLISHED = {"bins": 64, "width": 96, "depths": (2, 2, 6, 2), "heads": (4, 8, 16, 32), "window": 8}
PROVED = [
    *(pytest.param(size, id=name) for name, size in SIZES.items()),
    pytest.param(PUBLISHED, id="published", marks=needs_time),
]


def original(size: dict[str, Any], fusion: bool = False) -> Any:
    config = transformers.ClapAudioConfig(
        window_size=size["window"],
        num_mel_bins=size["bins"],
        spec_size=4 * size["bins"],
        patch_embeds_hidden_size=size["width"],
        depths=list(size["depths"]),
        num_attention_heads=list(size["heads"]),
        enable_fusion=fusion,
        fusion_type="aff_2d" if fusion else None,
    )
    return shaken(transformers.ClapAudioModel(config))


def config_of(size: dict[str, Any], **changes: Any) -> Any:
    taken = {name: size[name] for name in ("width", "depths", "heads", "window")}
    return model_config("htsat", picture=4 * size["bins"], **taken, **changes)


@pytest.mark.parametrize("fusion", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("size", PROVED)
def test_stages_and_embedding_of_every_clip(
    size: dict[str, Any], fusion: bool, tmp_path: Path
) -> None:
    theirs = original(size, fusion)
    frames, bins = 16 * size["bins"], size["bins"]
    graph, values = network(publish(theirs, tmp_path), config_of(size), bins=bins, frames=frames)
    lengths = (frames, frames - 27, frames // 2)

    @jit
    def run(values: Any, x: Any) -> Any:
        model = nnx.merge(graph, *values)
        length = jnp.asarray(lengths)
        x = model.tokens(x, length, False)
        states = [x]
        for i, block in enumerate(model.blocks, 1):
            x = block(x, False, None)
            if i in np.cumsum(size["depths"]):
                states.append(x)
        return states, model.norm(x).mean((1, 2))

    x = np.random.default_rng(0).normal(-40, 20, size=(3, frames, bins)).astype(np.float32)
    x[np.arange(frames)[None] >= np.asarray(lengths)[:, None]] = 1e3
    states, pooled = run(values, jnp.asarray(x))
    for row, length in enumerate(lengths):
        clip = torch.from_numpy(x[row, :length]).expand(1, 4 if fusion else 1, -1, -1)
        with torch.no_grad():
            found = theirs(clip, is_longer=torch.tensor([[False]]), output_hidden_states=True)
        assert len(found.hidden_states) == len(states) == len(size["depths"]) + 1
        for mine, wanted in zip(states, found.hidden_states, strict=True):
            assert_close(mine[row], wanted[0].permute(1, 2, 0))
        assert_close(pooled[row], found.pooler_output[0])


def test_the_logits_are_a_linear_layer_of_it(tmp_path: Path) -> None:
    size = SIZES["small"]
    config = config_of(size)
    graph, (params, stats) = network(publish(original(size), tmp_path), config, bins=8, frames=128)
    x = np.random.default_rng(0).normal(size=(2, 128, 8)).astype(np.float32)
    length = jnp.asarray([128, 40])
    run = jit(lambda v, x, train: nnx.merge(graph, *v)(x, length, train=train), static_argnums=2)
    logits = np.asarray(run((params, stats), jnp.asarray(x), False))
    assert np.isfinite(logits).all()
    assert (logits == logits[:, :1]).all()  # a classifier of nothing but sevens
    assert logits[0, 0] != logits[1, 0]


def test_stretching_is_pytorchs_bicubic() -> None:
    x = np.random.default_rng(0).normal(size=(2, 37, 3)).astype(np.float32)
    mine = htsat.stretched(jnp.asarray(x), jnp.asarray([37, 0]), 64)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x[:1])[:, None], (64, 3), mode="bicubic", align_corners=True
    )
    np.testing.assert_allclose(mine[0], wanted[0, 0], atol=1e-5)
    assert (mine[1] == 0).all()


def test_there_and_back_are_the_same_bits(tmp_path: Path) -> None:
    config = config_of(SIZES["small"])
    _, params, stats = blank(config, bins=8, frames=128)
    published = publish(original(SIZES["small"]), tmp_path)
    start = weights.fit(published, config, params, stats, features=8)
    values = weights.flat(start.params)
    assert {path[0] for path, value in values.items() if (value == 7).all()} == {"head"}
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), start.params)
    kept = weights.tensors(config, tree, start.stats, "transformers' CLAP, its audio tower")
    files.write(tmp_path / "x.safetensors", kept)
    again = weights.fit(
        files.read(str(tmp_path / "x.safetensors")), config, tree, stats, features=8
    )
    jax.tree.map(np.testing.assert_array_equal, again.params, tree)
    jax.tree.map(np.testing.assert_array_equal, again.stats, start.stats)


# CLAP's own front end without fusion, for clips of up to ten seconds.
FRONTEND = FrontendConfig(
    sample_rate=48000,
    seconds=10.0,
    pad="repeatpad",
    ends="reflect",
    n_fft=1024,
    hop_length=480,
    n_mels=64,
    fmin=50.0,
    fmax=14000.0,
    top_db=0.0,
    dtype="float32",
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"truncation": "rand_trunc"}),
        ({"pad": "repeat"}, {"truncation": "rand_trunc", "padding": "repeat"}),
        ({"pad": "zero"}, {"truncation": "rand_trunc", "padding": "pad"}),
        # What the fused network hears of a clip that fusion leaves alone.
        ({"htk": True, "norm": ""}, {"truncation": "fusion"}),
    ],
    ids=["unfused", "repeat", "zeros", "fused"],
)
def test_the_front_end_on_real_recordings(
    ours: dict[str, Any], theirs: dict[str, Any], recordings: Path
) -> None:
    extractor = transformers.ClapFeatureExtractor(frequency_min=50, **theirs)
    config = dataclasses.replace(FRONTEND, **ours)
    chosen = sorted((recordings / "ESC-50-master" / "audio").glob("*.wav"))[::80]
    assert chosen
    for number, path in enumerate(chosen):
        samples, rate = audio.read(path)
        clip = audio.resample(samples.astype(np.float32) / 32768, rate, 48000)
        clip = clip[: len(clip) >> (number % 3)]  # 5 s, 2.5 s and 1.25 s: repeated 2 to 8 times
        clip = clip[: len(clip) - 1237 * (number % 2)]  # and not always without a rest
        wanted = extractor(clip, sampling_rate=48000, return_tensors="np")["input_features"][0]
        mine = frontend(config, clip[None], np.array([len(clip)], np.int32))[0]
        for view in wanted:
            np.testing.assert_allclose(mine, view, rtol=0, atol=1e-3)


def test_ten_seconds_are_heard_as_they_are() -> None:
    clip = 0.1 * np.random.default_rng(0).normal(size=480000).astype(np.float32)
    extractor = transformers.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    wanted = extractor(clip, sampling_rate=48000, return_tensors="np")["input_features"][0, 0]
    mine = frontend(FRONTEND, clip[None], np.array([480000], np.int32))[0]
    np.testing.assert_allclose(mine, wanted, rtol=0, atol=1e-3)
