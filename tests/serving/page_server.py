"""`python -m jaxsound.serve` as a process of its own, that can be killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 300.0  # seconds for a start, compilation included


class Server:
    """A server of one run, on one port from its first start on."""

    def __init__(self, run: Path, cache: Path, log: Path, token: str = ""):
        self.run, self.log = run, log
        self.environment = os.environ | {
            "JAXSOUND_CACHE": str(cache),  # where a second start finds the first one's programs
            "JAXSOUND_TOKEN": token,
            "JAX_PLATFORMS": "cpu",
        }
        self.environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> "Server":
        """Waits until it takes requests."""
        command = [sys.executable, "-m", "jaxsound.serve", str(self.run), f"--port={self.port}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    def _ready(self) -> bool:
        if not self.port:
            lines = self.log.read_text().splitlines()
            pages = [line.split()[1] for line in lines if line.startswith("page ")]
            self.port = int(pages[0].rstrip("/").rpartition(":")[2]) if pages else 0
        if not self.port:
            return False
        try:
            with urllib.request.urlopen(self.url + "readyz", timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """Ends it at once, as a failure would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it as an administrator would."""
        self._end(signal.SIGTERM)

    def _end(self, sign: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(sign)
            self.process.wait(30)

    def predict(self, path: Path) -> tuple[int, dict[str, Any]]:
        """Status and answer for a file's bytes."""
        asked = urllib.request.Request(self.url + "v1/predict?windows=true", path.read_bytes())
        asked.add_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
