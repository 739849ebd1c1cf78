"""ResNet and EfficientNet are the originals: each stage and the logits of every clip alone."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.errors import UserError
from jaxsound.models import efficientnet, masking, resnet
from jaxsound.pretrained import files, weights
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

BINS = 64
LENGTHS = (130, 64, 96)


def clips() -> np.ndarray:
    """Noise, and large numbers past each clip's length."""
    x = np.random.default_rng(0).normal(size=(len(LENGTHS), max(LENGTHS), BINS))
    x[np.arange(max(LENGTHS))[None] >= np.asarray(LENGTHS)[:, None]] = 1e3
    return x.astype(np.float32)


def alone(theirs: Any, x: np.ndarray) -> list[Any]:
    """Hidden states and logits of each clip as three equal colours, frequency upwards."""
    with torch.no_grad():
        return [
            theirs(
                torch.from_numpy(clip[:n].T.copy()).expand(1, 3, -1, -1),
                output_hidden_states=True,
            )
            for clip, n in zip(x, LENGTHS, strict=True)
        ]


def check(state: Any, stages: Callable[..., Any], theirs: Any) -> None:
    """Every stage and the logits of every clip are those that the original gives it alone."""
    graph, values = state
    x = clips()

    @jit
    def run(values: Any, x: Any) -> Any:
        model = nnx.merge(graph, *values)
        length = jnp.asarray(LENGTHS)
        return list(stages(model, x, length)), model(x, length, train=False)

    states, logits = run(values, jnp.asarray(x))
    for row, found in enumerate(alone(theirs, x)):
        assert len(states) == len(found.hidden_states)
        for (maps, length), wanted in zip(states, found.hidden_states, strict=True):
            assert length[row] == wanted.shape[3]
            assert_close(maps[row, : length[row]], wanted[0].permute(2, 1, 0))
            assert (maps[row, length[row] :] == 0).all()
        assert_close(logits[row], found.logits[0])


def resnet_stages(model: Any, x: Any, length: Any) -> Any:
    """The stem's map and each stage's, with their lengths."""
    x, length = model.stem(masking.zero_padding(x, length)[..., None], length)
    x = nnx.relu(model.stem_norm(x, length, train=False))
    x, length = masking.overlapping_max_pool(x, length)
    blocks = iter(model.blocks)
    for count in (0, *resnet.STAGES[18 if len(model.blocks[0].convs) == 2 else 50]):
        for block in itertools.islice(blocks, count):
            x, length = block(x, length, False)
        yield x, length


def resnet_original(depths: tuple[int, ...], deep: bool) -> Any:
    widths = [64 * 2**stage * (4 if deep else 1) for stage in range(len(depths))]
    config = transformers.ResNetConfig(
        depths=list(depths),
        hidden_sizes=widths,
        layer_type="bottleneck" if deep else "basic",
        num_labels=CLASSES,
    )
    return shaken(transformers.ResNetForImageClassification(config))


@pytest.mark.parametrize(("depth", "stages"), [(18, (2, 1)), (50, (1, 2))])
def test_resnet(
    depth: int, stages: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resnet, "STAGES", {depth: stages})
    theirs = resnet_original(stages, depth == 50)
    published = publish(theirs, tmp_path)
    config = model_config("resnet", depth=depth)
    state = network(published, config, bins=BINS, frames=max(LENGTHS))
    check(state, resnet_stages, theirs)


