"""Optimisers and schedules against PyTorch's."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from jaxsound.config import default_config
from jaxsound.training import optim

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is what this is compared with")

STEPS, PER_EPOCH, PEAK = 40, 4, 0.05


def section(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("cnn").optimizer
    config.update({"peak_lr": PEAK, "warmup_fraction": 0.0, "schedule": "constant"} | changes)
    return config


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adam", lambda groups: torch.optim.Adam(groups, lr=PEAK)),
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=PEAK)),
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=PEAK, momentum=0.9, nesterov=True)),
    ],
)
def test_ten_updates_are_pytorch_s(
    name: str, theirs: Callable[[Any], Any], clip_norm: float
) -> None:
    config = section(name=name, weight_decay=0.3, clip_norm=clip_norm)
    optimizer = optim.make_optimizer(config, STEPS, PER_EPOCH)
    ours: Any = {name: jnp.asarray(value) for name, value in parameters().items()}
    state = optimizer.init(ours)
    tensors = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in parameters().items()}
    reference = theirs(
        [
            {"params": [tensors["kernel"]], "weight_decay": 0.3},
            {"params": [tensors["bias"]], "weight_decay": 0.0},
        ]
    )
    rng = np.random.default_rng(1)
    for _ in range(10):
        grads = {n: rng.normal(size=v.shape).astype(np.float32) for n, v in tensors.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
        ours = optax.apply_updates(ours, updates)
        for n, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[n])
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(tensors.values(), clip_norm)
        reference.step()
        for n, tensor in tensors.items():
            np.testing.assert_allclose(ours[n], tensor.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(ours["kernel"] - parameters()["kernel"]).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "theirs", "per_step"),
    [
        ({"schedule": "cosine"}, lambda o, s: s.CosineAnnealingLR(o, STEPS), True),
        (
            {"schedule": "cosine", "final_fraction": 0.1},
            lambda o, s: s.CosineAnnealingLR(o, STEPS, eta_min=0.1 * PEAK),
            True,
        ),
        (
            {"schedule": "step", "step_epochs": 3, "factor": 0.2},
            lambda o, s: s.StepLR(o, 3, gamma=0.2),
            False,
        ),
        ({"schedule": "constant"}, lambda o, s: s.ConstantLR(o, factor=1.0), True),
        (
            {"schedule": "one_cycle", "warmup_fraction": 0.3, "final_fraction": 0.01},
            lambda o, s: s.OneCycleLR(
                o, PEAK, total_steps=STEPS, pct_start=0.3, final_div_factor=1 / (25 * 0.01)
            ),
            True,
        ),
    ],
)
def test_schedules_are_pytorch_s(
    changes: dict[str, Any], theirs: Callable[[Any, Any], Any], per_step: bool
) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = theirs(optimizer, torch.optim.lr_scheduler)
    schedule = optim.schedule(section(**changes), STEPS, PER_EPOCH)
    for step in range(STEPS):
        rate = optimizer.param_groups[0]["lr"]
        np.testing.assert_allclose(float(schedule(step)), rate, rtol=1e-4, atol=1e-9)
        optimizer.step()
        if per_step or (step + 1) % PER_EPOCH == 0:
            scheduler.step()


@pytest.mark.parametrize("name", ["cosine", "constant", "step", "plateau"])
def test_every_other_schedule_warms_up_linearly(name: str) -> None:
    config = section(schedule=name, warmup_fraction=0.25)
    schedule = jax.jit(optim.schedule(config, STEPS, PER_EPOCH))
    found = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(found, PEAK * np.arange(11) / 10, rtol=1e-5, atol=1e-9)


def test_one_cycle_without_an_end_ends_at_zero() -> None:
    schedule = optim.schedule(section(schedule="one_cycle", warmup_fraction=0.3), STEPS, PER_EPOCH)
    np.testing.assert_allclose(float(schedule(STEPS - 1)), 0, atol=1e-9)
