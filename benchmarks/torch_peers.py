"""The networks of jaxsound.models in PyTorch, as one writes them there: the peers' side.

On clips of full length, which is all that is measured, their logits are those of jaxsound's
networks with the same parameters; tests/benchmarks/test_accelerator.py proves it. They know no
masks, which jaxsound's have and pay for. Input is `[B, T, M]`, output `[B, C]`.
"""

import itertools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    return conv


class Block(nn.Module):
    """A pre-norm encoder block with fused attention."""

    def __init__(self, config: Any, drop_path: float):
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.heads, self.drop_path = config.heads, drop_path
        self.norm_1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        y = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self._drop(self.out(y.transpose(1, 2).reshape(batch, tokens, width)))
        y = self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))
        return x + self._drop(y)

    def _drop(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if not self.training or self.drop_path == 0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return x * keep / (1 - self.drop_path)


class Transformer(nn.Module):
    """jaxsound's transformer with sinusoidal positions and mean pooling, and either stem."""

    def __init__(self, config: Any, frames: int, bins: int, classes: int):
        super().__init__()
        width, channels = config.width, tuple(config.stem_channels)
        self.stem_frames = 0 if config.stem == "conv" else config.stem_frames
        if self.stem_frames:
            inputs = bins * self.stem_frames
            tokens = frames // self.stem_frames
        else:
            pairs = list(itertools.pairwise((1, *channels)))
            self.convs = nn.ModuleList(convolution(a, b, stride=2) for a, b in pairs)
            self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in channels)
            inputs = -(-bins // 2 ** len(channels)) * channels[-1]
            tokens = -(-frames // 2 ** len(channels))
        self.project = nn.Linear(inputs, width)
        rate = np.exp(-np.log(10000.0) * np.arange(width // 2) / (width // 2))
        angle = np.arange(tokens)[:, None] * rate
        table = np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32)
        self.register_buffer("positions", torch.from_numpy(table), persistent=False)
        rates = np.linspace(0, config.drop_path, config.depth)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, float(rate)) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.stem_frames:
            x = x.reshape(len(x), -1, self.stem_frames * x.shape[2])
        else:
            x = x[:, None]
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = F.relu(norm(conv(x)))
            x = x.permute(0, 2, 3, 1).flatten(2)
        x = self.dropout(self.project(x) + self.positions)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Stage(nn.Module):
    """3x3 convolutions with batch norm; the input is added before the last ReLU."""

    def __init__(self, inputs: int, outputs: int, convs: int):
        super().__init__()
        widths = [inputs] + [outputs] * convs
        self.convs = nn.ModuleList(convolution(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(convs))
        same = inputs == outputs
        self.skip = nn.Identity() if same else convolution(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = F.relu(y + self.skip(x) if i == len(self.convs) - 1 else y)
        return y


class CNN(nn.Module):
    """jaxsound's residual CNN that keeps frequency: mean and maximum over time."""

    def __init__(self, config: Any, frames: int, bins: int, classes: int):
        super().__init__()
        channels = tuple(config.channels)
        self.stem = convolution(1, channels[0], config.stem_kernel, config.stem_stride)
        self.stem_norm = nn.BatchNorm2d(channels[0])
        self.stages = nn.ModuleList(
            Stage(a, b, config.convs)
            for a, b in zip((channels[0], *channels), channels, strict=False)
        )
        self.dropout = nn.Dropout(config.dropout)
        rows = -(-bins // (config.stem_stride * 2 ** (len(channels) - 1)))
        self.head = nn.Linear(2 * channels[-1] * rows, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x[:, None])))
        for i, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2, ceil_mode=True) if i else x)
        pooled = torch.stack([x.float().mean(2), x.float().amax(2)], 1)  # [B, 2, D, M]
        return self.head(self.dropout(pooled.transpose(2, 3).flatten(1)))


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv_1 = convolution(inputs, outputs, stride=stride)
        self.norm_1 = nn.BatchNorm2d(outputs)
        self.conv_2 = convolution(outputs, outputs)
        self.norm_2 = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            skip = convolution(inputs, outputs, 1, stride)
            self.skip = nn.Sequential(skip, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm_1(self.conv_1(x)))
        return F.relu(self.norm_2(self.conv_2(y)) + self.skip(x))


class ResNet18(nn.Module):
    """The residual network with one input channel (He et al., 2016)."""

    def __init__(self, config: Any, frames: int, bins: int, classes: int):
        super().__init__()
        width = getattr(config, "width", 64)
        self.stem = convolution(1, width, config.stem_kernel, config.stem_stride)
        self.stem_norm = nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for stage in range(4):
            for i in range(2):
                outputs = width * 2**stage
                blocks.append(Residual(inputs, outputs, 2 if stage and not i else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x[:, None])))
        x = self.blocks(F.max_pool2d(x, 3, 2, padding=1))
        return self.head(x.float().mean((2, 3)))


def build(config: Any, frames: int, bins: int, classes: int) -> nn.Module:
    """The network that the `model` section names."""
    networks = {"transformer": Transformer, "cnn": CNN, "resnet": ResNet18}
    return networks[config.name](config, frames, bins, classes)


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
