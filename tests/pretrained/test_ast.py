"""AST is transformers' AST: its front end, every hidden state and its logits."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.data import audio
from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.pretrained import weights
from tests.pretrained.originals import (
    CLASSES,
    assert_close,
    jit,
    model_config,
    needs_time,
    network,
    publish,
    shaken,
    torch,
    transformers,
)

# AST's own front end; `seconds` are those of its 1024 frames.
FRONTEND = FrontendConfig(
    kind="fbank",
    sample_rate=16000,
    n_fft=512,
    win_length=400,
    hop_length=160,
    n_mels=128,
    fmin=20.0,
    seconds=10.255,
    pad="blank",
    dtype="float32",
)
MEAN, STD = -4.2677393, 2 * 4.5689974
SIZES = {
    "small": {"width": 24, "depth": 2, "heads": 2, "frames": 75, "bins": 40},
    "larger": {"width": 64, "depth": 4, "heads": 4, "frames": 128, "bins": 64},
}
BASE = {"width": 768, "depth": 12, "heads": 12, "frames": 1024, "bins": 128}
PROVED = [
    *(pytest.param(size, id=name) for name, size in SIZES.items()),
    pytest.param(BASE, id="base", marks=needs_time),
]


def original(classifier: bool = True, **size: Any) -> Any:
    config = transformers.ASTConfig(
        hidden_size=size["width"],
        num_hidden_layers=size["depth"],
        num_attention_heads=size["heads"],
        intermediate_size=4 * size["width"],
        max_length=size["frames"],
        num_mel_bins=size["bins"],
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    kind = transformers.ASTForAudioClassification if classifier else transformers.ASTModel
    return shaken(kind(config))


def config_of(size: dict[str, int], **changes: Any) -> Any:
    return model_config("ast", **{k: size[k] for k in ("width", "depth", "heads")} | changes)


def ours(state: Any, config: Any, x: np.ndarray, length: Any) -> tuple[list[Any], Any, Any]:
    """What each block is given, what the last gives and the logits; and the valid tokens."""
    graph, values = state

    @jit
    def run(values: Any, x: Any, length: Any) -> Any:
        model = nnx.merge(graph, *values)
        tokens, valid = model.tokens(x, length)
        states = [tokens]
        for block in model.blocks:
            states.append(block(states[-1], valid, False, None))
        return states, model(x, length, train=False), valid

    return run(values, jnp.asarray(x), jnp.asarray(length))


def in_order(states: Any, rows: int) -> Any:
    """Their `[B, 2 + rows * times, D]`, frequency by frequency, in our order."""
    first, rest = states[:, :2], states[:, 2:]
    rest = rest.reshape(len(rest), rows, -1, rest.shape[-1]).transpose(1, 2)
    return torch.cat([first, rest.flatten(1, 2)], 1)


@pytest.mark.parametrize("size", PROVED)
def test_states_and_logits_with_and_without_padding(size: dict[str, int], tmp_path: Path) -> None:
    theirs, config = original(**size), config_of(size)
    state = network(publish(theirs, tmp_path), config, bins=size["bins"], frames=size["frames"])
    frames, rows = size["frames"], (size["bins"] - 16) // 10 + 1
    x = np.random.default_rng(0).normal(size=(3, frames, size["bins"])).astype(np.float32)
    length = np.array([frames, frames * 5 // 8, 20])
    states, logits, valid = ours(state, config, x, length)
    times = (frames - 16) // 10 + 1
    own = torch.arange(times) < torch.from_numpy((length - 16) // 10 + 1)[:, None]
    mask = torch.cat([torch.ones(3, 2, dtype=bool), own.repeat(1, rows)], 1)
    for row in range(3):
        x[row, length[row] :] = 0
    with torch.no_grad():
        whole = theirs(torch.from_numpy(x[:1]), output_hidden_states=True)
        masked = theirs(torch.from_numpy(x), attention_mask=mask, output_hidden_states=True)
    assert len(states) == len(masked.hidden_states) == size["depth"] + 1
    for mine, plain, padded in zip(states, whole.hidden_states, masked.hidden_states, strict=True):
        assert_close(mine[:1], in_order(plain, rows))
        for row, count in enumerate(np.asarray(valid)):
            assert count == 2 + rows * ((length[row] - 16) // 10 + 1)
            assert_close(mine[row, :count], in_order(padded, rows)[row, :count])
    assert_close(logits[:1], whole.logits)
    assert_close(logits, masked.logits)


def test_a_model_without_a_classifier_and_one_of_other_classes(tmp_path: Path) -> None:
    size = SIZES["small"]
    config = config_of(size)
    published = publish(original(classifier=False, **size), tmp_path)
    _, (params, _) = network(published, config, bins=40, frames=75)
    assert (weights.flat(params)["head", "kernel"] == 7).all()
    assert (weights.flat(params)["head_norm", "scale"] == 7).all()
    assert not (weights.flat(params)["norm", "scale"] == 7).any()
    published = publish(original(**size), tmp_path)
    _, (params, _) = network(published, config, bins=40, frames=75, classes=2)
    assert (weights.flat(params)["head", "kernel"] == 7).all()
    assert not (weights.flat(params)["head_norm", "scale"] == 7).any()


@pytest.mark.parametrize(("frames", "bins"), [(128, 40), (45, 40), (75, 60), (200, 30)])
def test_positions_of_another_size_are_cut_or_interpolated(
    frames: int, bins: int, tmp_path: Path
) -> None:
    size = SIZES["small"]
    theirs = original(**size)
    published = publish(theirs, tmp_path)
    _, (params, _) = network(published, config_of(size), bins=bins, frames=frames)
    table = theirs.audio_spectrogram_transformer.embeddings.position_embeddings.detach()[0]
    grid = table[2:].T.reshape(1, -1, 3, 6)  # frequency and time
    rows, times = (bins - 16) // 10 + 1, (frames - 16) // 10 + 1

    def stretched(grid: Any, size: Any) -> Any:
        return torch.nn.functional.interpolate(grid, size, mode="bilinear", align_corners=False)

    # As the authors' own code: `50 - int(t_dim / 2)` where the table has 101.
    first = 6 // 2 - times // 2
    grid = grid[..., first : first + times] if times <= 6 else stretched(grid, (3, times))
    first = 3 // 2 - rows // 2
    grid = grid[:, :, first : first + rows] if rows <= 3 else stretched(grid, (rows, times))
    mine = np.asarray(weights.flat(params)["table",])
    np.testing.assert_allclose(mine[2:], grid[0].flatten(1).T, rtol=0, atol=1e-6)
    assert (mine[:2] == table[:2].numpy()).all()


# Theirs have filters narrower than a bin, as ours have.
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values:UserWarning")
def test_the_front_end_on_real_recordings(recordings: Path) -> None:
    extractor = transformers.ASTFeatureExtractor()
    chosen = sorted((recordings / "ESC-50-master" / "audio").glob("*.wav"))[::40]
    assert chosen
    for path in chosen:
        samples, rate = audio.read(path)
        clip = audio.resample(samples.astype(np.float32) / 32768, rate, 16000)
        theirs = extractor(clip, sampling_rate=16000, return_tensors="np")["input_values"][0]
        mine = frontend(FRONTEND, clip[None], np.array([len(clip)], np.int32))[0]
        np.testing.assert_allclose((mine - MEAN) / STD, theirs, rtol=0, atol=1e-3)
