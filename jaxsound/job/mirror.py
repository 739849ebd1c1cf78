"""A run whose directory is at an address: it works in a copy, which is brought there as it grows.

Locks, memory maps, Orbax and TensorBoard's writer want a disk, so a run has one: a folder in the
cache, filled from the address at the start. Every minute, and when the run ends or is stopped, what
is new goes to the address. A checkpoint's manifest goes after its files and a result after both, so
what is there is whole or is seen not to be. A machine that is lost takes at most that minute and
what was done since the last checkpoint with it; the same command goes on anywhere.
"""

import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from jaxsound import places
from jaxsound.errors import UserError
from jaxsound.job import hosts, workdir
from jaxsound.job.integrity import MANIFEST

SECONDS = 60.0  # between two looks for what is new
_BEING_WRITTEN = ".orbax-checkpoint-tmp"
_LOCAL = (".lock", ".rewrite.tmp")


@contextlib.contextmanager
def at(place: str, cache: Path) -> Iterator[Path]:
    """The directory in which to run: `place` itself, or, of an address, a copy while it lasts.

    Args:
      place: `--workdir`.
      cache: jaxsound's cache directory.

    Raises:
      UserError: the address or the disk cannot be read or written; another run of this machine
        has it; or several processes are to share it, which takes a disk that all of them see.
    """
    if not places.is_remote(place):
        with workdir.storage(Path(place)):
            yield Path(place)
        return
    job = hosts.place()
    if job and job.count > 1:
        raise UserError(f"--workdir={place}: several processes need a disk that all of them see")
    place = place.rstrip("/")
    copy = places.copy_of(place, cache / "runs")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(copy.with_name(f".{copy.name}.run.lock"), blocking=False)
        with lock:
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            if places.exists(place):
                places.local(place, cache / "runs")
            with _Pushing(copy, place), workdir.storage(copy):
                yield copy
    except filelock.Timeout:
        raise UserError(f"--workdir={place} is in use by another run of this machine") from None


class _Pushing:
    """Brings what is new to the address, in a thread of its own, and at the end what is left."""

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        self.sent = _state(folder)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            try:
                self.push()
            except UserError as error:  # the next time may go well, and the last one has to
                print(f"not brought to {self.place} yet: {error}", file=sys.stderr)

    def push(self) -> None:
        """Sends files that are new or have changed, in an order that is never wrong to stop in."""
        now = _state(self.folder)
        filesystem, root = places.filesystem(self.place)
        with places.in_one_line(self.place):
            for name in sorted((n for n in now if self.sent.get(n) != now[n]), key=_turn):
                with contextlib.suppress(FileNotFoundError):  # gone since: an older checkpoint
                    content = (self.folder / name).read_bytes()
                    places.put(filesystem, f"{root}/{name}", content)
                    self.sent[name] = now[name]
            # Manifests first: what is half removed is seen not to be whole.
            for name in sorted(self.sent.keys() - now.keys(), key=_turn, reverse=True):
                with contextlib.suppress(FileNotFoundError):
                    filesystem.rm_file(f"{root}/{name}")
                del self.sent[name]

    def __enter__(self) -> "_Pushing":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._over.set()
        self._thread.join()
        try:
            self.push()
        except UserError as error:
            if kind is None:
                raise
            print(f"error: {error}", file=sys.stderr)


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file that is there to stay."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if _BEING_WRITTEN in name or path.name in (*_LOCAL, places.RECORD):
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                stat = path.stat()
                found[name] = (stat.st_size, stat.st_mtime_ns)
    return found


def _turn(name: str) -> tuple[int, str]:
    """Curves, then checkpoints, their manifests, what counts them, results, and the result."""
    last = name.rpartition("/")[2]
    order = [
        "/checkpoints/" in name,
        last == MANIFEST,
        name.startswith(".saved/"),
        "/" not in name and name.startswith("fold_"),
        name == "crossval.json",
    ]
    return max((i + 1 for i, holds in enumerate(order) if holds), default=0), name
