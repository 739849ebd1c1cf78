"""Metrics to Weights & Biases, beside the files: it may fail, a training does not fail with it.

The package (the extra `jaxsound[wandb]`) is imported when a project is named, and not before.
"""

import html
import importlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxsound.errors import UserError
from jaxsound.training.writer import NullWriter

ID_FILE = "wandb_id.txt"  # in a fold's directory: the run that a resumed training goes on with
INIT_SECONDS = 30.0  # for a server that does not answer
FINISH_SECONDS = 300.0  # for what is still to be sent when a fold ends


def check(project: str) -> None:
    """Asks, before anything is prepared or trained, whether W&B can be used; '' asks nothing.

    Raises:
      UserError: the package is not installed, or nobody is logged in and the mode is online.
    """
    if not project:
        return
    wandb = _import(project)
    if wandb.setup().settings.mode != "online":
        return
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            f"config.wandb={project!r}: nobody is logged in to Weights & Biases: run `wandb login`,"
            " or set WANDB_MODE=offline and send the values later with `wandb sync`"
        )


def _import(project: str) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise UserError(
            f"config.wandb={project!r}: Weights & Biases is not installed: "
            "pip install 'jaxsound[wandb]'"
        ) from None
    wandb.setup(settings=wandb.Settings(silent=True))  # what there is to say is said here
    return wandb


class WandbWriter(NullWriter):
    """Scalars, images and texts of one fold to a W&B run, in the group of its run directory.

    Whatever goes wrong is one line on stderr. Where the server cannot be reached at the start,
    the values are kept in the W&B directory of the fold, for `wandb sync`.

    Args:
      project: W&B's project.
      logdir: the fold's directory. The W&B run is `<run directory>/<fold>`; its id is kept here.
      config: shown beside the run.
      resume: go on with the run of the same id; otherwise what it held is replaced.
      after: steps before this one were written by an earlier start. W&B wants steps in order, and
        cannot take any back; the resumed training computes the same values again.

    Raises:
      UserError: the package is not installed.
    """

    def __init__(
        self,
        project: str,
        logdir: Path,
        *,
        config: Mapping[str, Any] | None = None,
        resume: bool = False,
        after: int = 0,
    ) -> None:
        wandb = _import(project)
        known = logdir / ID_FILE
        began = known.exists()
        if not began:
            _new_id(known)
        group = logdir.absolute().parent.name
        options = {
            "project": project,
            "id": known.read_text().strip(),
            "resume": "allow" if resume else None,
            "group": group,
            "name": f"{group}/{logdir.name}",
            "config": dict(config or {}),
            "dir": os.environ.get("WANDB_DIR") or str(logdir),
            "reinit": "create_new",  # folds side by side are runs side by side
        }
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        try:
            self._run = wandb.init(**options, settings=settings)
        except Exception as error:
            _say(f"going on offline, for `wandb sync` later: {_line(error)}")
            options["id"] = _new_id(known)  # W&B's service holds on to the one that failed
            self._run = wandb.init(**options, settings=settings, mode="offline")
        self._first = max(self._run.starting_step, after if resume and began else 0)
        self._image, self._html = wandb.Image, wandb.Html
        self._works = True
        if not self._run.offline:
            _say(f"{options['name']} at {self._run.url}")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        values = {tag: float(np.asarray(value)) for tag, value in scalars.items()}
        self._log(step, lambda: values)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        def pictures() -> dict[str, Any]:
            return {tag: [self._image(np.asarray(one)) for one in images[tag]] for tag in images}

        self._log(step, pictures)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        def pages() -> dict[str, Any]:
            blocks = {tag: f"<pre>{html.escape(text)}</pre>" for tag, text in texts.items()}
            return {tag: self._html(block, inject=False) for tag, block in blocks.items()}

        self._log(step, pages)

    def _log(self, step: int, values: Callable[[], dict[str, Any]]) -> None:
        if step < self._first or not self._works:
            return
        try:
            self._run.log(values(), step=step)
        except Exception as error:  # a training is worth more than its curves there
            self._works = False
            _say(f"nothing more is sent from step {step} on; the files have it all: {_line(error)}")

    def close(self) -> None:
        try:
            self._run.finish()
        except Exception as error:
            if self._works:
                _say(f"not all was sent; `wandb sync {self._run.dir}/..` sends it: {_line(error)}")


def _new_id(file: Path) -> str:
    file.write_text(f"{secrets.token_hex(4)}\n")
    return file.read_text().strip()


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _say(text: str) -> None:
    tqdm.write(f"Weights & Biases: {text}", file=sys.stderr)
