"""The residual network of limited receptive field, against PyTorch and its papers."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models import build_model, cp_resnet, masking
from tests.models.test_padding import model_config
from tests.models.test_torch import BINS, Maps, alone, apply, batch, copy, network, shaken, valued

torch = pytest.importorskip("torch")

# Koutini et al. (2019) give the greatest receptive field of each rho.
PAPER = {0: 23, 1: 31, 2: 39, 3: 55, 4: 71, 5: 87, 6: 103, 7: 135, 8: 167}


@pytest.mark.parametrize("rho", PAPER)
def test_the_receptive_field_is_the_paper_s(rho: int) -> None:
    assert cp_resnet.receptive_field(model_config("cp_resnet", **default(), rho=rho)) == PAPER[rho]


def default() -> dict[str, Any]:
    return {"channels": (128, 256, 512), "blocks": (4, 4, 4), "pools": (1, 2, 4)}


def test_a_unit_sees_its_receptive_field_and_no_more() -> None:
    config = model_config(
        "cp_resnet", channels=(8, 8), blocks=(2, 2), pools=(1, 2), rho=1, squeeze=0.0
    )
    model = build_model(config, features=80, classes=3, frames=80, rngs=nnx.Rngs(0))
    length = jnp.full(64, 80)

    def middle(x: jax.Array) -> jax.Array:
        y, valid = model.stem(x[..., None], length)
        y = nnx.relu(model.stem_norm(y, valid, train=False))
        for i, block in enumerate(model.blocks, 1):
            y = block(y, valid, False)
            if i in model.pools:
                y, valid = masking.halve(y, valid)
        return y[:, y.shape[1] // 2, y.shape[2] // 2].sum()

    x = jax.random.normal(jax.random.key(0), (64, 80, 80))
    seen = np.asarray(jax.jit(jax.grad(middle))(x) != 0).any(0)
    field = cp_resnet.receptive_field(config)
    for axis in (0, 1):
        where = np.flatnonzero(seen.any(axis))
        assert where[-1] - where[0] + 1 == field == 23


def test_the_paper_s_size() -> None:
    """Its layers' parameters: rho=7 has seven 3x3 convolutions after the first block."""
    config = model_config(
        "cp_resnet", **default(), rho=7, frequency_aware=False, squeeze=0.0, pool="mean"
    )

    def build() -> Any:
        model = build_model(config, features=64, classes=10, frames=64, rngs=nnx.Rngs(0))
        return nnx.state(model, nnx.Param)

    found = sum(math.prod(p.shape) for p in jax.tree.leaves(jax.eval_shape(build)))
    norms = 2 * (128 + 8 * (128 + 256 + 512) + 256 + 512)
    first = 25 * 128 + 10 * 128**2 + 6 * 9 * 128**2
    second = 9 * 128 * 256 + 128 * 256 + 7 * 256**2
    third = 2 * 256 * 512 + 7 * 512**2
    assert found == first + second + third + norms + 512 * 10 + 10


class Aware(torch.nn.Module):  # type: ignore[name-defined, misc]
    """A convolution of `[B, D, T, M]` that sees the bins' places too, if it is asked to."""

    def __init__(self, a: int, b: int, kernel: int, aware: bool):
        super().__init__()
        self.aware = aware
        self.conv = torch.nn.Conv2d(a + aware, b, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Any) -> Any:
        if self.aware:
            bins = x.shape[3]
            places = (torch.arange(bins) + 0.5) * 2 / bins - 1
            x = torch.cat([x, places.expand(x.shape[0], 1, x.shape[2], bins)], 1)
        return self.conv(x)


class Block(torch.nn.Module):  # type: ignore[name-defined, misc]
    """As the paper's `BasicBlock`, with squeeze-and-excitation."""

    def __init__(self, a: int, b: int, sizes: tuple[int, int], aware: bool, inner: int):
        super().__init__()
        nn = torch.nn
        self.branch = nn.Sequential(
            *(Aware(a, b, sizes[0], aware), nn.BatchNorm2d(b), nn.ReLU()),
            *(Aware(b, b, sizes[1], aware), nn.BatchNorm2d(b)),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *(nn.Conv2d(b, inner, 1), nn.SiLU(), nn.Conv2d(inner, b, 1), nn.Sigmoid()),
        )
        project = [nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b)] if a != b else []
        self.skip = nn.Sequential(*project)

    def forward(self, x: Any) -> Any:
        y = self.branch(x)
        return torch.relu(y * self.gate(y) + self.skip(x))


class MeanMax(torch.nn.Module):  # type: ignore[name-defined, misc]
    def forward(self, x: Any) -> Any:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


@pytest.mark.parametrize("aware", [False, True])
def test_each_clip_gets_what_pytorch_gives_it_alone(aware: bool) -> None:
    nn = torch.nn
    pool = {"kernel_size": 2, "ceil_mode": True}
    theirs = shaken(
        nn.Sequential(
            Maps(2),
            *(nn.Conv2d(1, 8, 5, 2, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(Block(8, 8, (3, 1), aware, 4), nn.MaxPool2d(**pool)),
            *(Block(8, 8, (3, 3), aware, 4), nn.MaxPool2d(**pool)),
            *(Block(8, 12, (3, 1), aware, 6), Block(12, 12, (1, 1), aware, 6)),
            *(MeanMax(), nn.Linear(24, 5)),
        )
    )
    ours = network("cp_resnet", channels=(8, 12), blocks=(2, 2), frequency_aware=aware, squeeze=0.5)
    layers = [ours.stem, ours.stem_norm]
    for block in ours.blocks:
        layers += [x for pair in zip(block.convs, block.norms, strict=True) for x in pair]
        layers += [block.excite.squeeze, block.excite.excite]
        layers += [x for x in (block.skip, block.skip_norm) if x is not None]
    for a, b in zip([*layers, ours.head], valued(theirs), strict=True):
        copy(a, b)
    x = batch(BINS)
    found = apply(ours, x, train=False)
    np.testing.assert_allclose(found, alone(theirs, x), rtol=1e-5, atol=1e-5)
