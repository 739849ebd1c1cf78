"""Anyone's own recordings: a folder per class, or a CSV that lists them."""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from jaxsound.data import folds
from jaxsound.data.audio import SUFFIXES, printable
from jaxsound.data.builder import Builder, Clip, Listing, Options, read_csv
from jaxsound.errors import UserError

UNLABELLED = "unlabelled"  # the one class of recordings whose labels nobody looks at


class AudioFolder(Builder):
    """`manual_dir` is a folder with a folder per class, searched recursively, or a CSV.

    The CSV has columns `path` (relative to the CSV, or absolute) and `label`, and may have
    `fold` (1, 2, ..., or 0 for clips that only ever train), `group` (the source recording; by
    default the file) and `start` and `end` (seconds of the file). Class names are sorted. Without
    folds, `make_folds` stratified ones are made that divide no group.

    With `unlabelled` folders are no classes: every recording at any depth counts, a CSV needs no
    `label`, and all are of one class, `UNLABELLED`.
    """

    TITLE = "audio folder"
    HOMEPAGE = ""
    LICENCE = "the owner's"
    CITATION = ""

    @classmethod
    def list_clips(cls, folder: Path, options: Options) -> Listing:
        if folder == Path():
            raise UserError(
                "data.manual_dir is empty: give a folder with a folder per class, or a CSV with "
                "columns path and label, with --config.data.manual_dir=DIR"
            )
        if folder.is_dir() and options.unlabelled:
            labelled, own_folds = from_anywhere(folder), False
        elif folder.is_dir():
            labelled, own_folds = from_folders(folder), False
        elif folder.is_file():
            labelled, own_folds = from_csv(folder, labels=not options.unlabelled)
        else:
            raise UserError(f"data.manual_dir={folder}: no such folder or CSV")
        names = sorted({label for _, label in labelled})
        clips = [dataclasses.replace(clip, label=names.index(label)) for clip, label in labelled]
        if not options.unlabelled:
            _check_classes(clips, names, folder)
        if own_folds:
            _check_folds(clips, folder)
        else:
            made = folds.assign(
                [clip.label for clip in clips], [clip.group for clip in clips], options.make_folds
            )
            clips = [
                dataclasses.replace(clip, fold=int(fold))
                for clip, fold in zip(clips, made, strict=True)
            ]
        return Listing(tuple(clips), tuple(names), publisher_folds=False)


def from_folders(root: Path) -> list[tuple[Clip, str]]:
    try:
        classes = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError as error:
        raise _unreadable(error) from error
    if len(classes) < 2:
        raise UserError(
            f"{root}: {len(classes)} class folders in it; classification takes at least 2; "
            "what has no labels takes --config.task=reconstruction --config.data.unlabelled=True"
        )
    labelled = []
    for folder in classes:
        files = sorted(_recordings(folder))
        if not files:
            raise UserError(
                f"{folder}: the class is empty (no recordings in it); fill it or remove it"
            )
        for path in files:
            name = printable(path.relative_to(root))
            labelled.append((Clip(path, name, 0, name, 0), printable(folder.name)))
    return labelled


def from_anywhere(root: Path) -> list[tuple[Clip, str]]:
    paths = sorted(_recordings(root))
    if not paths:
        raise UserError(f"{root}: no recordings in it")
    names = [printable(path.relative_to(root)) for path in paths]
    clips = (Clip(path, name, 0, name, 0) for path, name in zip(paths, names, strict=True))
    return [(clip, UNLABELLED) for clip in clips]


def _recordings(folder: Path) -> Iterator[Path]:
    """What has a recording's name, at any depth: pipes and broken links too, to be told of."""

    def stop(error: OSError) -> None:
        raise _unreadable(error) from error

    for place, _, names in os.walk(folder, onerror=stop):
        for path in (Path(place, name) for name in names if name[0] != "."):
            if path.suffix.lower() in SUFFIXES:
                yield path


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{printable(error.filename)}: the folder cannot be read ({error.strerror})")


def from_csv(table: Path, *, labels: bool = True) -> tuple[list[tuple[Clip, str]], bool]:
    rows = read_csv(table, ("path", "label") if labels else ("path",))
    own_folds = "fold" in rows[0]
    labelled, seen = [], set()
    for line, row in enumerate(rows, start=2):
        where = f"{table}, line {line}"
        cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        cells |= {} if labels else {"label": UNLABELLED}
        clip = _clip(cells, table.parent, where, own_folds)
        if clip.clip_id in seen:
            raise UserError(f"{where}: {clip.clip_id} is listed twice")
        seen.add(clip.clip_id)
        labelled.append((clip, cells["label"]))
    return labelled, own_folds


def _clip(cells: dict[str, str], root: Path, where: str, own_folds: bool) -> Clip:
    for column in ("path", "label"):
        if not cells[column]:
            raise UserError(f"{where}: the {column} is empty")
    path = root / cells["path"]
    if not path.is_file():
        raise UserError(f"{where}: no such file: {printable(path)}")
    start, end = (_seconds(cells.get(column, ""), column, where) for column in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: end={end} s is not after start={start or 0.0} s")
    span = (
        ""
        if start is None and end is None
        else f"#{start or 0.0:g}-{'' if end is None else f'{end:g}'}"
    )
    fold = 0
    if own_folds:
        if not cells["fold"].isdecimal():
            raise UserError(
                f"{where}: fold {cells['fold']!r} is not a fold number (1, 2, ...; 0 only trains)"
            )
        fold = int(cells["fold"])
    group = cells.get("group") or cells["path"]
    return Clip(path, cells["path"] + span, 0, group, fold, start, end)


def _seconds(text: str, column: str, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise UserError(f"{where}: {column}={text!r} is not a time in seconds")
    return seconds


def _check_classes(clips: list[Clip], names: list[str], source: Path) -> None:
    if len(names) < 2:
        raise UserError(f"{source}: one class only ({names[0]}); classification takes at least 2")
    sources = defaultdict(set)
    for clip in clips:
        sources[clip.label].add(clip.group)
    for label, name in enumerate(names):
        if len(sources[label]) < 2:
            raise UserError(
                f"{source}: class {name!r} has clips of one source recording only; it takes 2 to "
                "train on one and test on another: add recordings or leave the class out"
            )


def _check_folds(clips: list[Clip], table: Path) -> None:
    numbers = [clip.fold for clip in clips]
    if len(set(numbers)) < 2 or set(numbers) == {folds.ONLY_TRAINS}:
        raise UserError(f"{table}: every clip is in fold {numbers[0]}; it takes at least 2 folds")
    crossing = folds.crossings(
        [clip.label for clip in clips], numbers, [clip.group for clip in clips]
    )
    if crossing:
        raise UserError(f"{table}: {folds.leak(crossing[0])}")
