"""Published weights: safetensors here or on the Hugging Face hub, never a pickle.

A pickle runs whatever code its author put into it when it is read; safetensors are numbers alone.
"""

import dataclasses
import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound.errors import UserError
from jaxsound.pretrained import runs

FILE = "model.safetensors"
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_ON_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_FLOATS = ("float16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights as its publisher has it, or a fold of a run of ours.

    `tensors` are read-only NumPy arrays by their publisher's names, floating ones as float32.
    `about` is the `config.json` beside the file; empty where there is none. Of a run it is the
    `model` section with `frontend`.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, np.ndarray]
    about: Mapping[str, Any]
    of_run: bool = False


def on_hub(where: str) -> bool:
    """Whether weights are named by a repository and its commit, and not by a place of a machine."""
    return bool(_ON_HUB.fullmatch(where))


def read(where: str, sha256: str = "") -> Published:
    """Reads a file, a folder with `model.safetensors`, or `OWNER/NAME@REVISION` of the hub.

    Args:
      where: a path, or a repository's name and the 40 digits of a commit, so that what is read
        today is what is read tomorrow. The hub's client keeps what it fetched.
      sha256: what the file's must be, in hexadecimal; "" takes any.

    Raises:
      UserError: one line, where the file is absent, a pickle, cut short, of another SHA-256 or no
        safetensors, where the hub cannot be reached, or an extra is not installed.
    """
    path = _local(where) or _fetched(where)
    if path.suffix in _PICKLES:
        raise UserError(_no_pickle(path))
    try:
        found = _digest(path)
        about = path.with_name("config.json")
        config = json.loads(about.read_bytes()) if about.is_file() else {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: it or the config.json beside it cannot be read ({error})"
        ) from None
    _same(path, found, sha256)
    return Published(path, found, _tensors(path), config if isinstance(config, dict) else {})


def read_all(where: str, sha256: str = "") -> dict[int, Published]:
    """As `read`, of a run of ours too: by the fold that begins with it, `runs.ALL` for every one.

    Fold k of a run's directory is for fold k, one fold's own directory for every fold. `sha256` is
    that of all.
    """
    if not (places := runs.folds(where)):
        return {runs.ALL: read(where, sha256)}
    found = {}
    for fold, place in places.items():
        digest, tensors, about = runs.read(place)
        found[fold] = Published(place, digest, tensors, about, of_run=True)
    together = next(iter(found.values())).sha256
    if runs.ALL not in found:
        digests = [f"{fold} {part.sha256}" for fold, part in found.items()]
        together = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    _same(Path(where), together, sha256)
    return {fold: dataclasses.replace(part, sha256=together) for fold, part in found.items()}


def pin(section: Any, finished: str = "") -> None:
    """Writes the SHA-256 of the weights into the `pretrained` section that names them.

    So a run's record tells what it began with, and a run is not resumed with other weights.

    Args:
      section: changed in place.
      finished: the SHA-256 in the record of a run that has begun with weights of this name and
        come to its end. It needs them no more: nothing is fetched, and a file may be gone.

    Raises:
      UserError: as `read`.
    """
    if finished and (on_hub(section.weights) or not Path(section.weights).expanduser().exists()):
        section.sha256 = section.sha256 or finished
    elif section.weights:
        found = read_all(section.weights, section.sha256)
        section.sha256 = next(iter(found.values())).sha256


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file; raises `UserError` where that cannot be."""
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # PyTorch's readers want to be told that the numbers are theirs.
        _import("safetensors.numpy").save_file(arrays, path, metadata={"format": "pt"})
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from None


def _same(path: Path, found: str, wanted: str) -> None:
    if wanted and found != wanted.lower():
        raise UserError(
            f"{path}: its SHA-256 is {found}, and {wanted} is wanted "
            "(--config.pretrained.sha256= takes any)"
        )


def _local(where: str) -> Path | None:
    path = Path(where).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        return None
    if (path / FILE).is_file():
        return path / FILE
    if pickles := sorted(p for p in path.iterdir() if p.suffix in _PICKLES):
        raise UserError(_no_pickle(pickles[0]))
    raise UserError(f"{path}: no {FILE} in this folder; name the file")


def _no_pickle(path: Path) -> str:
    out = path.with_suffix(".safetensors").name
    return (
        f"{path} is a pickle, which can run code and is not read here; where you trust it: "
        'python -c "import torch; from safetensors.torch import save_file as s; '
        f"t = torch.load('{path.name}', weights_only=True); "
        f"s({{k: v.clone() for k, v in t.items()}}, '{out}')\""
    )


def _fetched(where: str) -> Path:
    match = _ON_HUB.fullmatch(where)
    if not match:
        hint = ""
        if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@.*)?", where):
            hint = "; of the hub, name the commit too: OWNER/NAME@REVISION, with its 40 digits"
        raise UserError(f"{where}: no such file or folder{hint}")
    hub = _import("huggingface_hub")
    errors = _import("huggingface_hub.errors")
    try:
        path = Path(hub.hf_hub_download(match["repo"], FILE, revision=match["revision"]))
    except errors.GatedRepoError:
        raise UserError(f"{where}: its owner grants access on request; ask there first") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{where}: the hub knows no such repository, or asks for a token") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{where}: the repository has no such revision") from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(f"{where}: publishes no {FILE}, and nothing else is read") from None
    except Exception as error:  # the client's own, its HTTP library's, the disk's
        reason = " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__
        raise UserError(
            f"{where} cannot be fetched ({reason}); with no network, name a file that is here"
        ) from None
    try:
        hub.hf_hub_download(match["repo"], "config.json", revision=match["revision"])
    except Exception:  # not every publisher has one, and the weights can do without
        return path
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensors(path: Path) -> dict[str, np.ndarray]:
    safetensors = _import("safetensors")
    try:
        with safetensors.safe_open(path, "np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            if odd := sorted(name for name, kind in kinds.items() if kind == "BF16"):
                raise UserError(f"{path}: {odd[0]} is bfloat16; save it as float32 or float16")
            tensors = {name: file.get_tensor(name) for name in kinds}
    except UserError:
        raise
    except Exception as error:  # SafetensorError, and what NumPy has no type for
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not safetensors, cut short or damaged ({reason})") from None
    for name, tensor in tensors.items():
        if tensor.dtype.name in _FLOATS:
            tensors[name] = tensor.astype(np.float32, copy=False)
            if not np.isfinite(tensor).all():
                raise UserError(f"{path}: {name} has NaN or infinity in it")
    return tensors


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UserError(f"{package} is not installed: pip install 'jaxsound[hub]'") from None
