"""Each clip of a padded batch gets what PyTorch gives it alone, at its own length."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models import build_model, efficientnet, masking, resnet
from tests.models.test_padding import jit, model_config

torch = pytest.importorskip("torch")

LENGTHS = (45, 39, 26)  # convolutions and pools leave something over
BINS = 18


def put(module: nnx.Module, name: str, tensor: Any) -> None:
    """Sets a parameter or a statistic to a tensor of its shape."""
    old, new = getattr(module, name), jnp.asarray(tensor.detach().numpy())
    assert old.shape == new.shape
    setattr(module, name, type(old)(new))


def copy(ours: Any, theirs: Any) -> None:
    """Gives one of our layers the values of one of torch's."""
    if isinstance(ours, masking.Conv):
        put(ours.conv, "kernel", theirs.weight.permute(*range(2, theirs.weight.ndim), 1, 0))
        if theirs.bias is not None:
            put(ours.conv, "bias", theirs.bias)
    elif isinstance(ours, nnx.Linear):
        put(ours, "kernel", theirs.weight.reshape(theirs.weight.shape[:2]).T)
        put(ours, "bias", theirs.bias)
    elif isinstance(ours, nnx.LayerNorm):
        put(ours, "scale", theirs.weight)
        put(ours, "bias", theirs.bias)
    else:
        assert isinstance(ours, masking.BatchNorm)
        pairs = zip(
            ("scale", "bias", "mean", "var"),
            (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var),
            strict=True,
        )
        for name, tensor in pairs:
            put(ours, name, tensor)


def shaken(module: Any) -> Any:
    """A torch module for inference whose norms do something, with its layers that have values."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_()
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 1.5)
    return module.eval()


def abstract(build: Callable[[], Any]) -> Any:
    """A network whose values are yet to be put."""
    return nnx.eval_shape(build)


def network(name: str, **changes: Any) -> Any:
    config = model_config(name, **changes)
    return abstract(
        lambda: build_model(config, features=BINS, classes=5, frames=max(LENGTHS), rngs=nnx.Rngs(0))
    )


def apply(model: Any, x: np.ndarray, **kwargs: Any) -> Any:
    graph, state = nnx.split(model)
    length = jnp.asarray(LENGTHS)
    run = jit(lambda state, x: nnx.merge(graph, state)(x, length, **kwargs))
    return run(state, jnp.asarray(x))


def batch(*shape: int) -> np.ndarray:
    """Noise, and large numbers past each clip's length."""
    x = np.random.default_rng(0).normal(size=(len(LENGTHS), max(LENGTHS), *shape))
    x[np.arange(max(LENGTHS))[None] >= np.asarray(LENGTHS)[:, None]] = 0 if len(shape) > 1 else 1e3
    return x.astype(np.float32)


def alone(theirs: Any, x: np.ndarray) -> list[np.ndarray]:
    """torch's output for each clip `[T, ...]`, given by itself as `[1, T, ...]`."""
    with torch.no_grad():
        return [
            theirs(torch.from_numpy(clip[:n])[None]).numpy()[0]
            for clip, n in zip(x, LENGTHS, strict=True)
        ]


class Means(torch.nn.Module):  # type: ignore[name-defined, misc]
    """Mean of `[B, D, ...]` over all but channels."""

    def forward(self, x: Any) -> Any:
        return x.flatten(2).mean(-1)


class Maps(torch.nn.Module):  # type: ignore[name-defined, misc]
    """`[B, T, M]` to what torch's layers take: `[B, 1, T, M]` or, for 1-D, `[B, M, T]`."""

    def __init__(self, dims: int):
        super().__init__()
        self.dims = dims

    def forward(self, x: Any) -> Any:
        return x[:, None] if self.dims == 2 else x.transpose(1, 2)


def valued(module: Any) -> list[Any]:
    """torch's layers that have values, in order."""
    return [part for part in module.modules() if not list(part.children()) and part.state_dict()]


