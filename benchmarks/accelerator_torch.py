"""The peers of accelerator.py: torch.compile, autocast to bfloat16, float32 parameters.

A straightforward loop at its best: features stay on the device, the optimiser is the fused one,
augmentation is compiled too, and one compiled network serves all folds.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import accelerator_recipe as recipe
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_peers import build

Run = Callable[[], float]
Details = dict[str, Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_float32_matmul_precision("high")  # TF32 where autocast leaves float32


def device() -> Details:
    """What torch runs on."""
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    return {"device": name, "accelerator": DEVICE == "cuda", "versions": versions}


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


class Trainer:
    """A network, its compiled form, AdamW and one training step."""

    def __init__(
        self,
        config: Any,
        frames: int,
        bins: int,
        classes: int,
        *,
        steps: int,
        dtype: str,
        mode: str,
    ):
        """Compiles nothing yet.

        Args:
          config: of `recipe.configure`.
          frames: T. bins: M. classes: C.
          steps: of an epoch.
          dtype: of autocast.
          mode: of torch.compile.
        """
        self.config, self.steps, self.dtype = config, steps, getattr(torch, dtype)
        self._shape = (config.model, frames, bins, classes)
        self.classes = classes
        # A transformer's products of matrices know no channels.
        plain = config.model.name == "transformer"
        self.format = torch.contiguous_format if plain else torch.channels_last
        self.model = build(*self._shape).to(DEVICE).to(memory_format=self.format)
        self.compiled = torch.compile(self.model, mode=mode)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.mean, self.std = torch.zeros(bins, device=DEVICE), torch.ones(bins, device=DEVICE)
        self._begin_optimizer()

    def begin(self, statistics: tuple[np.ndarray, np.ndarray]) -> None:
        """New parameters in place: what is compiled stays compiled."""
        self.model.load_state_dict(build(*self._shape).state_dict())
        self.mean, self.std = (torch.from_numpy(x).to(DEVICE) for x in statistics)
        self._begin_optimizer()

    def _begin_optimizer(self) -> None:
        c, total = self.config.optimizer, self.steps * self.config.epochs
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": c.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=c.peak_lr, betas=(c.b1, c.b2), fused=True)
        warmup = round(total * c.warmup_fraction)

        def rate(done: int) -> float:
            if done < warmup:
                return done / warmup
            return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(total - warmup, 1)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def step(self, x: Tensor, target: Tensor) -> None:
        """One update on normalised features `[B, T, M]` and soft labels `[B, C]`."""
        with torch.autocast(DEVICE, self.dtype):
            logits = self.compiled(x)
        loss = F.cross_entropy(logits.float(), target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        self.schedule.step()


def one_step(task: recipe.Task, details: Details) -> Run:
    """Clips/s of the training step of row 1 or 2, on one fixed batch."""
    model, size = task.options["model"], task.size
    config, (batch, frames, bins) = recipe.large(model, size)
    mode = task.options["mode"]
    trainer = Trainer(config, frames, bins, size.classes, steps=1000, dtype=size.dtype, mode=mode)
    x = torch.randn(batch, frames, bins, device=DEVICE)
    label = torch.randint(size.classes, (batch,), device=DEVICE)
    target = F.one_hot(label, size.classes).float()
    details |= {"parameters": trainer.parameters, "batch": batch, "dtype": size.dtype}
    if model == "transformer":
        details["flops"] = recipe.transformer_flops(config.model, frames, bins)

    def run() -> float:
        began = time.perf_counter()
        for _ in range(size.steps):
            trainer.step((x - trainer.mean) / trainer.std, target)
        wait()
        return size.steps * batch / (time.perf_counter() - began)

    began = time.perf_counter()
    run()
    details["first_run_s"] = round(time.perf_counter() - began, 2)
    run()  # CUDA graphs are captured at the second call
    return run


def log_mel(task: recipe.Task, details: Details) -> Run:
    """Clips/s of torch.stft, mel filters and decibels on waveforms that are on the device.

    Eager: torch.compile makes no code of complex numbers, and was slower.
    """
    clips, samples = task.size.audio
    rng = np.random.default_rng(0)
    waveform = torch.from_numpy(rng.standard_normal((clips, samples), np.float32) * 0.1)
    waveform = waveform.to(DEVICE)
    details |= {"batch": clips, "samples": samples}
    window, filters = log_mel_tables()
    log_mels(waveform, window, filters)

    def run() -> float:
        began = time.perf_counter()
        for _ in range(task.size.steps):
            log_mels(waveform, window, filters)
        wait()
        return task.size.steps * clips / (time.perf_counter() - began)

    return run


def log_mel_tables() -> tuple[Tensor, Tensor]:
    """Window `[n_fft]` and mel filters `[F, n_mels]` of jaxsound's default frontend."""
    from jaxsound.features.frontend import FrontendConfig
    from jaxsound.features.spectral import mel_filterbank

    c = FrontendConfig()
    filters = mel_filterbank(c.sample_rate, c.n_fft, c.n_mels, c.fmin, c.fmax or None)
    return torch.hann_window(c.n_fft, device=DEVICE), torch.from_numpy(filters.T.copy()).to(DEVICE)


