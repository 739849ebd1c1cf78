"""What a data set is to the rest of the house, and how one is prepared."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tensorflow_datasets.core import file_adapters

from jaxsound import places
from jaxsound.cache import cache_root
from jaxsound.data import audio_folder, esc50, fsdkaggle2018, synthetic, urbansound8k
from jaxsound.data.builder import Builder, Config, Listing, Options, digest, quiet
from jaxsound.errors import UserError

Record = dict[str, Any]

DATASETS: dict[str, type[Builder]] = {
    "esc50": esc50.Esc50,
    "urbansound8k": urbansound8k.UrbanSound8k,
    "fsdkaggle2018": fsdkaggle2018.FsdKaggle2018,
    "audio_folder": audio_folder.AudioFolder,
    "synthetic": synthetic.Synthetic,
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared data set: every clip decoded once, on disk, found again by its fingerprint.

    A record is `{clip_id: str, audio: int16 [n] mono at its native rate, sample_rate: int (Hz),
    label: int, group: str, fold: int, manually_verified: int}`; the last is 1, 0, or -1 where the
    publisher does not tell.
    """

    name: str
    class_names: tuple[str, ...]
    fingerprint: str  # changes with the content and with the options that shape it
    clips: Sequence[Record]  # random access, decoded when asked for
    publisher_folds: bool  # True: crossings are the publisher's, and listed; False: ours, and raise
    left_out: tuple[dict[str, str], ...]  # {"clip", "reason"} of the broken and the missing
    note: str  # "" or one sentence, such as "partial copy: 400 of 2000 clips"
    citation: str
    licence: str
    homepage: str


class Records(Sequence[Record]):
    """The records of a list of TFDS data sources, one after another."""

    def __init__(self, sources: list[Any]) -> None:
        self._sources = sources
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        index = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        part = int(np.searchsorted(self._ends, index, side="right"))
        source = self._sources[part]
        record = source[index - int(self._ends[part]) + len(source)]
        return {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in record.items()
        }


@dataclasses.dataclass(frozen=True)
class Source:
    """What `config.data` names, before anything is decoded."""

    builder_class: type[Builder]
    options: Options
    listing: Listing | None  # None where the files are to be downloaded
    fingerprint: str


def find(data: Any) -> Source:
    """Lists what `data` names; nothing is decoded or downloaded.

    Args:
      data: as `prepare` takes it.

    Raises `UserError` for a name or option that is not known, or a copy that is missing or not
    whole.
    """
    builder_class, options = _checked(data)
    folder = places.local(data.manual_dir, cache_root(data.cache_dir)) if data.manual_dir else None
    if folder or not builder_class.ARCHIVES:
        try:
            listing = builder_class.list_clips(folder or Path(), options)
            files = [clip.identity() for clip in listing.clips]
        except OSError as error:
            raise UserError(f"data.manual_dir={folder}: cannot be read ({error})") from error
        source = (listing.class_names, listing.missing, files)
    else:
        listing, source = None, builder_class.archive_key()
    shaping = (options.subset, options.partial, options.on_bad, 0)  # labels and folds: in source
    fingerprint = digest(str(builder_class.VERSION), source, shaping)
    return Source(builder_class, options, listing, fingerprint)


def prepare(data: Any, source: Source | None = None) -> Dataset:
    """Finds or downloads the data set that `data` names, checks it and decodes it, once.

    Args:
      data: an object with the attributes `name`, `manual_dir`, `cache_dir`, `subset`, `partial`,
        `on_bad`, `make_folds` and, where it has one, `unlabelled` of `config.data`.
      source: what `find` has found, if it was asked before.

    Raises `UserError` for a name or option that is not known, a copy that is missing or not
    whole, a download that fails or is not the publisher's, and broken recordings. A failure or a
    kill leaves nothing that looks complete.
    """
    source, cache = source or find(data), cache_root(data.cache_dir)
    builder_class = source.builder_class
    config = Config(
        source.fingerprint,
        str(builder_class.VERSION),
        options=source.options,
        listing=source.listing,
    )

    def builder() -> Builder:
        return builder_class(data_dir=cache / "datasets", config=config, file_format="array_record")

    try:
        with quiet():
            if not builder().data_path.exists():
                with _alone(cache, builder_class.name):
                    _build(builder(), cache)
            return _open(data.name, builder())
    except OSError as error:
        raise UserError(f"data.cache_dir={cache}: cannot prepare data there ({error})") from error


def _checked(data: Any) -> tuple[type[Builder], Options]:
    if data.name not in DATASETS:
        raise UserError(f"data.name={data.name!r} is not known; there are {', '.join(DATASETS)}")
    builder_class = DATASETS[data.name]
    if data.subset and data.subset not in builder_class.SUBSETS:
        known = ", ".join(map(repr, ("", *builder_class.SUBSETS)))
        raise UserError(f"data.subset={data.subset!r} is not in {data.name}; there is {known}")
    if data.on_bad not in ("stop", "skip"):
        raise UserError(f"data.on_bad={data.on_bad!r} is not known; there are 'stop' and 'skip'")
    options = Options(
        subset=data.subset,
        partial=bool(data.partial),
        on_bad=data.on_bad,
        make_folds=int(data.make_folds),
        unlabelled=bool(getattr(data, "unlabelled", False)),
    )
    return builder_class, options


def _build(builder: Builder, cache: Path) -> None:
    if builder.data_path.exists():  # another process has prepared it meanwhile
        return
    with _quick_records():
        builder.download_and_prepare(
            download_dir=cache / "downloads",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


class _Records(file_adapters.ArrayRecordFileAdapter):
    """ArrayRecord files packed by Snappy.

    Sound hardly shrinks: the usual packing takes seven times as long, longer than decoding, and
    its files are a seventh smaller.
    """

    @classmethod
    def write_examples(cls, path: epath.PathLike, iterator: Iterable[tuple[Any, bytes]]) -> None:
        writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1,snappy")
        for _, example in iterator:
            writer.write(example)
        writer.close()


@contextlib.contextmanager
def _quick_records() -> Iterator[None]:
    adapters, kind = file_adapters.ADAPTER_FOR_FORMAT, file_adapters.FileFormat.ARRAY_RECORD
    usual = adapters[kind]
    adapters[kind] = _Records
    try:
        yield
    finally:
        adapters[kind] = usual


def _open(name: str, builder: Builder) -> Dataset:
    kept = builder.info.metadata
    return Dataset(
        name=name,
        class_names=tuple(kept["class_names"]),
        fingerprint=builder.builder_config.name,
        clips=Records([builder.as_data_source(split=split) for split in kept["splits"]]),
        publisher_folds=kept["publisher_folds"],
        left_out=tuple(kept["left_out"]),
        note=kept["note"],
        citation=builder.CITATION,
        licence=builder.LICENCE,
        homepage=builder.HOMEPAGE,
    )


@contextlib.contextmanager
def _alone(cache: Path, name: str) -> Iterator[None]:
    """One process prepares, the others wait and find it done; a killed one's leavings go."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f".{name}.lock", "w") as lock:
        with contextlib.suppress(ImportError):
            import fcntl  # not on Windows, where processes must not prepare at once

            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in (cache / "datasets" / name).glob("*/incomplete.*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
