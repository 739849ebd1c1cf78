"""Stand-ins for the commands of clusters, which record how they are called."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"

# Writes a line for each call, and what it was given of the job's environment.
RECORD = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
kept = {{k: v for k, v in os.environ.items() if k.startswith(("JAXSOUND_", "SLURM_"))}}
with open({log!r}, "a") as log:
    log.write(json.dumps({{"name": name, "args": sys.argv[1:], "env": kept}}) + "\\n")
{then}
"""


class Commands:
    """A folder of stand-ins that comes first on the PATH, and their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.log = folder / "calls.jsonl"
        self.log.touch()

    def add(self, name: str, then: str = "", folder: Path | None = None) -> None:
        """A command that records its call and runs `then`, Python."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECORD.format(python=sys.executable, log=str(self.log), then=then))
        path.chmod(0o755)

    def calls(self, name: str = "") -> list[dict[str, Any]]:
        """In order, of one command or of all."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [call for call in found if name in ("", call["name"])]

    def run(self, script: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A script of launch/, in this folder, with the stand-ins."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "TPU", "JAXSO"))}
        return subprocess.run(
            ["bash", str(LAUNCH / script), *args],
            env=keep | {"PATH": path} | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)