@needs_time
@pytest.mark.parametrize("depth", [18, 34, 50, 152])
def test_whole_resnet(depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = resnet.STAGES[depth]
    monkeypatch.setattr(resnet, "STAGES", {n: stages for n in (18, 50, depth)})
    theirs = resnet_original(stages, depth >= 50)
    state = network(
        publish(theirs, tmp_path),
        model_config("resnet", depth=depth),
        bins=BINS,
        frames=max(LENGTHS),
    )
    check(state, resnet_stages, theirs)


def efficientnet_stages(model: Any, x: Any, length: Any) -> Any:
    """The stem's map and each block's, with their lengths."""
    x = masking.zero_padding(x, length)[..., None]
    x, length = model.stem(x, length, False)
    yield x, length
    for block in model.blocks:
        x, length = block(x, length, False, None)
        yield x, length


def efficientnet_original(stages: tuple[tuple[int, ...], ...]) -> Any:
    expansions, kernels, strides, widths, repeats = map(list, zip(*stages, strict=True))
    config = transformers.EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        in_channels=[32, *widths[:-1]],
        out_channels=widths,
        kernel_sizes=kernels,
        strides=strides,
        num_block_repeats=repeats,
        expand_ratios=expansions,
        num_labels=CLASSES,
    )
    return shaken(transformers.EfficientNetForImageClassification(config))


SMALL = ((1, 3, 1, 16, 1), (6, 5, 2, 320, 2))
SIZES = [SMALL, pytest.param(efficientnet.STAGES, marks=needs_time)]


@pytest.mark.parametrize("stages", SIZES, ids=["small", "b0"])
def test_efficientnet(stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "STAGES", stages)
    theirs = efficientnet_original(stages)
    published = publish(theirs, tmp_path)
    config = model_config("efficientnet", padding="end", norm_epsilon=1e-3)
    state = network(published, config, bins=BINS, frames=max(LENGTHS))
    check(state, efficientnet_stages, theirs)
    config = model_config("efficientnet")
    with pytest.raises(UserError, match=r"config\.model\.padding='centred': .* has 'end'"):
        network(published, config, bins=BINS, frames=max(LENGTHS))


def conv_norm(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
    conv = torch.nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, torch.nn.BatchNorm2d(b)]


