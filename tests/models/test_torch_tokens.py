"""A transformer over a grid of tokens, and tokens of samples, as PyTorch has them clip by clip."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsound.models.waveform import WaveformStem
from tests.models.test_torch import (
    BINS,
    Maps,
    abstract,
    alone,
    apply,
    batch,
    conv_norm,
    copy,
    network,
    put,
    shaken,
    valued,
)

torch = pytest.importorskip("torch")

WIDTH, HEADS, SCALE = 32, 4, 0.3


class Encoder(torch.nn.Module):  # type: ignore[name-defined, misc]
    """A pre-norm block whose branches have scales."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.norm_1, self.norm_2 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.scale_1, self.scale_2 = (nn.Parameter(SCALE * torch.randn(WIDTH)) for _ in range(2))

    def forward(self, x: Any) -> Any:
        heads = self.qkv(self.norm_1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(*heads)
        x = x + self.scale_1 * self.out(y.transpose(1, 2).flatten(2))
        y = torch.nn.functional.gelu(self.up(self.norm_2(x)), approximate="tanh")
        return x + self.scale_2 * self.down(y)


class Grid(torch.nn.Module):  # type: ignore[name-defined, misc]
    """Strided convolutions, tokens of the grid that they leave, attention pooling."""

    def __init__(self, times: int, bins: int):
        super().__init__()
        nn = torch.nn
        self.stem = nn.Sequential(
            Maps(2), *(*conv_norm(1, 4, 3, 2), nn.ReLU(), *conv_norm(4, 8, 3, 2), nn.ReLU())
        )
        self.project = nn.Linear(8, WIDTH)
        self.neighbours = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.table = nn.Parameter(torch.randn(times, WIDTH))
        self.bin_table = nn.Parameter(torch.randn(bins, WIDTH))
        self.blocks = nn.ModuleList(Encoder() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.score, self.head = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 5)

    def forward(self, x: Any) -> Any:
        x = self.project(self.stem(x).permute(0, 2, 3, 1))
        x = x + self.neighbours(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = (x + self.table[: x.shape[1], None] + self.bin_table).flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head((torch.softmax(self.score(x), 1) * x).sum(1))


def test_a_grid_of_tokens() -> None:
    torch.manual_seed(1)
    theirs = shaken(Grid(12, 5))
    ours = network(
        "transformer",
        **{"grid": True, "positions": "learned", "position_kernel": 3, "layer_scale": 0.1},
        **{"pool": "attention", "width": WIDTH, "heads": HEADS, "stem_channels": (4, 8)},
    )
    stem = [x for pair in zip(ours.stem.convs, ours.stem.norms, strict=True) for x in pair]
    for a, b in zip(stem, valued(theirs.stem), strict=True):
        copy(a, b)
    copy(ours.stem.project, theirs.project)
    for name in ("neighbours", "norm", "score", "head"):
        copy(getattr(ours, name), getattr(theirs, name))
    put(ours, "table", theirs.table)
    put(ours, "bin_table", theirs.bin_table)
    for a, b in zip(ours.blocks, theirs.blocks, strict=True):
        for name in ("norm_1", "qkv", "out", "norm_2", "up", "down"):
            copy(getattr(a, name), getattr(b, name))
        for name in ("scale_1", "scale_2"):
            put(a, name, getattr(b, name))
    x = batch(BINS)
    np.testing.assert_allclose(apply(ours, x, train=False), alone(theirs, x), atol=2e-5)


class Thin(torch.nn.Module):  # type: ignore[name-defined, misc]
    """A triangular filter, then one in `factor` samples."""

    def __init__(self, width: int, factor: int):
        super().__init__()
        taps = np.bartlett(2 * factor + 3)[1:-1]
        taps = torch.tensor(taps / taps.sum(), dtype=torch.float32)
        self.taps, self.factor = taps.expand(width, 1, -1), factor

    def forward(self, x: Any) -> Any:
        options = {"stride": self.factor, "padding": self.factor, "groups": x.shape[1]}
        return torch.nn.functional.conv1d(x, self.taps, **options)


class Residual(torch.nn.Module):  # type: ignore[name-defined, misc]
    """EAT's `ResBlock1dTF`, with zeros around a clip."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        nn = torch.nn
        options = {"padding": 7 * dilation, "dilation": dilation, "groups": width, "bias": False}
        self.time = nn.Sequential(
            nn.Conv1d(width, width, 15, **options), nn.BatchNorm1d(width), nn.LeakyReLU(0.2)
        )
        self.channels = nn.Sequential(
            nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width), nn.LeakyReLU(0.2)
        )
        self.skip = nn.Conv1d(width, width, 1)

    def forward(self, x: Any) -> Any:
        return self.skip(x) + self.channels(x) + self.time(x)


class Tokens(torch.nn.Module):  # type: ignore[name-defined, misc]
    """`[B, T, M]`, rows of samples, to `[B, N, D]`."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.convs = nn.Sequential(
            *(nn.Conv1d(1, 4, 9, 4, 4, bias=False), nn.BatchNorm1d(4), nn.LeakyReLU(0.2)),
            *(Residual(4, 1), Residual(4, 3)),
            *(nn.Conv1d(4, 6, 3, padding=1, bias=False), nn.BatchNorm1d(6), nn.LeakyReLU(0.2)),
            *(Thin(6, 2), Residual(6, 1), Residual(6, 3)),
        )
        self.project = nn.Linear(6, WIDTH)

    def forward(self, x: Any) -> Any:
        return self.project(self.convs(x.reshape(len(x), 1, -1)).transpose(1, 2))


def test_tokens_of_samples() -> None:
    theirs = shaken(Tokens())
    ours = abstract(
        lambda: WaveformStem(
            BINS, WIDTH, (4, 6), (4, 2), 2, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
        )
    )
    layers = []
    for conv, norm, residuals in zip(
        [ours.first, *ours.convs], ours.norms, ours.residuals, strict=True
    ):
        layers += [conv, norm]
        for part in residuals:
            layers += [part.time, part.time_norm, part.channels, part.channels_norm, part.skip]
    for a, b in zip([*layers, ours.project], valued(theirs), strict=True):
        copy(a, b)
    x = batch(BINS)
    x = np.where(x == 1e3, 0, x)  # as the network gives it to its stem
    y, valid = apply(ours, x, train=False)
    assert y.shape[1] == ours.times(x.shape[1])
    for found, n, wanted in zip(y, valid, alone(theirs, x), strict=True):
        assert n == len(wanted)
        np.testing.assert_allclose(found[:n], wanted, atol=1e-5)
        assert (found[n:] == 0).all()
