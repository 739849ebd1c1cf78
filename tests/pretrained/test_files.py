"""Weights of the right file arrive bit for bit; every other file is one line that names it."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from jaxsound.errors import UserError
from jaxsound.models import efficientnet
from jaxsound.pretrained import files, weights
from jaxsound.pretrained.layouts import layouts
from tests.pretrained.originals import blank, model_config

safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra 'hub'")

BINS, FRAMES = 128, 48
CONFIGS = {
    "ast": model_config("ast", width=16, depth=2, heads=2),
    "resnet": model_config("resnet", depth=18),
    "efficientnet": model_config("efficientnet", padding="end", norm_epsilon=1e-3),
}
AST = CONFIGS["ast"]


def values(config: Any) -> Any:
    """Parameters and statistics of a network, no two alike."""
    _, params, stats = blank(config, bins=BINS, frames=FRAMES)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), (params, stats))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AST's weights as a publisher has them."""
    path = tmp_path_factory.mktemp("published")
    files.write(path / "model.safetensors", weights.tensors(AST, *values(AST)))
    return path


def fit(path: Path, config: Any = AST) -> weights.Start:
    _, params, stats = blank(config, bins=BINS, frames=FRAMES)
    return weights.fit(files.read(str(path)), config, params, stats, features=BINS)


def rewritten(folder: Path, out: Path, change: Any) -> Path:
    """The same weights with some change of the dictionary of tensors."""
    tensors = safetensors.load_file(folder / "model.safetensors")
    change(tensors)
    files.write(out, tensors)
    return out


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_are_the_same_bits_in_every_layout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficientnet, "STAGES", ((1, 3, 1, 16, 1), (6, 5, 2, 24, 2)))
    tree, known = values(CONFIGS[name]), layouts(CONFIGS[name])
    assert len({layout.name for layout in known}) == len(known)
    for layout in known:
        if "without" in layout.name:
            continue
        config = SimpleNamespace(**vars(CONFIGS[name]) | layout.wants)
        out = weights.tensors(config, *tree, layout=layout.name)
        files.write(tmp_path / "x.safetensors", out)
        start = weights.fit(
            files.read(str(tmp_path / "x.safetensors")),
            config,
            *blank(config, bins=BINS, frames=FRAMES)[1:],
            features=BINS,
        )
        jax.tree.map(np.testing.assert_array_equal, (start.params, start.stats), tree)
        assert layout.name in start.note


def test_the_note_tells_file_and_digest(folder: Path) -> None:
    path = folder / "model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert files.read(str(folder)).sha256 == digest
    assert files.read(str(path), digest.upper()).sha256 == digest
    with pytest.raises(UserError, match=f"{digest}, and {'0' * 64} is wanted"):
        files.read(str(path), "0" * 64)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".ckpt"])
def test_a_pickle_is_never_opened(suffix: str, tmp_path: Path) -> None:
    for name in (f"weights{suffix}", f"inside/pytorch_model{suffix}"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        where = path.parent if "inside" in name else path
        line = one_line(lambda where=where: files.read(str(where)))
        assert str(path) in line
        assert 'python -c "import torch' in line
        assert "safetensors" in line


def test_the_conversion_that_a_refused_pickle_is_told_works(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors.torch")
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(3.0)}, path)
    command = re.search(r'python -c "(.*)"$', one_line(lambda: files.read(str(path))))
    assert command is not None
    subprocess.run([sys.executable, "-c", command[1]], cwd=tmp_path, check=True)
    out = files.read(str(tmp_path / "weights.safetensors"))
    assert out.tensors["a"].tolist() == [0, 1, 2]


def one_line(call: Any) -> str:
    with pytest.raises(UserError) as refused:
        call()
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_every_cut_is_refused_by_the_files_name(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"cut_{size}.safetensors"
        path.write_bytes(whole[:size])
        assert str(path) in one_line(lambda path=path: files.read(str(path)))
    path.write_bytes(b"{" * 1000)
    assert str(path) in one_line(lambda: files.read(str(path)))


def drop(name: str) -> Any:
    return lambda tensors: tensors.pop(name)


def put(name: str, value: np.ndarray) -> Any:
    return lambda tensors: tensors.update({name: value})


TABLE = "audio_spectrogram_transformer.embeddings.position_embeddings"
DENSE = "audio_spectrogram_transformer.encoder.layer.1.output.dense.weight"
LATER = "audio_spectrogram_transformer.encoder.layer.2.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop(DENSE), (DENSE, "missing")),
        (drop("classifier.dense.bias"), ("classifier.dense.bias", "missing")),
        (put(LATER, np.zeros(3, np.float32)), (LATER, "no place")),
        (put(DENSE, np.zeros((16, 63), np.float32)), (DENSE, "(16, 63)", "(16, 64)")),
        (put(DENSE, np.zeros(16, np.float32)), (DENSE, "(16,)")),
        (put(DENSE, np.full((16, 64), np.nan, np.float32)), (DENSE, "NaN")),
        (put(TABLE, np.zeros((1, 9, 16), np.float32)), (TABLE, "(1, 9, 16)")),
        (put(TABLE, np.zeros((9, 16), np.float32)), (TABLE, "(9, 16)")),
        (lambda tensors: tensors.clear(), ("encoder.layer.0",)),
    ],
)
def test_what_is_wrong_is_named(
    change: Any, words: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    path = rewritten(folder, tmp_path / "x.safetensors", change)
    line = one_line(lambda: fit(path))
    assert all(word in line for word in (str(path), *words)), line


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    assert "conv1.weight" in one_line(lambda: fit(folder, CONFIGS["resnet"]))
    assert "'cnn'" in one_line(lambda: fit(folder, model_config("cnn")))


def test_what_shapes_do_not_show_is_compared_with_the_publishers_config(
    folder: Path, tmp_path: Path
) -> None:
    path = rewritten(folder, tmp_path / "model.safetensors", dict)
    (tmp_path / "config.json").write_text('{"num_attention_heads": 4, "num_mel_bins": 128}')
    line = one_line(lambda: fit(path))
    assert "config.model.heads=2" in line
    assert "num_attention_heads is 4" in line
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in one_line(lambda: fit(path))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nowhere/weights.safetensors", ("no such file",)),
        ("MIT/ast-finetuned", ("OWNER/NAME@REVISION",)),
        ("MIT/ast-finetuned@main", ("OWNER/NAME@REVISION",)),
    ],
)
def test_a_hub_name_needs_its_commit(where: str, words: tuple[str, ...]) -> None:
    line = one_line(lambda: files.read(where))
    assert all(word in line for word in (where, *words))


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
    # Refused at once: a client that finds no host tries again for a while.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name = f"someone/something@{'a' * 40}"
    line = one_line(lambda: files.read(name))
    hub.close_session()
    assert name in line
    assert "network" in line
