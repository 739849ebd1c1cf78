"""What every data set here shares: clips are listed, checked, then written by TFDS.

A data set is a `tfds.core.GeneratorBasedBuilder` that says where its files come from and what its
metadata lists. `dataset.prepare` chooses the folder that the result is kept in.
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tqdm import tqdm

from jaxsound.bars import bar
from jaxsound.data import audio, download
from jaxsound.data.ahead import ahead
from jaxsound.errors import UserError

Report = dict[str, str]  # {"clip": relative path or id, "reason": one line}


@dataclasses.dataclass(frozen=True)
class Clip:
    """One recording as the metadata has it; `start` and `end` (seconds) cut a part out of it.

    `verified` is 1 where the publisher has checked the label by hand, 0 where he has not, and -1
    where he does not tell.
    """

    path: Path
    clip_id: str  # unique in its data set, the same wherever the files lie
    label: int
    group: str
    fold: int
    start: float | None = None
    end: float | None = None
    verified: int = -1

    def read(self) -> tuple[np.ndarray, int]:
        """`(int16 [n] mono, sample rate)`; raises `AudioError`."""
        return audio.read(self.path, self.start, self.end)

    def check(self) -> None:
        """Raises the `AudioError` that `read` would raise."""
        audio.check(self.path, self.start, self.end)

    def record(self) -> dict[str, Any]:
        """All of it, decoded, as `dataset.Dataset` describes records; raises as `read` does."""
        samples, rate = self.read()
        return {
            "clip_id": self.clip_id,
            "audio": samples,
            "sample_rate": rate,
            "label": self.label,
            "group": self.group,
            "fold": self.fold,
            "manually_verified": self.verified,
        }

    def identity(self) -> tuple[Any, ...]:
        """What a prepared copy depends on, the folder that the files lie in apart."""
        try:
            file = self.path.stat()
        except OSError:  # a link to nothing, say: broken, and listed with the others
            file = self.path.lstat()
        span = (self.start, self.end)
        return (
            self.clip_id,
            self.label,
            self.group,
            self.fold,
            self.verified,
            *span,
            file.st_size,
            file.st_mtime_ns,
        )


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a copy on disk holds."""

    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]
    publisher_folds: bool = True
    missing: tuple[Report, ...] = ()  # listed by the metadata, absent from the disk
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Options:
    """The keys of `config.data` that shape what is prepared."""

    subset: str = ""
    partial: bool = False
    on_bad: str = "stop"
    make_folds: int = 5
    unlabelled: bool = False


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """`name` is the fingerprint. `listing` is None where the builder downloads the files."""

    options: Options = Options()
    listing: Listing | None = None


