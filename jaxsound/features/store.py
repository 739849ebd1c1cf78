"""The feature store: every clip's frames, computed once and read through a memory map.

A store is a folder named by a hash of what its numbers depend on:

    frames.npy    [sum of lengths, M], a clip's frames after another's, in frontend.dtype
    offsets.npy   [N + 1] int64: clip i's frames are frames[offsets[i] : offsets[i + 1]]
    labels.npy, folds.npy    [N] int32
    groups.npy, clip_ids.npy    [N] fixed-width unicode
    clips.jsonl   a line for each clip: all of the above, its sample rate and its samples
    store.json    the frontend, the data set and the versions

While it is made it is called `<hash>.partial`, and clips.jsonl is its journal: it lists the clips
whose frames are on disk. A killed run goes on after the last of its lines, and the result is the
same byte for byte as if it had never stopped.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

import jaxsound
from jaxsound.bars import bar
from jaxsound.data.ahead import ahead
from jaxsound.data.dataset import Dataset
from jaxsound.errors import UserError
from jaxsound.features import clip
from jaxsound.features import frontend as front
from jaxsound.features.frontend import FrontendConfig

FORMAT = 1  # of the folder; raise it when what is written changes
_COMMIT_CLIPS = 32  # between two commits: what a kill can lose


@dataclasses.dataclass(frozen=True)
class Store:
    """An open store: N clips, M feature columns. `frames` is a read-only memory map."""

    path: Path
    frames: np.ndarray  # [sum of lengths, M] float16 or float32; samples are [..., 1] int16
    offsets: np.ndarray  # [N + 1] int64
    labels: np.ndarray  # [N] int32
    folds: np.ndarray  # [N] int32; 0 = only ever trains
    groups: np.ndarray  # [N] str
    clip_ids: np.ndarray  # [N] str
    class_names: tuple[str, ...]
    frontend: FrontendConfig
    publisher_folds: bool
    meta: dict[str, Any]  # the rest of store.json: name, note, left_out, citation, versions, ...
    sound: "Store | None" = None  # the same clips' samples, where training computes the features

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64, frames of each clip; at least 1."""
        return np.diff(self.offsets)

    @property
    def verified(self) -> np.ndarray:
        """[N] int8: whether a person has verified the label, 1 or 0; -1 where nothing is told."""
        lines = (self.path / "clips.jsonl").read_bytes().splitlines()
        told = [json.loads(line).get("manually_verified", -1) for line in lines]
        return np.array(told, np.int8)

    def __len__(self) -> int:
        return len(self.labels)


def precompute(
    dataset: Dataset, frontend: FrontendConfig, cache_dir: Path, progress: bool = True
) -> Store:
    """The data set's features, from `cache_dir` if they are there, else computed and kept there.

    Clips are decoded, resampled and transformed by a thread for each core, a few clips ahead of
    the writing, so memory does not grow with the data set. A process that finds another at work
    on the same store says so and waits for it.

    Args:
      dataset: its clips are read once, by index and from several threads.
      frontend: what to compute.
      cache_dir: the store is `cache_dir/features/<hash>`.
      progress: whether to draw a bar with clips/s on stderr.

    Raises:
      UserError: no clips, a folder that cannot be written, or a broken store.
    """
    if not len(dataset.clips):
        raise UserError(f"data set {dataset.name} has no clips to prepare")

    def fill(partial: Path) -> None:
        _compute(dataset, frontend, partial, progress)

    return _made(dataset, frontend, cache_dir, fill)


def assemble(
    dataset: Dataset,
    frontend: FrontendConfig,
    cache_dir: Path,
    parts: Iterable[tuple[np.ndarray, list[dict[str, Any]]]],
) -> Store:
    """The store of parts that were computed elsewhere, byte for byte what `precompute` makes.

    Args:
      dataset: its `clips` are not read.
      frontend: what was computed.
      cache_dir: as `precompute` has it.
      parts: in the order of clips: frames `[sum of lengths, M]` in `frontend.dtype`, one clip's
        after another's, and the lines of `clip.transform`.

    Raises:
      UserError: a folder that cannot be written, or a broken store.
    """

    def fill(partial: Path) -> None:
        for name in ("frames.npy", "clips.jsonl"):
            (partial / name).unlink(missing_ok=True)
        _recover(partial, frontend)
        for frames, lines in parts:
            with _writing(partial):
                _commit(partial, [frames], lines)

    return _made(dataset, frontend, cache_dir, fill)


