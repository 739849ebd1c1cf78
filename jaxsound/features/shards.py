"""A feature store made in pieces, by any number of machines, in any order.

A folder that all of them see, such as one at a gs:// address, holds for each piece K

    clips-K.jsonl    its clips, a line for each, written first
    part-K.frames    the frames of those that can be read, one clip's after another's
    part-K.json      their lines of the store, and the broken clips; with it a piece is done

A piece that is made again comes out the same, so what was begun is gone on with.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsound import places
from jaxsound.data.audio import AudioError
from jaxsound.data.builder import Clip, allow, without
from jaxsound.data.dataset import Dataset, Source
from jaxsound.data.synthetic import Sound
from jaxsound.errors import UserError
from jaxsound.features import store
from jaxsound.features.clip import transform
from jaxsound.features.frontend import FrontendConfig

_KINDS: dict[str, type[Clip]] = {kind.__name__: kind for kind in (Clip, Sound)}


def lay_out(
    folder: str, clips: Sequence[Clip], size: int, root: Path | None = None, address: str = ""
) -> int:
    """Writes what each piece is to be made of.

    Args:
      folder: address or path.
      clips: in the order of the listing.
      size: clips of a piece.
      root: where the clips lie here, if workers are to fetch them from an address.
      address: of what `root` is a copy of.

    Returns:
      How many pieces there are.
    """
    # A store has its clips by fold, and within a fold as they are listed.
    order = sorted(range(len(clips)), key=lambda index: clips[index].fold)
    starts = range(0, len(order), size)
    for number, start in enumerate(starts):
        lines = []
        for index in order[start : start + size]:
            clip = clips[index]
            path = f"{address}/{clip.path.relative_to(root).as_posix()}" if root else str(clip.path)
            fields = dataclasses.asdict(clip) | {"path": path}
            lines.append({"kind": type(clip).__name__, "index": index} | fields)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        places.write(_file(folder, "clips", number, "jsonl"), text.encode())
    return len(starts)


def make(folder: str, frontend: FrontendConfig, number: int) -> None:
    """Makes one piece, unless it is there."""
    done = _file(folder, "part", number, "json")
    if places.exists(done):
        return
    frames, lines, broken = [], [], []
    for index, clip, path in _clips(folder, number):
        try:
            with _on_disk(path) as file:
                record = dataclasses.replace(clip, path=file).record()
        except AudioError as error:
            broken.append({"index": index, "clip": clip.clip_id, "reason": error.reason})
            continue
        part, line = transform(frontend, record)
        frames.append(part.tobytes())
        lines.append(line)
    places.write(_file(folder, "part", number, "frames"), b"".join(frames))
    places.write(done, json.dumps({"lines": lines, "broken": broken}).encode())


def gather(
    folder: str,
    count: int,
    source: Source,
    name: str,
    frontend: FrontendConfig,
    cache_dir: Path,
) -> store.Store:
    """The store of all pieces, byte for byte what `store.precompute` makes on one machine.

    Args:
      folder: address or path.
      count: of pieces, all of them made.
      source: whose listing was laid out.
      name: `config.data.name`.
      frontend: what was computed.
      cache_dir: where the store is kept; a disk of this machine.

    Raises:
      UserError: broken recordings where `on_bad` is "stop", or no others; or a piece is damaged.
    """
    listing, builder = source.listing, source.builder_class
    assert listing is not None
    found = [clip for number in range(count) for clip in _part(folder, number)["broken"]]
    found.sort(key=lambda clip: clip["index"])
    broken = [{"clip": clip["clip"], "reason": clip["reason"]} for clip in found]
    allow(broken, len(listing.clips), source.options.on_bad)
    without(listing, broken, builder.TITLE)
    dataset = Dataset(
        name=name,
        class_names=listing.class_names,
        fingerprint=source.fingerprint,
        clips=(),
        publisher_folds=listing.publisher_folds,
        left_out=(*listing.missing, *broken),
        note=listing.note,
        citation=builder.CITATION,
        licence=builder.LICENCE,
        homepage=builder.HOMEPAGE,
    )
    return store.assemble(dataset, frontend, cache_dir, _parts(folder, count, frontend))


def _parts(
    folder: str, count: int, frontend: FrontendConfig
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    for number in range(count):
        lines, file = _part(folder, number)["lines"], _file(folder, "part", number, "frames")
        content, wanted = places.read(file), (sum(x["frames"] for x in lines), frontend.features)
        if len(content) != wanted[0] * wanted[1] * np.dtype(frontend.dtype).itemsize:
            raise UserError(f"{file} is damaged: delete {folder} and start again")
        yield np.frombuffer(content, frontend.dtype).reshape(wanted), lines


def _part(folder: str, number: int) -> dict[str, Any]:
    part: dict[str, Any] = json.loads(places.read(_file(folder, "part", number, "json")))
    return part


def _clips(folder: str, number: int) -> Iterator[tuple[int, Clip, str]]:
    """The clips of a piece, with their places in the listing and where their files are."""
    for line in places.read(_file(folder, "clips", number, "jsonl")).splitlines():
        fields = json.loads(line)
        kind, index, path = _KINDS[fields.pop("kind")], fields.pop("index"), fields["path"]
        yield index, kind(**fields | {"path": Path(path)}), path


@contextlib.contextmanager
def _on_disk(path: str) -> Iterator[Path]:
    """A file's own path; of an address, that of a copy, while it lasts."""
    if not places.is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="jaxsound_") as folder:
        copy = Path(folder, path.rpartition("/")[2])
        copy.write_bytes(places.read(path))
        yield copy


def _file(folder: str, kind: str, number: int, suffix: str) -> str:
    return f"{folder}/{kind}-{number:06d}.{suffix}"