def test_stack_2d() -> None:
    layers = (
        *("conv 4 9 stride=2 pad=1", "batch_norm", "tanh", "max_pool 2"),
        *("conv 6 2x4", "relu", "conv 6 3", "max_pool 2x3", "mean", "linear 7", "tanh"),
    )
    nn = torch.nn
    theirs = shaken(
        nn.Sequential(
            Maps(2),
            *(nn.Conv2d(1, 4, 9, 2, 1), nn.BatchNorm2d(4), nn.Tanh(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, (2, 4), 1, (1, 2)), nn.ReLU()),
            *(nn.Conv2d(6, 6, 3, 1, 1), nn.MaxPool2d((2, 3))),
            *(Means(), nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5)),
        )
    )
    check_stack(network("stack", layers=layers), theirs)


def test_stack_1d() -> None:
    layers = ("conv 8 3 stride=2 pad=0", "max_pool 3", "tanh", "conv 4 3", "batch_norm", "mean")
    nn = torch.nn
    theirs = shaken(
        nn.Sequential(
            Maps(1),
            *(nn.Conv1d(BINS, 8, 3, 2), nn.MaxPool1d(3), nn.Tanh()),
            *(nn.Conv1d(8, 4, 3, 1, 1), nn.BatchNorm1d(4), Means(), nn.Linear(4, 5)),
        )
    )
    check_stack(network("stack", layers=layers, dims=1), theirs)


def check_stack(ours: Any, theirs: Any) -> None:
    modules = [m for segment in ours.segments for m in segment.layers if m is not None]
    for a, b in zip([*modules, ours.head], valued(theirs), strict=True):
        copy(a, b)
    x = batch(BINS)
    np.testing.assert_allclose(apply(ours, x, train=False), alone(theirs, x), atol=1e-5)


def conv_norm(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
    conv = torch.nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, torch.nn.BatchNorm2d(b)]


class Residual(torch.nn.Module):  # type: ignore[name-defined, misc]
    """Basic block or bottleneck as He et al. draw them."""

    def __init__(self, a: int, b: int, stride: int, bottleneck: bool):
        super().__init__()
        relu = torch.nn.ReLU()
        out = 4 * b if bottleneck else b
        if bottleneck:
            layers = [
                *(*conv_norm(a, b, 1), relu, *conv_norm(b, b, 3, stride), relu),
                *conv_norm(b, out, 1),
            ]
        else:
            layers = [*conv_norm(a, b, 3, stride), relu, *conv_norm(b, b, 3)]
        self.branch = torch.nn.Sequential(*layers)
        project = conv_norm(a, out, 1, stride) if stride > 1 or a != out else []
        self.skip = torch.nn.Sequential(*project)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.branch(x) + self.skip(x))


