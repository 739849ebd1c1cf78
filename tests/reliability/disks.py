"""Small filesystems in memory that fill up or become read-only."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


class Disks:
    """One at a time, mounted where this user may mount any."""

    def __init__(self, place: Path):
        self.place = place
        place.mkdir()
        self.work = self._mount("1m") and self._unmount()

    def _run(self, *command: str) -> bool:
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False

    def _mount(self, size: str) -> bool:
        options = f"size={size}"
        return self._run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.place))

    def _unmount(self) -> bool:
        return self._run("umount", "-l", str(self.place))

    def resize(self, _: Path, options: str) -> None:
        self._run("mount", "-o", f"remount,size={options}", str(self.place))

    def forbid(self, folder: Path) -> None:
        """Makes a folder read-only, by mounting it over itself: others beside it are in use."""
        assert self._run("mount", "--bind", str(folder), str(folder))
        assert self._run("mount", "-o", "remount,bind,ro", str(folder))

    def allow(self, folder: Path) -> None:
        self._run("umount", "-l", str(folder))

    @contextlib.contextmanager
    def small(self, directory: Path, room_kib: int) -> Iterator[Path]:
        """The run on a disk of its own with so much room left."""
        assert self._mount("50m")
        try:
            inner = self.place / directory.name
            shutil.copytree(directory, inner)
            found = os.statvfs(self.place)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
            if room_kib < 10_000:
                self.resize(inner, f"{used + room_kib}k")
            yield inner
        finally:
            self._unmount()
