"""Network namespaces as hosts: each with a name and an address of its own, on one bridge.

Linux, and a user who may make them, such as root. Nothing outside a namespace is changed but for
the bridge and its ports, which go with it.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

_NEWNS, _NEWUTS, _NEWNET = 0x00020000, 0x04000000, 0x40000000
_BIND, _PRIVATE, _RECURSIVE = 0x1000, 0x40000, 0x4000


class Hosts:
    """So many hosts, `name(i)` at `address(i)`, for as long as it lasts."""

    def __init__(self, count: int):
        """Makes them.

        Raises:
          OSError: the reason why this user or machine cannot.
        """
        self.count = count
        self.bridge = f"jsh{os.getpid() % 100000}"
        # No TemporaryDirectory: the end of any forked process would take it away.
        self._names = Path(tempfile.mkdtemp(prefix="hosts-")) / "hosts"
        lines = [f"{self.address(i)} {self.name(i)}" for i in range(count)]
        self._names.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("link", "set", self.bridge, "up")
            for i in range(count):
                self._add(i)
        except OSError:
            self.close()
            raise

    def _add(self, i: int) -> None:
        name, port = self.name(i), f"{self.bridge}p{i}"
        _ip("netns", "add", name)
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", port, "master", self.bridge, "up")
        _ip("-n", name, "address", "add", f"{self.address(i)}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def name(self, i: int) -> str:
        return f"{self.bridge}-{i}"

    def address(self, i: int) -> str:
        return f"10.213.7.{i + 1}"

    def cut(self, i: int) -> None:
        """From here on nothing reaches a host or leaves it; no connection is closed."""
        _ip("link", "set", f"{self.bridge}p{i}", "down")

    def mend(self, i: int) -> None:
        _ip("link", "set", f"{self.bridge}p{i}", "up")

    def enter(self, i: int) -> None:
        """Moves this process there for good, with the host's name and a list of all names."""
        libc = ctypes.CDLL(None, use_errno=True)

        def call(name: str, *args: object) -> None:
            if getattr(libc, name)(*args):
                raise OSError(ctypes.get_errno(), f"{name} failed")

        with open(f"/run/netns/{self.name(i)}") as namespace:
            call("setns", namespace.fileno(), _NEWNET)
        call("unshare", _NEWUTS | _NEWNS)
        socket.sethostname(self.name(i))
        call("mount", b"none", b"/", None, ctypes.c_ulong(_PRIVATE | _RECURSIVE), None)
        names = str(self._names).encode()
        call("mount", names, b"/etc/hosts", None, ctypes.c_ulong(_BIND), None)

    def close(self) -> None:
        """Takes all of it away again."""
        commands = [["netns", "delete", self.name(i)] for i in range(self.count)]
        commands += [["link", "delete", f"{self.bridge}p{i}"] for i in range(self.count)]
        for command in [*commands, ["link", "delete", self.bridge]]:
            subprocess.run(["ip", *command], capture_output=True)  # not all may be there
        shutil.rmtree(self._names.parent, ignore_errors=True)

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _ip(*command: str) -> None:
    done = subprocess.run(["ip", *command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(command)}: {done.stderr.strip()}")
