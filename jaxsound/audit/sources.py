"""What is audited: a data set as its config names it, or a folder or CSV of recordings."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxsound import places
from jaxsound.cache import cache_root
from jaxsound.data import audio_folder, dataset, folds
from jaxsound.data.builder import Clip, Listing, Options, Report
from jaxsound.data.synthetic import Sound
from jaxsound.errors import UserError


class Source(Protocol):
    """One clip: `jaxsound.data.builder.Clip`, or a record of a prepared data set."""

    @property
    def clip_id(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def fold(self) -> int: ...
    def read(self) -> tuple[np.ndarray, int]:
        """`(int16 [n] mono, rate in Hz)`; raises `AudioError`."""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The clips to audit. `files` is False where only decoded records are left."""

    title: str
    class_names: tuple[str, ...]
    clips: tuple[Source, ...]
    publisher_folds: bool
    files: bool
    missing: tuple[Report, ...] = ()  # listed by the metadata, absent from the disk
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """A clip of a data set that was downloaded: decoded already, its file gone."""

    clip_id: str
    label: int
    group: str
    fold: int
    records: Sequence[dataset.Record]
    place: int

    def read(self) -> tuple[np.ndarray, int]:
        record = self.records[self.place]
        return np.asarray(record["audio"]), int(record["sample_rate"])


def from_config(data: Any) -> Catalogue:
    """The data set that `config.data` names; one that is not on disk is downloaded and prepared.

    A copy that is not whole is audited as far as it goes, whatever `data.partial` says.
    """
    builder_class = dataset.DATASETS[data.name]
    if data.name == "audio_folder" and data.manual_dir:
        return from_folder(_folder(data), int(data.make_folds))
    if data.manual_dir or not builder_class.ARCHIVES:
        options = Options(data.subset, True, "skip", int(data.make_folds))
        listing = builder_class.list_clips(_folder(data), options)
        return _catalogue(f"{builder_class.TITLE} {data.subset}".strip(), listing)
    prepared = dataset.prepare(data)
    clips = tuple(
        Record(
            record["clip_id"],
            int(record["label"]),
            record["group"],
            int(record["fold"]),
            prepared.clips,
            place,
        )
        for place, record in enumerate(prepared.clips)
    )
    return Catalogue(
        f"{builder_class.TITLE} {data.subset}".strip(),
        prepared.class_names,
        clips,
        prepared.publisher_folds,
        files=False,
        missing=prepared.left_out,
        note=prepared.note,
    )


def _folder(data: Any) -> Path:
    return places.local(data.manual_dir, cache_root(data.cache_dir))


def from_folder(path: Path, make_folds: int = 5) -> Catalogue:
    """A folder with a folder per class, or a CSV, as `jaxsound.data.audio_folder` reads it.

    What training refuses (a class of one clip, a source in two folds) is taken here and reported.
    Raises `UserError` where there is nothing to read.
    """
    if path.is_dir():
        labelled, own_folds = audio_folder.from_folders(path), False
    elif path.is_file():
        labelled, own_folds = audio_folder.from_csv(path)
    else:
        raise UserError(f"{path}: no such folder or CSV")
    names = sorted({label for _, label in labelled})
    clips = [dataclasses.replace(clip, label=names.index(label)) for clip, label in labelled]
    groups = [clip.group for clip in clips]
    if not own_folds and len(set(groups)) > 1:
        made = folds.assign(
            [clip.label for clip in clips], groups, min(make_folds, len(set(groups)))
        )
        clips = [
            dataclasses.replace(clip, fold=int(fold))
            for clip, fold in zip(clips, made, strict=True)
        ]
    return _catalogue(str(path), Listing(tuple(clips), tuple(names), publisher_folds=False))


def file_of(clip: Source) -> Path | None:
    """The recording's file; None for one that is computed or prepared."""
    return clip.path if isinstance(clip, Clip) and not isinstance(clip, Sound) else None


def _catalogue(title: str, listing: Listing) -> Catalogue:
    return Catalogue(
        title,
        listing.class_names,
        listing.clips,
        listing.publisher_folds,
        files=any(file_of(clip) for clip in listing.clips[:1]),
        missing=listing.missing,
        note=listing.note,
    )