def log_mels(waveform: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """`[B, N]` -> `[B, T, n_mels]` decibels, at most 80 below the clip's loudest."""
    spectrum = torch.stft(
        waveform,
        len(window),
        hop_length=320,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    decibels = 10 * torch.log10(torch.clamp(power.transpose(1, 2) @ filters, min=1e-10))
    return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - 80)


def augment(
    x: Tensor, target: Tensor, std: Tensor, other: Tensor, ratio: Tensor, c: Any
) -> tuple[Tensor, Tensor]:
    """Time roll, gain, mixup and SpecAugment of `[B, T, M]` and `[B, C]`.

    Whom to mix with, `other [B]`, is drawn outside: torch 2.13 cannot compile randperm here.
    """
    batch, frames, bins = x.shape
    turn = torch.randint(frames, (batch, 1), device=x.device)
    source = (torch.arange(frames, device=x.device) - turn) % frames
    x = x.gather(1, source[..., None].expand(-1, -1, bins))
    x = x + (torch.rand(batch, 1, 1, device=x.device) * 2 - 1) * c.gain_db / std
    x = ratio[:, None, None] * x + (1 - ratio[:, None, None]) * x[other]
    target = ratio[:, None] * target + (1 - ratio[:, None]) * target[other]
    x = x.masked_fill(_bands(batch, c.time_masks, frames, c.time_mask_share, x)[:, :, None], 0)
    x = x.masked_fill(_bands(batch, c.freq_masks, bins, c.freq_mask_share, x)[:, None, :], 0)
    return x, target


def _bands(batch: int, count: int, size: int, share: float, like: Tensor) -> Tensor:
    width = (torch.rand(batch, count, 1, device=like.device) * (size * share + 1)).floor()
    start = (torch.rand(batch, count, 1, device=like.device) * (size - width + 1)).floor()
    position = torch.arange(size, device=like.device)
    return ((position >= start) & (position < start + width)).any(1)


def crossval(task: recipe.Task, details: Details) -> Run:
    """Trains and tests every fold: seconds, and the accuracy pooled over folds."""

    def run() -> float:
        began = time.perf_counter()
        clips = recipe.read(task.store)
        config = recipe.preset(task.options["model"], task.size)
        steps = recipe.steps_per_epoch(clips, config.batch_size)
        trainer = Trainer(
            config,
            clips.longest,
            clips.frames.shape[1],
            clips.classes,
            steps=steps,
            dtype=task.size.dtype,
            mode=task.options["mode"],
        )
        frames = torch.from_numpy(clips.frames).to(DEVICE)
        prepare = torch.compile(_prepare)
        correct = 0
        for fold in clips.tested:
            train = np.flatnonzero(clips.folds != fold)
            trainer.begin(recipe.normalisation(clips, train))
            trainer.model.train()
            for number in range(config.epochs):
                order = recipe.epoch(clips, fold, config.batch_size, number)
                _one_epoch(trainer, prepare, frames, clips.longest, order)
                if "first_epoch_s" not in details:
                    wait()
                    details["first_epoch_s"] = round(time.perf_counter() - began, 2)
            correct += _correct(trainer, frames, clips, fold)
        details["parameters"] = trainer.parameters
        details["accuracy"] = round(correct / len(clips.labels), 4)
        return time.perf_counter() - began

    return run


def _one_epoch(
    trainer: Trainer, prepare: Any, frames: Tensor, longest: int, order: recipe.Arrays
) -> None:
    c = trainer.config
    rows, labels = (torch.from_numpy(order[n]).long().to(DEVICE) for n in ("row", "label"))
    alpha = torch.full((rows.shape[1],), c.augment.mixup, device=DEVICE)
    for row, label in zip(rows, labels, strict=True):
        ratio = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        other = torch.randperm(len(row), device=DEVICE)
        target = F.one_hot(label, trainer.classes).float()
        x, target = prepare(
            frames, row, longest, trainer.mean, trainer.std, target, other, ratio, c.augment
        )
        smooth = c.loss.label_smoothing
        trainer.step(x, target * (1 - smooth) + smooth / trainer.classes)


def _prepare(
    frames: Tensor,
    row: Tensor,
    longest: int,
    mean: Tensor,
    std: Tensor,
    target: Tensor,
    other: Tensor,
    ratio: Tensor,
    config: Any,
) -> tuple[Tensor, Tensor]:
    x = frames[row[:, None] + torch.arange(longest, device=row.device)].float()
    return augment((x - mean) / std, target, std, other, ratio, config)


@torch.no_grad()
def _correct(trainer: Trainer, frames: Tensor, clips: recipe.Clips, fold: int) -> int:
    """How many test clips of this fold are told right, by the network as it was written."""
    test = np.flatnonzero(clips.folds == fold)
    trainer.model.eval()
    right = 0
    for i in range(0, len(test), trainer.config.batch_size):
        part = test[i : i + trainer.config.batch_size]
        rows = torch.from_numpy(clips.offsets[part]).to(DEVICE)
        x = frames[rows[:, None] + torch.arange(clips.longest, device=DEVICE)].float()
        with torch.autocast(DEVICE, trainer.dtype):
            logits = trainer.model((x - trainer.mean) / trainer.std)
        right += int((logits.argmax(-1).cpu().numpy() == clips.labels[part]).sum())
    return right


TASKS: dict[str, Callable[[recipe.Task, Details], Run]] = {
    "step": one_step,
    "log_mel": log_mel,
    "crossval": crossval,
}
