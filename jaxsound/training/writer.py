"""Where metrics go: TensorBoard, `metrics.jsonl` beside it and, if wanted, Weights & Biases.

CLU's writers need TensorFlow, which takes seconds to import: it happens in the thread that writes,
while the first step compiles, on the host that writes, and nowhere else in the package.
"""

import functools
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsound import tensorflow_notices

if TYPE_CHECKING:
    from clu.metric_writers import MetricWriter

METRICS_FILE = "metrics.jsonl"


def make_writer(
    logdir: str | os.PathLike[str],
    *,
    enabled: bool = True,
    resume_step: int | None = None,
    wandb: str = "",
    config: Mapping[str, Any] | None = None,
) -> "MetricWriter":
    """A CLU metric writer to TensorBoard event files and `metrics.jsonl` in `logdir`.

    It opens and writes in a thread of its own, in the order of the calls. What goes wrong there is
    raised by the next `write_*`, by `flush` or by `close`, as `clu.asynclib.AsyncError`.

    Args:
      logdir: the directory of one fold; made if it is not there.
      enabled: False, on every host but the first: nothing is written and nothing is imported.
      resume_step: what an earlier run wrote for later steps than this is superseded and goes,
        so that no reader meets a step twice. None keeps everything and appends.
      wandb: the project of Weights & Biases that gets everything too; '' for none.
      config: what W&B shows beside the curves.

    Raises:
      UserError: Weights & Biases is wanted and not installed.
    """
    if not enabled:
        return NullWriter()
    logdir = Path(logdir)
    logdir.mkdir(parents=True, exist_ok=True)
    if wandb:
        from jaxsound.training import wandb_writer

        wandb_writer.check(wandb)

    def open_all() -> "MetricWriter":
        writers = _import_clu_writers()
        if resume_step is not None:
            for path in logdir.glob("events.out.tfevents.*"):
                _drop_events(path, resume_step)
        lines = JsonlWriter(logdir / METRICS_FILE, resume_step)
        outputs = [writers.SummaryWriter(str(logdir)), lines]
        if wandb:
            resume, after = resume_step != 0, lines.last_step
            outputs.append(
                wandb_writer.WandbWriter(wandb, logdir, config=config, resume=resume, after=after)
            )
        return writers.MultiWriter(outputs)

    return _Behind(open_all)


def _import_clu_writers() -> Any:
    """`clu.metric_writers`, with TensorFlow's notices about CPUs and missing GPUs kept quiet."""
    tensorflow_notices.silence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf
        from clu import metric_writers
    tf.get_logger().setLevel("ERROR")
    tf.config.set_visible_devices([], "GPU")  # it would take the memory that JAX needs
    return metric_writers


class NullWriter:
    """Does nothing. It has CLU's `MetricWriter`'s methods without being one, because importing
    that class imports TensorFlow."""

    def write_summaries(self, step: int, values: Mapping, metadata: Mapping | None = None) -> None:
        pass

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        pass

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        pass

    def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
        pass

    def write_audios(self, step: int, audios: Mapping[str, Any], *, sample_rate: int) -> None:
        pass

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        pass

    def write_histograms(
        self, step: int, arrays: Mapping[str, Any], num_buckets: Mapping | None = None
    ) -> None:
        pass

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Behind(NullWriter):
    """Opens a writer in a thread, and passes every call on to it there."""

    def __init__(self, open_writer: Callable[[], "MetricWriter"]) -> None:
        from clu import asynclib

        self._pool = asynclib.Pool(max_workers=1)
        self._writer: MetricWriter | None = None
        self._pool(self._open)(open_writer)

    def _open(self, open_writer: Callable[[], "MetricWriter"]) -> None:
        self._writer = open_writer()

    def _later(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._pool(self._now)(name, *args, **kwargs)

    def _now(self, name: str, *args: Any, **kwargs: Any) -> None:
        if self._writer is not None:  # else its opening has failed, and that is raised
            getattr(self._writer, name)(*args, **kwargs)

    write_summaries = functools.partialmethod(_later, "write_summaries")
    write_scalars = functools.partialmethod(_later, "write_scalars")
    write_videos = functools.partialmethod(_later, "write_videos")
    write_audios = functools.partialmethod(_later, "write_audios")
    write_texts = functools.partialmethod(_later, "write_texts")
    write_histograms = functools.partialmethod(_later, "write_histograms")
    write_hparams = functools.partialmethod(_later, "write_hparams")

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Images may be functions that draw them; they are called in the thread."""
        self._pool(self._draw)(step, images)

    def _draw(self, step: int, images: Mapping[str, Any]) -> None:
        drawn = {name: image() if callable(image) else image for name, image in images.items()}
        self._now("write_images", step, drawn)

    def flush(self) -> None:
        self._later("flush")
        self._pool.join()

    def close(self) -> None:
        try:
            self._later("close")
        finally:
            self._pool.close()


class JsonlWriter(NullWriter):
    """Appends scalars to a file, a JSON object a call: {"step": int, "time": seconds, tag: float}.

    A value that is not finite is written as null. A line is with the system as soon as it is
    written, so a killed run loses nothing but perhaps a torn last line, which goes on resuming.
    `last_step` is the last that the file told of when it was opened, superseded or not; 0 if none.
    """

    def __init__(self, path: str | os.PathLike[str], resume_step: int | None = None) -> None:
        path = Path(path)
        self.last_step = _drop_lines(path, resume_step) if path.exists() else 0
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        values = {tag: float(np.asarray(value)) for tag, value in scalars.items()}
        finite = {tag: value if math.isfinite(value) else None for tag, value in values.items()}
        line = {"step": int(step), "time": round(time.time(), 3), **finite}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _drop_lines(path: Path, last_step: int | None) -> int:
    """Keeps the whole lines of steps up to `last_step`, or all; returns the last step it met."""
    kept, met = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, TypeError, KeyError):  # torn by a kill
            continue
        met = max(met, step)
        if last_step is None or step <= last_step:
            kept.append(line + "\n")
    _replace(path, "".join(kept).encode())
    return met


def _drop_events(path: Path, last_step: int) -> None:
    """Keeps an event file's whole records of steps up to `last_step`.

    A record is its length (8 bytes), that number's checksum (4), the event, its checksum (4).
    """
    from tensorboard.compat.proto import event_pb2

    raw, kept, start = path.read_bytes(), [], 0
    while start + 12 <= len(raw):
        end = start + 16 + int.from_bytes(raw[start : start + 8], "little")
        if end > len(raw):  # torn by a kill
            break
        if event_pb2.Event.FromString(raw[start + 12 : end - 4]).step <= last_step:
            kept.append(raw[start:end])
        start = end
    _replace(path, b"".join(kept))


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(".rewrite.tmp")  # not "tfevents": TensorBoard would read it
    beside.write_bytes(content)
    os.replace(beside, path)