class Torchvision(torch.nn.Module):  # type: ignore[name-defined, misc]
    """torchvision's EfficientNet by its modules' names."""

    def __init__(self, stages: tuple[tuple[int, ...], ...]):
        super().__init__()
        nn, width = torch.nn, 32
        self.features = nn.Sequential(nn.Sequential(*conv_norm(3, width, 3, 2), nn.SiLU()))
        for expansion, kernel, stride, out, count in stages:
            stage = []
            for i in range(count):
                stage.append(Inverted(width, out, expansion, kernel, 1 if i else stride))
                width = out
            self.features.append(nn.Sequential(*stage))
        self.features.append(nn.Sequential(*conv_norm(width, 4 * width, 1), nn.SiLU()))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * width, CLASSES))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Inverted(torch.nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self, a: int, b: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        nn, width = torch.nn, a * expansion
        layers = [nn.Sequential(*conv_norm(a, width, 1), nn.SiLU())] if expansion > 1 else []
        layers.append(nn.Sequential(*conv_norm(width, width, kernel, stride, width), nn.SiLU()))
        layers.append(Excite(width, a // 4))
        self.block = nn.Sequential(*layers, nn.Sequential(*conv_norm(width, b, 1)))
        self.residual = stride == 1 and a == b

    def forward(self, x: Any) -> Any:
        return x + self.block(x) if self.residual else self.block(x)


class Excite(torch.nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self, width: int, squeezed: int):
        super().__init__()
        self.fc1 = torch.nn.Conv2d(width, squeezed, 1)
        self.fc2 = torch.nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Any) -> Any:
        y = torch.nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(y))


def test_torchvisions_and_timms_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = SMALL
    # torchvision numbers the last convolution after its seven stages.
    stages = (*SMALL[:1], *((1, 3, 1, 16, 1),) * 5, *SMALL[1:])
    monkeypatch.setattr(efficientnet, "STAGES", stages)
    theirs = shaken(Torchvision(stages))
    tensors = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    config = model_config("efficientnet")
    x = clips()
    with torch.no_grad():
        wanted = [
            theirs(torch.from_numpy(clip[:n].T.copy()).expand(1, 3, -1, -1))[0]
            for clip, n in zip(x, LENGTHS, strict=True)
        ]
    for name, named in (("torchvision", tensors), ("timm", as_timm(tensors, stages))):
        files.write(tmp_path / f"{name}.safetensors", named)
        published = files.read(str(tmp_path / f"{name}.safetensors"))
        graph, values = network(published, config, bins=BINS, frames=max(LENGTHS))
        run = jit(
            lambda v, x, graph=graph: nnx.merge(graph, *v)(x, jnp.asarray(LENGTHS), train=False)
        )
        for mine, one in zip(run(values, jnp.asarray(x)), wanted, strict=True):
            assert_close(mine, one)


def as_timm(tensors: dict[str, np.ndarray], stages: Any) -> dict[str, np.ndarray]:
    """torchvision's names to timm's, written out for blocks without and with an expansion."""
    plain = {"0.0": "conv_dw", "0.1": "bn1", "1.fc1": "se.conv_reduce", "1.fc2": "se.conv_expand"}
    plain |= {"2.0": "conv_pw", "2.1": "bn2"}
    wide = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2"}
    wide |= {"2.fc1": "se.conv_reduce", "2.fc2": "se.conv_expand", "3.0": "conv_pwl", "3.1": "bn3"}
    ends = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.8.0": "conv_head"}
    ends |= {"features.8.1": "bn2", "classifier.1": "classifier"}
    out = {}
    for name, tensor in tensors.items():
        start, _, last = name.rpartition(".")
        if ".block." in name:
            where, _, part = start.partition(".block.")
            stage, i = map(int, where.split(".")[1:])
            parts = wide if stages[stage - 1][0] > 1 else plain
            out[f"blocks.{stage - 1}.{i}.{parts[part]}.{last}"] = tensor
        else:
            out[f"{ends[start]}.{last}"] = tensor
    return out


def test_torchvisions_resnet_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "STAGES", {50: (1, 2)})
    theirs = resnet_original((1, 2), deep=True)
    renamed = {}
    for name, tensor in theirs.state_dict().items():
        new = name.replace("resnet.embedder.embedder.convolution", "conv1")
        new = new.replace("resnet.embedder.embedder.normalization", "bn1")
        new = new.replace("classifier.1", "fc")
        if new.startswith("resnet.encoder"):
            _, _, _, stage, _, i, part, *rest = new.split(".")
            new = f"layer{int(stage) + 1}.{i}."
            if part == "shortcut":
                new += "downsample." + {"convolution": "0", "normalization": "1"}[rest[0]]
            else:
                kind = {"convolution": "conv", "normalization": "bn"}[rest[1]]
                new += f"{kind}{int(rest[0]) + 1}"
            new += f".{rest[-1]}"
        renamed[new] = tensor.detach().numpy()
    assert {"layer2.0.downsample.1.running_var", "layer1.0.conv3.weight"} <= renamed.keys()
    files.write(tmp_path / "x.safetensors", renamed)
    published = files.read(str(tmp_path / "x.safetensors"))
    config = model_config("resnet", depth=50)
    check(network(published, config, bins=BINS, frames=130), resnet_stages, theirs)


@pytest.mark.parametrize(("stem", "share"), [("sum", 1.0), ("mean", 1 / 3)])
def test_three_colours_become_one(
    stem: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resnet, "STAGES", {18: (1,)})
    theirs = resnet_original((1,), deep=False)
    published = publish(theirs, tmp_path)
    _, params, stats = blank(model_config("resnet"), bins=BINS, frames=130)
    config = model_config("resnet")
    start = weights.fit(published, config, params, stats, features=BINS, stem=stem)
    kernel = weights.flat(start.params)["stem", "conv", "kernel"]
    colours = theirs.resnet.embedder.embedder.convolution.weight.detach()
    assert_close(kernel[:, :, 0], colours.sum(1).permute(2, 1, 0) * share)
