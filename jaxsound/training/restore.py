"""Trained models, read back from what `checkpoint.py` wrote: no data set, no optimiser, no run."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from jaxsound.config import default_config, frontend_config
from jaxsound.errors import UserError
from jaxsound.features.frontend import FrontendConfig
from jaxsound.job import integrity
from jaxsound.training.state import Network, TrainState, plan_network
from jaxsound.training.step import make_eval_step

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model as its run tested it, with all that is needed to use it on other recordings.

    B batch, T frames, M feature columns, C classes.
    """

    config: ml_collections.ConfigDict  # of the run
    class_names: tuple[str, ...]  # C of them
    frontend: FrontendConfig
    step: int  # done when it was saved
    frames: int  # longest stretch of a clip that it is given
    network: Network
    state: TrainState  # with the weights that the run tested, and nothing of the optimiser's
    folds: tuple[int, ...] = ()  # the test fold that it was trained for

    @property
    def params(self) -> Any:
        """The weights that the run tested: the last, the averaged or the best ones."""
        return self.state.params

    @property
    def stats(self) -> Any:
        """Running statistics of BatchNorm."""
        return self.state.stats

    @property
    def mean(self) -> Array:
        """`[M]`, subtracted from features."""
        return self.state.mean

    @property
    def std(self) -> Array:
        """`[M]`, by which features are divided after that."""
        return self.state.std

    def logits(self, features: Array | np.ndarray, length: Array | np.ndarray) -> Array:
        """`[B, C]` float32, by the very function that evaluates a run.

        Args:
          features: `[B, T, M]` of the frontend, not normalised; T is compiled for.
          length: `[B]` valid frames of each clip, at most T.
        """
        batch = {"features": jnp.asarray(features), "length": jnp.asarray(length, jnp.int32)}
        return self._evaluate(self.state, batch)

    @functools.cached_property
    def _evaluate(self) -> Any:
        return jax.jit(make_eval_step(self.network, self.frames))

    def batch(self, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Features `[B, frames, M]` and lengths `[B]` of whole clips, cut as evaluation cuts them.

        Args:
          clips: each `[t, M]`, of any t; the middle of what is longer than `frames` is kept.
        """
        features = np.zeros((len(clips), self.frames, self.frontend.features), np.float32)
        length = np.array([min(len(clip), self.frames) for clip in clips], np.int32)
        for row, clip, count in zip(features, clips, length, strict=True):
            start = (len(clip) - count) // 2
            row[:count] = clip[start : start + count]
        return features, length


def restore(directory: str | Path, *, classifies: bool = True) -> Trained:
    """The newest checkpoint of one fold.

    Args:
      directory: a fold of a run (`runs/x/fold_1`), or the `checkpoints` in it.
      classifies: whether it must have a classifier, as all but a beginning of another run takes.

    Every file of it is compared with the checkpoint's manifest first (1 to 2 s a GB); an older
    version's, which has none, is taken as it is. A damaged one is refused: an earlier step would be
    another model.

    Raises:
      UserError: no checkpoint there, or one that is damaged, cannot be read, is of several folds
        or has no classifier.
    """
    directory = Path(directory)
    if (directory / "checkpoints").is_dir():
        directory = directory / "checkpoints"
    step = _newest(directory)
    if fault := integrity.fault(directory / str(step), needs_manifest=False):
        raise UserError(f"{directory / str(step)}: the checkpoint is damaged: {fault}")
    about, raw = _read(directory, step)
    try:
        config = config_of(about["config"])
        if classifies and config.task != "classification":
            raise UserError(
                f"{directory}: this run learnt to reconstruct and has no classifier; train one "
                f"that begins with it: --config.pretrained.weights={directory.parent}"
            )
        names, features = tuple(about["class_names"]), int(about["features"])
        if len(about["folds"]) > 1:
            raise UserError(f"{directory}: several folds side by side; name the fold_k of one")
        frontend = frontend_config(config)
        frames = int(about.get("frames") or _frames(config, frontend))
        network, state = _assemble(config, raw, features, len(names), frames)
    except (KeyError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise UserError(
            f"{directory / str(step)}: not a checkpoint of this version's making ({line})"
        ) from error
    tested = tuple(int(fold) for fold in about["folds"])
    return Trained(config, names, frontend, step, frames, network, state, tested)


def _newest(directory: Path) -> int:
    steps = [int(path.name) for path in directory.glob("*") if path.name.isdecimal()]
    if not steps:
        raise UserError(
            f"{directory}: no checkpoint here; name a run's fold, such as runs/x/fold_1"
        )
    return max(steps)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax warns of the items that are left unread on purpose."""
    level = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        yield
    finally:
        absl.logging.set_verbosity(level)


def _read(directory: Path, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two items, arrays as numpy's whatever devices they were saved from."""
    folder = directory.absolute() / str(step)
    try:
        with _quiet():
            about = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(folder / "about")
            reader = ocp.PyTreeCheckpointer()
            stored = reader.metadata(folder / "state").item_metadata.tree
            wanted = {key: stored[key] for key in stored if key != "opt_state"}
            plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            raw = reader.restore(
                folder / "state",
                args=ocp.args.PyTreeRestore(item=wanted, restore_args=plain, partial_restore=True),
            )
    except Exception as error:  # Orbax, TensorStore and JSON each fail in ways of their own
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: the checkpoint cannot be read ({line})") from error
    return about, raw


def config_of(saved: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The run's configuration; keys that its version did not have yet are at their defaults."""
    config = default_config(saved["model"]["name"])
    with config.ignore_type():
        for key, value in saved.items():
            if isinstance(value, Mapping):
                for name, inner in value.items():
                    config[key][name] = tuple(inner) if isinstance(inner, list) else inner
            else:
                config[key] = tuple(value) if isinstance(value, list) else value
    return config


def _frames(config: ml_collections.ConfigDict, frontend: FrontendConfig) -> int:
    """For checkpoints that do not say: what evaluation is given at most."""
    return config.data.frames or frontend.frames(
        round(config.data.pad_seconds * frontend.sample_rate)
    )


def _assemble(
    config: ml_collections.ConfigDict,
    raw: Mapping[str, Any],
    features: int,
    classes: int,
    frames: int,
) -> tuple[Network, TrainState]:
    """The network, and what was read in the shapes that it wants, with the weights to be tested."""
    features = config.data.crop_bins or features
    network, params, stats = _shapes(config, features, classes, frames)
    best = raw.get("selection") or {}
    if best.get("params") is None:
        best = {
            "params": raw["params"] if raw["ema"] is None else raw["ema"],
            "stats": raw["stats"],
        }
    state = TrainState(
        step=jnp.asarray(raw["step"]),
        params=_like(params, best["params"]),
        stats=_like(stats, best["stats"]),
        opt_state=None,
        ema=None,
        mean=jnp.asarray(raw["mean"]),
        std=jnp.asarray(raw["std"]),
        class_weight=jnp.asarray(raw["class_weight"]),
    )
    return network, state


def _shapes(
    config: ml_collections.ConfigDict, features: int, classes: int, frames: int
) -> tuple[Network, Any, Any]:
    """The network and the shapes of its parameters and statistics; nothing is computed."""
    network, initialise = plan_network(
        config.model, features=features, classes=classes, frames=frames, task=config.task
    )
    params, stats = jax.eval_shape(initialise, jax.random.key(0))
    return network, params, stats


def _like(wanted: Any, raw: Any) -> Any:
    """The arrays of `raw`, nested by name as Orbax gives them, in the tree of `wanted`."""

    def names(path: tuple[Any, ...]) -> tuple[str, ...]:
        keys = (getattr(k, "key", getattr(k, "idx", getattr(k, "name", None))) for k in path)
        return tuple(str(key) for key in keys)

    stored = {names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(raw)}
    leaves, tree = jax.tree_util.tree_flatten_with_path(wanted)
    if missing := {names(path) for path, _ in leaves} ^ stored.keys():
        raise ValueError(f"its model has or lacks {'.'.join(min(missing))}")
    for path, leaf in leaves:
        if stored[names(path)].shape != leaf.shape:
            there, here = stored[names(path)].shape, leaf.shape
            raise ValueError(f"{'.'.join(names(path))} is {there}, and {here} in its model")
    return jax.tree_util.tree_unflatten(tree, [jnp.asarray(stored[names(p)]) for p, _ in leaves])
