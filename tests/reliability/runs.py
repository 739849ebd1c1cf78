"""Runs of `jaxsound.main` in processes that start at once.

They are forked from this one, which has imported everything and asked JAX for nothing. Importing
takes longer than such a run.
"""

import dataclasses
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import clu.metric_writers  # noqa: E402, F401
import jax  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402

from jaxsound import main  # noqa: E402
from jaxsound.evaluation import images  # noqa: E402

DIGESTS = "digests.json"

# Drawing would take longer than training.
images.spectrograms = images.confusion = lambda *_: np.zeros((8, 8, 3), np.uint8)
images.pooled_confusion = lambda *_: np.zeros((8, 8, 3), np.uint8)


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to train."""

    model: str
    feed: str
    crossval: str

    @property
    def name(self) -> str:
        return f"{self.model}, {self.feed}, {self.crossval}"

    def argv(self, workdir: Path) -> list[str]:
        return [
            "jaxsound.main",
            f"--config={ROOT}/tests/reliability/config.py:{self.model}",
            f"--config.data.feed={self.feed}",
            f"--config.crossval={self.crossval}",
            f"--workdir={workdir}",
        ]


CASES = [  # so that the first two have one of everything
    Case("transformer", "stream", "sequential"),
    Case("cnn", "resident", "vmap"),
    Case("cnn", "stream", "sequential"),
    Case("transformer", "resident", "vmap"),
    Case("transformer", "resident", "sequential"),
    Case("cnn", "stream", "vmap"),
    Case("cnn", "resident", "sequential"),
    Case("transformer", "stream", "vmap"),
]


def start(case: Case, workdir: Path, *more: str) -> int:
    """Starts a run; returns its process id. What it prints is added to `WORKDIR.log`."""

    def run() -> int:
        sys.argv = [*case.argv(workdir), *more]  # where the config's flags are looked for
        status = main.main(sys.argv)
        if status == 0:
            write_digests(workdir)
        return status

    return fork(run, f"{workdir}.log")


def fork(run: Callable[[], int], log: str) -> int:
    """A process that adds what it prints to a file and ends with what `run` returns; its id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(file, stream)
        try:
            status = run()
        except BaseException:
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def write_digests(workdir: Path) -> int:
    (workdir / DIGESTS).write_text(json.dumps(digests(workdir)))
    return 0


def wait(pid: int, seconds: float, workdir: Path | None = None) -> int | None:
    """The exit status, negative for a signal; None if it still runs after so many seconds.

    With a `workdir` it goes on waiting until a save is under way there.
    """
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline and (workdir is None or saving(workdir)):
            return None
        time.sleep(0.002)


def saving(workdir: Path) -> bool:
    """Whether a save was under way: Orbax's temporary directory is there still."""
    return any(workdir.glob("fold_*/checkpoints/*.orbax-checkpoint-tmp*"))


def digests(workdir: Path) -> dict[str, str]:
    """SHA-256 of every array of every fold's last checkpoint, and of all predictions."""
    found = {"predictions": _sha256((workdir / "predictions.csv").read_bytes())}
    reader = ocp.PyTreeCheckpointer()
    for folder in sorted(workdir.glob("fold_*/checkpoints")):
        step = max(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
        state = folder.absolute() / str(step) / "state"
        tree = reader.metadata(state).item_metadata.tree
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arrays = reader.restore(state, args=ocp.args.PyTreeRestore(item=tree, restore_args=plain))
        for path, leaf in ocp.tree.to_flat_dict(arrays, sep="/").items():
            name = f"{folder.parent.name}/{step}/{path}"
            found[name] = _sha256(np.asarray(leaf).tobytes())
    return found


def curves_whole(workdir: Path) -> bool:
    """Whether the curves of both folds have every step once and in order."""
    for fold in (1, 2):
        lines = (workdir / f"fold_{fold}" / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines if '"train/loss"' in line]
        if steps != list(range(1, max(steps) + 1)):
            return False
    return True


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