@pytest.mark.parametrize(("depth", "width"), [(18, 64), (18, 32), (50, 64)])
def test_resnet(depth: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "STAGES", {depth: (1, 2)})
    bottleneck, nn = depth == 50, torch.nn
    widths = [width * n for n in ((1, 4, 8, 8) if bottleneck else (1, 1, 2, 2))]
    theirs = shaken(
        nn.Sequential(
            Maps(2),
            *(*conv_norm(1, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
            Residual(widths[0], width, 1, bottleneck),
            Residual(widths[1], width * 2, 2, bottleneck),
            Residual(widths[2], width * 2, 1, bottleneck),
            *(Means(), nn.Linear(widths[3], 5)),
        )
    )
    ours = network("resnet", depth=depth, width=width)
    layers = [ours.stem, ours.stem_norm]
    for block in ours.blocks:
        layers += [x for pair in zip(block.convs, block.norms, strict=True) for x in pair]
        layers += [x for x in (block.skip, block.skip_norm) if x is not None]
    for a, b in zip([*layers, ours.head], valued(theirs), strict=True):
        copy(a, b)
    x = batch(BINS)
    found = apply(ours, x, train=False)
    np.testing.assert_allclose(found, alone(theirs, x), rtol=1e-5, atol=1e-5)


class InvertedResidual(torch.nn.Module):  # type: ignore[name-defined, misc]
    """MBConv as Tan and Le describe it, on `[B, T, M, D]`."""

    def __init__(self, a: int, b: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        nn, width = torch.nn, a * expansion
        expand = [*conv_norm(a, width, 1), nn.SiLU()] if expansion > 1 else []
        depthwise = [*conv_norm(width, width, kernel, stride, groups=width), nn.SiLU()]
        self.inner = nn.Sequential(*expand, *depthwise)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *(nn.Conv2d(width, a // 4, 1), nn.SiLU(), nn.Conv2d(a // 4, width, 1), nn.Sigmoid()),
        )
        self.project = nn.Sequential(*conv_norm(width, b, 1))
        self.residual = stride == 1 and a == b

    def forward(self, x: Any) -> Any:
        x = x.permute(0, 3, 1, 2)
        y = self.inner(x)
        y = self.project(y * self.gate(y))
        return (x + y if self.residual else y).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expansion", "kernel", "stride"), [(8, 12, 6, 5, 2), (8, 8, 1, 3, 1)]
)
def test_mbconv(inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
    sizes = (inputs, outputs, expansion, kernel, stride)
    theirs = shaken(InvertedResidual(*sizes))
    ours = abstract(
        lambda: efficientnet.MBConv(
            *sizes, 0.0, config=model_config("efficientnet"), rngs=nnx.Rngs(0)
        )
    )
    layers = [ours.expand.conv, ours.expand.norm] if expansion > 1 else []
    layers += [ours.depthwise.conv, ours.depthwise.norm, ours.excite.squeeze, ours.excite.excite]
    layers += [ours.project.conv, ours.project.norm]
    for a, b in zip(layers, valued(theirs), strict=True):
        copy(a, b)
    x = batch(BINS, inputs)
    y, valid = apply(ours, x, train=False, rngs=None)
    for found, n, wanted in zip(y, valid, alone(theirs, x), strict=True):
        assert n == len(wanted)
        np.testing.assert_allclose(found[:n], wanted, atol=1e-5)
        assert (found[n:] == 0).all()


def test_post_norm_encoder() -> None:
    width, heads, hidden = 32, 4, 64
    layer = torch.nn.TransformerEncoderLayer(
        width, heads, hidden, activation="relu", batch_first=True, layer_norm_eps=1e-6
    )
    theirs = shaken(torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    for i, part in enumerate(theirs.layers):  # copies of one layer until now
        for p in part.parameters():
            torch.manual_seed(i)
            p.data += 0.1 * torch.randn_like(p)
    ours = network(
        "transformer",
        **{"norm": "post", "activation": "relu", "mlp_ratio": hidden / width, "heads": heads},
    )
    for block, part in zip(ours.blocks, theirs.layers, strict=True):
        put(block.qkv, "kernel", part.self_attn.in_proj_weight.T)
        put(block.qkv, "bias", part.self_attn.in_proj_bias)
        copy(block.out, part.self_attn.out_proj)
        copy(block.norm_1, part.norm1)
        copy(block.up, part.linear1)
        copy(block.down, part.linear2)
        copy(block.norm_2, part.norm2)

    x, length = batch(width), np.asarray(LENGTHS)
    graph, state = nnx.split(ours.blocks)

    @jit
    def encode(state: Any, x: jax.Array) -> jax.Array:
        for block in nnx.merge(graph, state):
            x = block(x, jnp.asarray(length), False, None)
        return x

    past = np.arange(x.shape[1])[None] >= length[:, None]
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x), src_key_padding_mask=torch.from_numpy(past)).numpy()
    found = np.asarray(encode(state, x))
    np.testing.assert_allclose(found[~past], wanted[~past], atol=1e-5)
