"""Optimisers and schedules against PyTorch's."""

import math
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
from jaxsound.training import finetune, optim
from jaxsound.training.state import plan_network

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


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Five Newton-Schulz iterations with Jordan's coefficients, in float64."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 5)])
def test_ten_updates_of_muon_are_numpy_s(shape: tuple[int, ...]) -> None:
    config = section(name="muon", weight_decay=0.3, clip_norm=0.0, momentum=0.95)
    optimizer = optim.make_optimizer(config, STEPS, PER_EPOCH)
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=shape)
    others = {"bias": rng.normal(size=shape[-1])}
    ours: Any = jax.tree.map(jnp.float32, {"layer": {"kernel": kernel} | others})
    state = optimizer.init(ours)
    update = jax.jit(optimizer.update)
    plain = optim.make_optimizer(section(weight_decay=0.3, clip_norm=0.0), STEPS, PER_EPOCH)
    theirs = jax.tree.map(jnp.float32, others)
    their_state = plain.init(theirs)
    momentum = np.zeros(shape)
    size = 0.2 * np.sqrt(max(math.prod(shape[:-1]), shape[-1]))
    for i in range(1, 11):
        grads = {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[-1])}
        updates, state = update(jax.tree.map(jnp.float32, {"layer": grads}), state, ours)
        ours = optax.apply_updates(ours, updates)
        momentum = 0.95 * momentum + 0.05 * grads["kernel"]
        ahead = 0.95 * momentum / (1 - 0.95 ** (i + 1)) + 0.05 * grads["kernel"] / (1 - 0.95**i)
        step = orthogonal(ahead.reshape(-1, shape[-1])).reshape(shape)
        kernel = kernel - PEAK * (size * step + 0.3 * kernel)
        grads = {"bias": jnp.float32(grads["bias"])}
        updates, their_state = plain.update(grads, their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    np.testing.assert_allclose(ours["layer"]["kernel"], kernel, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours["layer"]["bias"], theirs["bias"], rtol=1e-6)


@pytest.mark.parametrize("model", ["cp_resnet", "transformer"])
def test_muon_takes_the_kernels_between_the_first_layer_and_the_classifier(
    model: str,
) -> None:
    config = default_config(model).model
    if model == "transformer":
        config.update({"positions": "learned", "grid": True, "position_kernel": 3})
    _, initialise = plan_network(config, features=64, classes=7, frames=64)
    params, _ = jax.eval_shape(initialise, jax.random.key(0))
    taken = dict(
        zip(finetune.names(params), jax.tree.leaves(optim.orthogonalised(params)), strict=True)
    )
    assert not any(taken[name] for name in taken if not name.endswith("kernel"))
    left = [name for name in taken if name.endswith("kernel") and not taken[name]]
    depthwise = ["neighbours.conv.kernel"] if model == "transformer" else []
    first = "stem.conv.kernel" if model == "cp_resnet" else "stem.convs.0.conv.kernel"
    assert sorted(left) == sorted([first, "head.kernel", *depthwise])


def test_muon_trains_a_network_s_own_tree() -> None:
    """NNX's modules and masks go through optax together, frozen parts and all."""
    config = default_config("transformer")
    config.optimizer.name = "muon"
    config.model.update({"width": 16, "depth": 1, "heads": 2, "stem_channels": (4, 4)})
    config.pretrained.freeze = ("stem.*",)
    _, initialise = plan_network(config.model, features=8, classes=3, frames=16)
    params, _ = initialise(jax.random.key(0))
    optimizer = optim.make_optimizer(config.optimizer, STEPS, PER_EPOCH)
    optimizer = finetune.adapted(optimizer, config.pretrained, STEPS)
    state = optimizer.init(params)
    updates, state = jax.jit(optimizer.update)(jax.tree.map(jnp.ones_like, params), state, params)
    updates, _ = jax.jit(optimizer.update)(jax.tree.map(jnp.ones_like, params), state, params)
    moved = dict(
        zip(
            finetune.names(params),
            [bool(np.abs(np.asarray(x)).max() > 0) for x in jax.tree.leaves(updates)],
            strict=True,
        )
    )
    assert moved == {name: not name.startswith("stem.") for name in moved}


def test_ten_updates_of_lion_are_numpy_s() -> None:
    config = section(name="lion", weight_decay=0.3, clip_norm=0.0, b1=0.9, b2=0.99)
    optimizer = optim.make_optimizer(config, STEPS, PER_EPOCH)
    ours: Any = jax.tree.map(jnp.asarray, parameters())
    theirs, moments = parameters(), {n: 0 * v for n, v in parameters().items()}
    state, rng = optimizer.init(ours), np.random.default_rng(1)
    for _ in range(10):
        grads = {n: rng.normal(size=v.shape).astype(np.float32) for n, v in theirs.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
        ours = optax.apply_updates(ours, updates)
        for n, decay in (("kernel", 0.3), ("bias", 0.0)):
            sign = np.sign(0.9 * moments[n] + 0.1 * grads[n])
            theirs[n] = theirs[n] - PEAK * (sign + decay * theirs[n])
            moments[n] = 0.99 * moments[n] + 0.01 * grads[n]
            np.testing.assert_allclose(ours[n], theirs[n], rtol=1e-5, atol=1e-6)
