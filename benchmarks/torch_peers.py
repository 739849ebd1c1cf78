"""The networks of jaxsound.models in PyTorch, as one writes them there: the peers' side.

The same layers, widths and numbers of parameters. The benchmarks' clips all have one length, so
these know no masks, which jaxsound's have and pay for.
"""

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class CNN(nn.Module):
    """Stem, residual stages with 2x2 pooling between them, mean and maximum over time."""

    def __init__(
        self,
        *,
        features: int,
        classes: int,
        channels: tuple[int, ...],
        convs: int,
        stem_kernel: int,
        stem_stride: int,
        dropout: float,
    ):
        super().__init__()
        first, last = channels[0], channels[-1]
        self.stem = nn.Conv2d(
            1, first, stem_kernel, stem_stride, padding=(stem_kernel - 1) // 2, bias=False
        )
        self.stem_norm = nn.BatchNorm2d(first)
        self.stages = nn.ModuleList(
            Stage(a, b, convs) for a, b in zip((first, *channels[:-1]), channels, strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        bins = -(-features // (stem_stride * 2 ** (len(channels) - 1)))
        self.head = nn.Linear(2 * last * bins, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, M]` -> logits `[B, C]`."""
        x = functional.relu(self.stem_norm(self.stem(x[:, None])))
        for i, stage in enumerate(self.stages):
            x = stage(functional.max_pool2d(x, 2, ceil_mode=True) if i else x)
        pooled = torch.cat([x.mean(2), x.amax(2)], 1).flatten(1)
        return self.head(self.dropout(pooled))


class Stage(nn.Module):
    """3x3 convolutions with batch norm; the input is added before the last ReLU."""

    def __init__(self, inputs: int, outputs: int, convs: int):
        super().__init__()
        widths = [inputs] + [outputs] * convs
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(convs))
        same = inputs == outputs
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, T, M]` -> `[B, outputs, T, M]`."""
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = functional.relu(y + self.skip(x) if i == len(self.convs) - 1 else y)
        return y


class Transformer(nn.Module):
    """Convolutional stem, sinusoidal positions, pre-norm blocks, mean over tokens."""

    def __init__(
        self,
        *,
        features: int,
        classes: int,
        stem_channels: tuple[int, ...],
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        drop_path: float,
    ):
        super().__init__()
        pairs = zip((1, *stem_channels[:-1]), stem_channels, strict=True)
        self.stem = nn.Sequential(
            *(
                layer
                for a, b in pairs
                for layer in (
                    nn.Conv2d(a, b, 3, 2, padding=1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(),
                )
            )
        )
        bins = -(-features // 2 ** len(stem_channels))
        self.project = nn.Linear(bins * stem_channels[-1], width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, int(width * mlp_ratio), dropout, float(rate))
            for rate in np.linspace(0, drop_path, depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        self.register_buffer("positions", sinusoids(1024, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, M]` -> logits `[B, C]`; at most 1024 tokens."""
        x = self.stem(x[:, None])
        x = self.project(x.transpose(1, 2).flatten(2))
        x = self.dropout(x + self.positions[: x.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Block(nn.Module):
    """Attention, then MLP, each with LayerNorm before it, dropout and stochastic depth."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, drop_path: float):
        super().__init__()
        self.heads = heads
        self.drop_path = drop_path
        self.norm_1, self.norm_2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` -> `[B, T, D]`."""
        x = x + self._drop_path(self.dropout(self._attend(self.norm_1(x))))
        return x + self._drop_path(self.dropout(self.mlp(self.norm_2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, width))

    def _drop_path(self, x: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return x
        keep = x.new_empty(x.shape[0], 1, 1).bernoulli_(1 - self.drop_path)
        return x * keep / (1 - self.drop_path)


def sinusoids(tokens: int, width: int) -> Tensor:
    """Fixed positions `[tokens, width]` (Vaswani et al., 2017): sines, then cosines."""
    rate = torch.exp(-np.log(10000.0) * torch.arange(width // 2) / (width // 2))
    angle = torch.arange(tokens)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)


def build(model: Any, features: int, classes: int) -> nn.Module:
    """The network of the `model` section of one of jaxsound's configurations.

    Args:
      model: a mapping with attributes; its name is "cnn" or "transformer".
      features: M.
      classes: C.
    """
    names = {
        "cnn": ("channels", "convs", "stem_kernel", "stem_stride", "dropout"),
        "transformer": (
            *("stem_channels", "width", "depth", "heads", "mlp_ratio", "dropout", "drop_path"),
        ),
    }[model.name]
    kind = {"cnn": CNN, "transformer": Transformer}[model.name]
    return kind(features=features, classes=classes, **{name: model[name] for name in names})


def parameters(network: nn.Module) -> int:
    """How many there are to train."""
    return sum(p.numel() for p in network.parameters())


def adamw(network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, in one fused kernel, whose weight decay touches matrices and kernels only."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


class LogMel(nn.Module):
    """Waveforms to log-mels in decibels by torch.stft, as librosa has them."""

    def __init__(self, filters: np.ndarray, n_fft: int, hop: int, top_db: float = 80.0):
        """`filters [n_mels, 1 + n_fft // 2]` is librosa's or jaxsound's mel matrix."""
        super().__init__()
        self.n_fft, self.hop, self.top_db = n_fft, hop, top_db
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """`[..., N]` -> `[..., T, M]`."""
        spectrum = torch.stft(
            waveform,
            self.n_fft,
            self.hop,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        decibels = 10 * torch.log10((self.filters @ power).clamp(min=1e-10))
        floor = decibels.amax((-2, -1), keepdim=True) - self.top_db
        return torch.maximum(decibels, floor).transpose(-2, -1)