class Info(tfds.core.DatasetInfo):
    """Of data sets that are in no bucket of TFDS's."""

    def initialize_from_bucket(self) -> None:
        """Does nothing: TFDS would ask its server, and leave an empty folder at every start."""


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the data sets. A record is what `jaxsound.data.dataset.Dataset` describes."""

    VERSION = tfds.core.Version("1.1.0")
    # Where TFDS looks for checksums.tsv; its own search needs a package that it does not install.
    code_path = epath.Path(__file__)
    TITLE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENCE: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    SUBSETS: ClassVar[tuple[str, ...]] = ()
    ARCHIVES: ClassVar[dict[str, str]] = {}  # address -> MD5; "" = SHA-256 in checksums.tsv

    @classmethod
    def list_clips(cls, folder: Path, options: Options) -> Listing:
        """What the copy in `folder` holds; raises `UserError` when it is not whole."""
        raise NotImplementedError

    @staticmethod
    def split_name(fold: int) -> str:
        return f"fold_{fold}"

    @classmethod
    def archive_key(cls) -> tuple[Any, ...]:
        """What a download's content is known by."""
        known = {url: info.asdict() for url, info in (cls.url_infos or {}).items()}
        return tuple((url, md5, known.get(url)) for url, md5 in cls.ARCHIVES.items())

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "clip_id": tfds.features.Text(),
            # Raw bytes: 18 times faster to write than TFDS's default, and 9 times to read.
            "audio": tfds.features.Tensor(
                shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
            ),
            "sample_rate": tfds.features.Scalar(np.int64),
            "label": tfds.features.Scalar(np.int64),
            "group": tfds.features.Text(),
            "fold": tfds.features.Scalar(np.int64),
            "manually_verified": tfds.features.Scalar(np.int64),
        }
        return Info(
            builder=self,
            description=self.TITLE,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(),
            citation=self.CITATION,
            homepage=self.HOMEPAGE,
            license=self.LICENCE,
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        options = self.builder_config.options
        listing = self.builder_config.listing
        if listing is None:
            listing = self.list_clips(download.fetch(self, dl_manager), options)
        broken = scan(listing.clips, options.on_bad, self.TITLE)
        clips = without(listing, broken, self.TITLE)
        folds = sorted({clip.fold for clip in clips})
        self.info.metadata.update(
            class_names=listing.class_names,
            publisher_folds=listing.publisher_folds,
            left_out=[*listing.missing, *broken],
            note=listing.note,
            splits=[self.split_name(fold) for fold in folds],
        )
        written = bar(total=len(clips), desc=f"writing {self.TITLE}", unit="clip")
        return {
            self.split_name(fold): self._generate_examples(
                [clip for clip in clips if clip.fold == fold], written
            )
            for fold in folds
        }

    def _generate_examples(
        self, clips: list[Clip], written: tqdm
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in ahead(lambda clip: clip.record(), clips):
            yield record["clip_id"], record
            written.update()
            if written.n == written.total:
                written.close()


def scan(clips: Iterable[Clip], on_bad: str, title: str) -> list[Report]:
    """Decodes every clip once, on all cores, and returns the broken ones ("skip") or raises."""
    clips = list(clips)

    def check(clip: Clip) -> Report | None:
        try:
            clip.check()
        except audio.AudioError as error:
            return {"clip": clip.clip_id, "reason": error.reason}
        return None

    with bar(total=len(clips), desc=f"checking {title}", unit="clip") as checked:
        broken = []
        for report in ahead(check, clips):
            checked.update()
            if report:
                broken.append(report)
    allow(broken, len(clips), on_bad)
    return broken


def allow(broken: list[Report], total: int, on_bad: str) -> None:
    """Raises `UserError` with the list of broken recordings, if there are any, unless "skip"."""
    if broken and on_bad == "stop":
        many = "recording is" if len(broken) == 1 else "recordings are"
        lines = "\n".join(f"  {report['clip']}: {report['reason']}" for report in broken)
        raise UserError(
            f"{len(broken)} of {total} {many} broken; mend them, or leave them out with "
            f"--config.data.on_bad=skip:\n{lines}"
        )


def without(listing: Listing, broken: Iterable[Report], title: str) -> list[Clip]:
    """The clips but the broken ones; raises `UserError` where a class has lost all of its own."""
    bad = {report["clip"] for report in broken}
    clips = [clip for clip in listing.clips if clip.clip_id not in bad]
    for lost in {clip.label for clip in listing.clips} - {clip.label for clip in clips}:
        raise UserError(
            f"{title}: every recording of class {listing.class_names[lost]!r} is broken"
        )
    return clips


def find_root(folder: Path, marker: str, unpacked_from: str) -> Path:
    """`folder`, or the one folder in it, that holds the file or folder `marker`."""
    if not folder.is_dir():
        raise UserError(f"data.manual_dir={folder}: no such folder")
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    for root in (folder, *inside):
        if (root / marker).exists():
            return root
    raise UserError(
        f"data.manual_dir={folder}: no {marker} in it or in the folders it holds; "
        f"give the folder that {unpacked_from} unpacks to"
    )


def read_csv(path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV as dicts; raises `UserError` if it is unreadable or lacks a column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from error
    for column in needed:
        if column not in columns:
            raise UserError(
                f"{path}: no column {column!r}; there are {', '.join(columns) or 'none'}"
            )
    if not rows:
        raise UserError(f"{path}: lists no clips")
    return rows


def whole(
    clips: list[Clip], expected: int, folder: Path, title: str, options: Options
) -> tuple[tuple[Clip, ...], tuple[Report, ...], str]:
    """`(clips on disk, listed but missing, note)`; raises unless all `expected` are there.

    With `partial`, what there is goes on, and the note says how much that is.
    """
    there, missing = [], []
    for clip in clips:
        if clip.path.is_file():
            there.append(clip)
        else:
            missing.append({"clip": clip.clip_id, "reason": "listed, but missing on disk"})
    if len(there) == expected == len(clips):
        return tuple(there), (), ""
    first = f", first {missing[0]['clip']}" if missing else ""
    if not options.partial:
        raise UserError(
            f"{folder} is not whole: {len(there)} of {title}'s {expected} clips are there "
            f"({max(expected - len(clips), 0)} not listed in its metadata, {len(missing)} listed "
            f"but missing{first}); complete it, or go on with what there is: "
            "--config.data.partial=True"
        )
    if not there:
        raise UserError(f"{folder} holds none of the clips that its metadata lists{first}")
    return tuple(there), tuple(missing), f"partial copy: {len(there)} of {expected} clips"


def relabel(
    clips: Iterable[Clip], names: Mapping[int, str]
) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    """Labels renumbered 0..C-1 over the classes that occur, in the order of `names`."""
    clips = tuple(clips)
    present = sorted({clip.label for clip in clips})
    number = {label: position for position, label in enumerate(present)}
    renumbered = tuple(dataclasses.replace(clip, label=number[clip.label]) for clip in clips)
    return renumbered, tuple(names[label] for label in present)


def digest(*parts: Any) -> str:
    """32 hex digits of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS's prints, bars and absl's warnings off the terminal; our bars stay."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)
