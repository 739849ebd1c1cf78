"""The peers are the same networks, the core suffices, and the table says what was not measured."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxsound.features.frontend import FrontendConfig, frontend
from jaxsound.models import build_model, masking
from tests.test_core_imports import OTHERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def same(own: Any, peer: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of a layer of ours and its counterpart."""
    if hasattr(own, "stages"):  # CNN
        yield from ((own.stem, peer.stem), (own.stem_norm, peer.stem_norm))
        for a, b in zip(own.stages, peer.stages, strict=True):
            yield from zip(a.convs, b.convs, strict=True)
            yield from zip(a.norms, b.norms, strict=True)
            if a.skip is not None:
                yield a.skip, b.skip
    elif hasattr(own, "stem_norm"):  # ResNet
        yield from ((own.stem, peer.stem), (own.stem_norm, peer.stem_norm))
        for a, b in zip(own.blocks, peer.blocks, strict=True):
            yield from zip(a.convs, (b.conv_1, b.conv_2), strict=True)
            yield from zip(a.norms, (b.norm_1, b.norm_2), strict=True)
            if a.skip is not None:
                yield from ((a.skip, b.skip[0]), (a.skip_norm, b.skip[1]))
    else:
        if hasattr(own.stem, "convs"):
            yield from zip(own.stem.convs, peer.convs, strict=True)
            yield from zip(own.stem.norms, peer.norms, strict=True)
        yield own.stem.project, peer.project
        for a, b in zip(own.blocks, peer.blocks, strict=True):
            for name in ("norm_1", "qkv", "out", "norm_2", "up", "down"):
                yield getattr(a, name), getattr(b, name)
        yield own.norm, peer.norm
    yield own.head, peer.head


@torch.no_grad()
def copy(own: Any, peer: Any) -> None:
    own = own.conv if isinstance(own, masking.Conv) else own
    if isinstance(own, nnx.Conv):
        peer.weight[:] = torch.from_numpy(np.array(own.kernel[...]).transpose(3, 2, 0, 1))
        return
    weight = own.kernel[...].T if isinstance(own, nnx.Linear) else own.scale[...]
    peer.weight[:] = torch.from_numpy(np.array(weight))
    peer.bias[:] = torch.from_numpy(np.array(own.bias[...]))
    if isinstance(own, masking.BatchNorm):
        peer.running_mean.fill_(1)


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter: kernels that keep the scale; biases and scales that are neither 0 nor 1."""
    values = rng.standard_normal(shape, np.float32)
    return values / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.5 + 0.1 * values


@pytest.mark.parametrize("model", ["cnn", "deep", "transformer", "resnet", "wide"])
def test_the_peer_is_the_same_network(model: str) -> None:
    recipe, peers = load("accelerator_recipe"), load("torch_peers")
    frames, bins = 32, 16
    if model in ("cnn", "deep", "transformer"):
        config = recipe.preset({"deep": "cnn"}.get(model, model), recipe.SMALL).model
        if model == "deep":
            config.convs = 2
    else:
        config, _ = recipe.large({"wide": "transformer"}.get(model, model), recipe.SMALL)
        config = config.model
    config.dtype, config.dropout, config.drop_path = "float32", 0.0, 0.0
    abstract = nnx.eval_shape(
        lambda: build_model(config, features=bins, classes=3, frames=frames, rngs=nnx.Rngs(0))
    )
    graph, params, stats = nnx.split(abstract, nnx.Param, nnx.BatchStat)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: drawn(rng, leaf.shape), params)
    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), stats)
    peer = peers.build(config, frames, bins, 3).eval()
    for a, b in same(nnx.merge(graph, params, stats), peer):
        copy(a, b)
    assert sum(p.numel() for p in peer.parameters()) == sum(x.size for x in jax.tree.leaves(params))

    @jax.jit
    def logits(params: Any, stats: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(x, jnp.full(len(x), frames), train=False)

    x = 10 * rng.standard_normal((3, frames, bins), np.float32)
    expected = np.asarray(logits(params, stats, jnp.asarray(x)))
    found = peer(torch.from_numpy(x)).detach().numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def test_the_peers_log_mel_is_the_frontends() -> None:
    peer = load("accelerator_torch")
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal((2, 16000), np.float32) * 0.1
    found = peer.log_mels(torch.from_numpy(waveform), *peer.log_mel_tables()).numpy()
    own = frontend(FrontendConfig(), jnp.asarray(waveform), jnp.full(2, 16000))
    np.testing.assert_allclose(found, np.asarray(own), atol=1e-2)


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_the_recipe_is_that_of_the_configs(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "configs"))
    recipe = load("accelerator_recipe")
    config = load(f"esc50_{model}").get_config()
    ours = recipe.preset(model, recipe.FULL)
    changed = {"dtype"}
    for section in ("model", "optimizer", "loss", "augment"):
        wanted = {k: v for k, v in config[section].to_dict().items() if k not in changed}
        assert {k: v for k, v in vars(getattr(ours, section)).items() if k in wanted} == wanted
    assert (ours.epochs, ours.batch_size) == (config.epochs, config.batch_size)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.widht: jaxsound has no such configuration key"):
        load("accelerator_recipe").configure("transformer", {"model.widht": 8})


def test_operations_are_those_that_xla_counts() -> None:
    recipe = load("accelerator_recipe")
    size = {"model.width": 256, "model.depth": 2, "model.heads": 2, "model.stem": "frames"}
    model = recipe.configure("transformer", size | {"model.dropout": 0.0}).model
    own = nnx.eval_shape(
        lambda: build_model(model, features=64, classes=3, frames=256, rngs=nnx.Rngs(0))
    )
    graph, values = nnx.split(own)

    def loss(values: Any, x: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, values)(x, jnp.full(1, 256), train=False)
        return logits.sum()

    lowered = jax.jit(jax.grad(loss)).lower(values, jnp.zeros((1, 256, 64)))
    counted = lowered.cost_analysis()["flops"]
    assert counted == pytest.approx(recipe.transformer_flops(model, 256, 64), rel=0.1)


def test_the_core_suffices() -> None:
    """Nothing but jax, flax, optax and numpy is on the machine that has the accelerator."""
    code = "import sys, jax, flax.nnx, optax; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    block = [name for name in {*OTHERS.split(), "torch"} if name not in out.stdout.split()]
    code = f"import sys; sys.modules |= dict.fromkeys({block}); "
    code += f"sys.path += [{str(ROOT)!r}, {str(ROOT / 'benchmarks')!r}]; "
    subprocess.run([sys.executable, "-c", code + "import accelerator, accelerator_jax"], check=True)


def run(out: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "accelerator.py"), f"--out={out}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((out / "accelerator.json").read_text())


def test_a_row_from_the_command(tmp_path: Path) -> None:
    text, report = run(tmp_path, "--small", "--rows=3", "--rounds=2")
    (row,) = report["rows"]
    assert [len(side["figures"]) for side in row["sides"]] == [2, 2]
    assert all(side["best"] >= side["median"] > 0 for side in row["sides"])
    assert {"jax", "torch"} == set(report["machine"]["devices"])
    assert "no goal is judged" in text


def test_rows_beyond_the_budget_are_named(tmp_path: Path) -> None:
    text, report = run(tmp_path, "--small", "--rows=1,6", "--budget=0")
    assert [row["number"] for row in report["rows"]] == [6, 1]
    assert text.count("| not measured |") == text.count("the budget was spent") - 2  # two probes


def sides(*figures: float, goal: float = 1.5) -> list[dict[str, Any]]:
    """A row's sides; no figure for 0."""
    return [
        {
            "name": f"side {i}",
            "goal": goal if i else 0.0,
            "figures": [x] if x else [],
            "best": x,
            "median": x,
            "note": "" if x else "no module named torch",
            "details": {"device": "NVIDIA H100 80GB HBM3", "flops": 1e12},
        }
        for i, x in enumerate(figures)
    ]