def place(fingerprint: str, frontend: FrontendConfig, cache_dir: Path) -> Path:
    """Where the store of a data set of this fingerprint is, or would be."""
    return Path(cache_dir).expanduser() / "features" / _key(fingerprint, frontend)


def _made(
    dataset: Dataset, frontend: FrontendConfig, cache_dir: Path, fill: Callable[[Path], None]
) -> Store:
    path = place(dataset.fingerprint, frontend, cache_dir)
    if path.exists():
        return open_store(path)
    partial = path.with_name(path.name + ".partial")
    with _locked(path.with_name(path.name + ".lock"), dataset.name):
        if not path.exists():
            with _writing(path.parent):
                partial.mkdir(exist_ok=True)
            fill(partial)
            _finish(dataset, frontend, partial)
            with _writing(path.parent):
                partial.rename(path)
    return open_store(path)


def open_store(path: Path) -> Store:
    """Opens a complete store; raises `UserError` if it is absent, broken or of another format."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no feature store at {path}")
    try:
        meta = _load_meta(path)
        frontend = FrontendConfig(**meta["frontend"])
        arrays: dict[str, Any] = {name: _load(path, name) for name in ("offsets", *_COLUMNS)}
        frames = _load(path, "frames", "r")
        clips = len(arrays["offsets"]) - 1
        expected = (arrays["offsets"][-1], frontend.features)
        if frames.shape != expected or frames.dtype != frontend.dtype:
            raise ValueError(f"frames.npy: {frames.shape} {frames.dtype}, expected {expected}")
        if any(len(arrays[name]) != clips for name in _COLUMNS):
            raise ValueError("arrays of different lengths")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"feature store {path} is broken ({reason}): delete it to prepare again"
        ) from error
    return Store(
        path=path,
        frames=frames,
        **arrays,
        class_names=tuple(meta.pop("class_names")),
        frontend=frontend,
        publisher_folds=meta.pop("publisher_folds"),
        meta=meta,
    )


# Column of a store -> (key of a record and of a journal line, dtype).
_COLUMNS = {
    "labels": ("label", np.int32),
    "folds": ("fold", np.int32),
    "groups": ("group", np.str_),
    "clip_ids": ("clip_id", np.str_),
}


def _load_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads((path / "store.json").read_bytes())
    except ValueError as error:
        raise ValueError("store.json is cut short or damaged") from error
    if meta.get("format") != FORMAT:
        raise ValueError(f"store.json: format {meta.get('format')}, this version reads {FORMAT}")
    return meta


def _load(path: Path, name: str, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    try:
        return np.load(path / f"{name}.npy", mmap_mode=mmap_mode, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{name}.npy is cut short or damaged") from error


def _key(fingerprint: str, frontend: FrontendConfig) -> str:
    """32 hex digits of all that the numbers depend on."""
    parts = {
        "frontend": _fields(frontend),
        "fingerprint": fingerprint,
        "format": FORMAT,
        "frontend_version": front.VERSION,
        "soxr": importlib.metadata.version("soxr"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _fields(frontend: FrontendConfig) -> dict[str, Any]:
    """The frontend as stores have it that were made before there was a choice of ends."""
    fields = dataclasses.asdict(frontend)
    return {key: fields[key] for key in fields if key != "ends" or fields[key] != "zero"}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Failures to write, as one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write features to {folder} ({error.strerror or error}): make room there, or "
            "set data.cache_dir (or JAXSOUND_CACHE) to another folder"
        ) from error


@contextlib.contextmanager
def _locked(file: Path, name: str) -> Iterator[None]:
    """Holds the lock, which the system drops when this process ends, however it ends."""
    with _writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("w")
    with handle:
        with _writing(file.parent):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process at the features of {name}", file=sys.stderr)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compute(dataset: Dataset, frontend: FrontendConfig, partial: Path, progress: bool) -> None:
    """Appends the frames of every clip that the journal does not list yet."""
    with _writing(partial):
        done = _recover(partial, frontend)
    total = len(dataset.clips)
    work = ahead(lambda index: clip.transform(frontend, dataset.clips[index]), range(done, total))
    written = bar(
        desc=f"features of {dataset.name}",
        total=total,
        initial=done,
        unit="clip",
        disable=not progress,
    )
    with contextlib.closing(work) as results, written:
        while batch := list(itertools.islice(results, _COMMIT_CLIPS)):
            with _writing(partial):
                _commit(partial, (frames for frames, _ in batch), (line for _, line in batch))
            written.update(len(batch))


def _header(frontend: FrontendConfig, rows: int) -> bytes:
    """The start of frames.npy. numpy pads it so that its size is the same for any `rows`."""
    file = io.BytesIO()
    dtype = np.lib.format.dtype_to_descr(np.dtype(frontend.dtype))
    shape = (rows, frontend.features)
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def _recover(partial: Path, frontend: FrontendConfig) -> int:
    """Cuts both files back to the last clip that is whole in both; returns how many there are."""
    frames, journal = partial / "frames.npy", partial / "clips.jsonl"
    header = _header(frontend, 0)
    row_bytes = frontend.features * np.dtype(frontend.dtype).itemsize
    written = frames.stat().st_size if frames.exists() else 0
    text = journal.read_bytes() if journal.exists() else b""
    clips, kept, size = 0, 0, len(header)
    for line in text.splitlines(keepends=True):
        grown = size + _frames_of(line) * row_bytes
        if grown == size or grown > written:
            break
        clips, kept, size = clips + 1, kept + len(line), grown
    with frames.open("ab") as file:
        file.truncate(size if clips else 0)
        if not clips:
            file.write(header)
    with journal.open("ab") as file:
        file.truncate(kept)
    return clips


def _frames_of(line: bytes) -> int:
    """Frames that a journal line tells of; 0 for a line that was cut short."""
    try:
        return json.loads(line)["frames"] if line.endswith(b"\n") else 0
    except (ValueError, KeyError, TypeError):
        return 0


def _commit(partial: Path, frames: Iterable[np.ndarray], lines: Iterable[dict[str, Any]]) -> None:
    """Frames reach the disk before the journal says so."""
    with (partial / "frames.npy").open("ab") as file:
        file.writelines(part.tobytes() for part in frames)
        _sync(file)
    with (partial / "clips.jsonl").open("ab") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in lines)
        _sync(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _finish(dataset: Dataset, frontend: FrontendConfig, partial: Path) -> None:
    """Writes all but the frames, and how many of them there are."""
    with _writing(partial):
        journal = (partial / "clips.jsonl").read_bytes().splitlines()
        lines = [json.loads(line) for line in journal]
        offsets = np.cumsum([0, *(line["frames"] for line in lines)], dtype=np.int64)
        with (partial / "frames.npy").open("r+b") as file:
            file.write(_header(frontend, int(offsets[-1])))
            _sync(file)
        np.save(partial / "offsets.npy", offsets)
        for name, (key, dtype) in _COLUMNS.items():
            np.save(partial / f"{name}.npy", np.array([line[key] for line in lines], dtype))
        text = json.dumps(_describe(dataset, frontend, lines), indent=2)
        (partial / "store.json").write_text(text + "\n", encoding="utf-8")


def _describe(
    dataset: Dataset, frontend: FrontendConfig, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    seconds = np.array([line["samples"] / line["sample_rate"] for line in lines])
    rates = collections.Counter(line["sample_rate"] for line in lines)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "numpy", "soxr")}
    return {
        "format": FORMAT,
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "frontend": _fields(frontend),
        "class_names": list(dataset.class_names),
        "publisher_folds": dataset.publisher_folds,
        "left_out": list(dataset.left_out),
        "note": dataset.note,
        "citation": dataset.citation,
        "licence": dataset.licence,
        "homepage": dataset.homepage,
        "source_rates": {str(rate): rates[rate] for rate in sorted(rates)},  # Hz -> clips
        "clip_seconds": {
            "min": float(seconds.min()),
            "mean": float(seconds.mean()),
            "max": float(seconds.max()),
            "total": float(seconds.sum()),
        },
        "versions": {
            "jaxsound": jaxsound.__version__,
            "frontend": front.VERSION,
            **versions,
        },
    }
