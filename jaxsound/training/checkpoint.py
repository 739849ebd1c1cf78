"""Orbax checkpoints that hold the state, every fold's iterator, and what inference needs."""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from jaxsound.errors import UserError
from jaxsound.job import hosts, integrity
from jaxsound.training.state import TrainState

_NONE, _FAILED = -1, -2  # what stands for a step where there is none


class Checkpoints:
    """Asynchronous, atomic, verified checkpoints of one run of one fold, or of several together.

    A checkpoint is moved to its place once its files and their manifest are written. Beside the
    folds, `.saved/NAME` has the newest step that got there, so that checkpoints which vanish are
    missed, and no run begins again from nothing unless it has nothing.
    """

    def __init__(self, directory: Path, *, keep: int = 2):
        """Opens the checkpoints of `directory`, `fold_k/checkpoints` of a run.

        Raises:
          UserError: the directory cannot be made, read or written.
        """
        self.directory = directory.absolute()
        self._record = self.directory.parents[1] / ".saved" / self.directory.parent.name
        self._saving: int | None = None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            # Made in the background, a directory that cannot be made is waited for for ten minutes.
            async_options=ocp.options.AsyncOptions(
                post_finalization_callback=self._seal, create_directories_asynchronously=False
            ),
        )
        with self._in_one_line("the checkpoints cannot be opened"):
            self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(
        self,
        step: int,
        state: TrainState,
        iterators: Mapping[int, grain.DatasetIterator],
        about: dict[str, Any],
        seconds: float,
    ) -> None:
        """Saves in the background.

        Args:
          step: how many steps are done.
          state: device arrays; safe to donate once this returns.
          iterators: by fold, standing right after `step` batches.
          about: JSON: configuration, class names, frontend and folds.
          seconds: spent on these folds so far.

        Raises:
          UserError: this or the one before cannot be written.
        """
        if step in self.manager.all_steps():
            if step == self._saving or not self._fault(step):
                return
            self._set_aside(step)
        # Of Grain's own files there is one for each process; this is the same for any number.
        feeds = {str(fold): iterator.get_state() for fold, iterator in iterators.items()}
        with self._in_one_line("the checkpoint was not saved"):
            if not self.directory.is_dir():
                raise FileNotFoundError(2, "the directory has vanished")
            self.manager.wait_until_finished()
            self._remember()
            self._saving = step
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    about=ocp.args.JsonSave(about | {"seconds": seconds}),
                    iterators=ocp.args.JsonSave(feeds),
                ),
                force=True,
            )

    def check(self) -> None:
        """Raises `UserError` if what is being saved in the background has failed."""
        with self._in_one_line("the checkpoint was not saved"):
            self.manager.check_for_errors()

    def wait(self) -> None:
        """Returns when all is saved; raises `UserError` if that fails."""
        with self._in_one_line("the checkpoint was not saved"):
            self.manager.wait_until_finished()
            self._remember()

    def restore(
        self, state: TrainState, iterators: Mapping[int, grain.DatasetIterator]
    ) -> tuple[TrainState, int, float]:
        """The newest checkpoint that is whole, state and iterators together, or neither.

        Newer ones that are damaged are named and moved out of the way.

        Args:
          state: the state before the first step; its shapes and shardings are restored into.
          iterators: by fold; moved to where they stood.

        Returns:
          State, number of steps done and seconds spent on them; what came in, 0 and 0 when there
          never was a checkpoint.

        Raises:
          UserError: there are or were checkpoints, and none is whole; or one that is whole does
            not fit the state.
        """
        step = self._agreed()
        if step == _NONE:
            return state, 0, 0.0
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        why = f"step {step} is whole, but does not fit this code and configuration"
        with self._in_one_line(why):
            self._check_shapes(step, like)
            restored = self.manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(like),
                    about=ocp.args.JsonRestore(),
                    iterators=ocp.args.JsonRestore(),
                ),
            )
            for fold, iterator in iterators.items():
                iterator.set_state(restored["iterators"][str(fold)])
                iterator.start_prefetch()
        return restored["state"], step, restored["about"]["seconds"]

    def _check_shapes(self, step: int, like: TrainState) -> None:
        """Raises `ValueError` with an array that has another shape.

        Orbax would find it too, but while it reads: what it leaves behind then fails later.
        """
        reader = ocp.PyTreeCheckpointer()
        tree = reader.metadata(self.directory / str(step) / "state").item_metadata.tree
        saved = _by_name(tree)
        for name, wanted in _by_name(like).items():
            if name in saved and tuple(saved[name].shape) != tuple(wanted.shape):
                raise ValueError(f"{name} is {saved[name].shape} there, {wanted.shape} here")

    def _agreed(self) -> int:
        """The step to go on from, or `_NONE`; the first process looks for all of them."""
        step, failed = _FAILED, None
        if jax.process_index() == 0:
            try:
                step = self._newest_good()
            except UserError as error:
                failed = error
        if jax.process_count() > 1:
            hosts.meet()  # reading large checkpoints through may take longer than Gloo waits
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
        if step == _FAILED:
            raise failed or UserError(f"{self.directory}: no checkpoint there is whole")
        self.manager.reload()
        return step

    def _newest_good(self) -> int:
        saved, faults = self._remembered(), {}
        for step in sorted(self._steps(), reverse=True):
            if not (fault := self._fault(step)):
                break
            faults[step] = fault
        else:
            step = _NONE
        found = "; ".join(f"step {bad}: {why}" for bad, why in faults.items())
        begin_again = f"put a copy back, or remove it and {self._record} to begin again"
        if step == _NONE and faults:
            raise UserError(f"{self.directory}: no checkpoint is whole ({found}); {begin_again}")
        if step == _NONE and saved is not None:
            raise UserError(
                f"{self.directory}: step {saved} was saved here and is gone; {begin_again}"
            )
        if found:
            _say(f"{self.directory}: {found}; moved to {self.directory.parent}/damaged_STEP")
        elif saved is not None and saved > step:
            _say(f"{self.directory}: step {saved} was saved here and is gone")
        if found or (saved is not None and saved > step):
            _say(f"{self.directory}: going on from step {step}, which is whole")
        for bad in faults:
            self._set_aside(bad)
        if step != _NONE:
            self._remember()
        return step

    def _steps(self) -> list[int]:
        """Checkpoints in place, whole or not; what is being saved has another name still."""
        return [int(path.name) for path in self.directory.glob("*") if path.name.isdecimal()]

    def _fault(self, step: int) -> str:
        return integrity.fault(self.directory / str(step))

    def _set_aside(self, step: int) -> None:
        place = self.directory.parent / f"damaged_{step}"
        number = 1
        while place.exists():
            number += 1
            place = place.with_name(f"damaged_{step}.{number}")
        with self._in_one_line(f"damaged step {step} cannot be moved out of the way"):
            if jax.process_index() == 0:
                (self.directory / str(step)).rename(place)
            self.manager.reload()

    def _seal(self) -> None:
        """Writes the manifest, when all is written and before Orbax moves it to its place."""
        if jax.process_index() == 0:
            (folder,) = self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*")
            integrity.write(folder)

    def _remember(self) -> None:
        newest = max(self._steps(), default=None)
        if newest is not None and newest != self._remembered() and jax.process_index() == 0:
            self._record.parent.mkdir(exist_ok=True)
            beside = self._record.with_name(f"{self._record.name}.tmp")
            beside.write_text(f"{newest}\n")
            beside.replace(self._record)

    def _remembered(self) -> int | None:
        """The newest step that was ever saved here; 0 where that cannot be read."""
        try:
            return int(self._record.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return 0

    @contextlib.contextmanager
    def _in_one_line(self, what: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # Orbax, TensorStore, Grain and JSON fail in ways of their own
            # Orbax leaves further failures of the same save to asyncio, which prints tracebacks.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            raise UserError(f"{self.directory}: {what} ({_reason(error)})") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for what is being written."""
        try:
            self.wait()
        except UserError as error:
            if kind is None:
                raise
            _say(str(error))
        finally:
            with contextlib.suppress(Exception):  # what failed was told by `wait`
                self.manager.close()


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their path, alike for a state and for Orbax's record of it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _reason(error: Exception) -> str:
    """A failure in a few words: the operating system's, where they are among the others."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    known = re.search(
        r"No space left on device|Read-only file system|No such file or directory|"
        r"Permission denied|Input/output error|File too large|Disk quota exceeded",
        text,
    )
    return known.group() if known else text[:200] or type(error).__name__


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