def line(unit: str, *figures: float, judge: bool = True, under: float = 0.0) -> list[str]:
    row = {"number": 1, "area": "a", "unit": unit, "under": under, "note": ""}
    row["sides"] = sides(*figures)
    return load("accelerator_bench").table([row], judge=judge).splitlines()[2:]


def test_ratios_favour_the_faster() -> None:
    assert "| 2x | 1.5x, reached |" in line("clips/s", 200.0, 100.0)[1]
    assert "| 2x | 1.5x, reached |" in line("s", 10.0, 20.0)[1]
    assert "| 0.5x | 1.5x, **not reached** |" in line("clips/s", 100.0, 200.0)[1]
    assert "| 0.5x | 1.5x |" in line("clips/s", 100.0, 200.0, judge=False)[1]
    assert "| under 60 s, **not reached** |" in line("s", 61.0, 200.0, under=60.0)[0]


def test_what_is_missing_is_said() -> None:
    assert "side 1 | not measured |  |  | 1.5x | no module named torch |" in line("s", 1.0, 0.0)[1]
    assert "not measured" in line("s", 0.0, 1.0, under=60.0)[0]


def test_the_share_of_the_peak() -> None:
    assert "346 TFLOP/s, 35.0% of the peak (wanted 35%)" in line("clips/s", 346.15, 1.0)[0]
    peak = load("accelerator_bench").peak
    assert (peak("NVIDIA L40S"), peak("NVIDIA L4"), peak("NVIDIA H200")) == (362e12, 121e12, 989e12)
    assert peak("cpu") == 0


def test_growth_measures_a_store() -> None:
    growth = load("growth")
    found = growth.by_clips(64)
    assert all(value > 0 for value in found.values())
    assert growth.exponents({10: {"s": 1.0}, 100: {"s": 100.0}}) == pytest.approx({"s": 2.0})
