"""Published weights into a network's parameters and statistics, and back."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsound.errors import UserError
from jaxsound.models.ast import TOKENS, patches
from jaxsound.pretrained import files, runs
from jaxsound.pretrained.entries import Entry, Layout, Path
from jaxsound.pretrained.files import Published
from jaxsound.pretrained.layouts import layouts

STEMS = ("sum", "mean")
_UNUSED = ("num_batches_tracked", "relative_position_index")  # nothing that was learned
_CLASSIFIER = ("head", "head_norm", "hidden")
_AST_BINS = 128  # of a publisher who does not say


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training begins: initial values, those of the publisher in their places.

    `note` is for people: what was read, and what is new all the same.
    """

    params: Any
    stats: Any
    note: str


def fit(
    published: Published, config: Any, params: Any, stats: Any, *, features: int, stem: str = "sum"
) -> Start:
    """Puts published weights into initial values.

    A classifier of another number of classes keeps its initial values, and so does what the
    publisher's network has not. A first convolution over red, green and blue becomes one over the
    spectrogram: by "sum" it makes of it what theirs makes of three copies, by "mean" a third of
    that. A table of positions for another size of input is cut or interpolated as AST's authors do.

    Args:
      published: what `files.read` found.
      config: the `model` section of the configuration.
      params: initial parameters of that network.
      stats: its initial statistics.
      features: M of its input.
      stem: "sum" or "mean".

    Raises:
      UserError: one line that names the tensor, where the file is of another network: none of its
        layouts, a tensor that is missing, too many or of another shape, another configuration.
    """
    ours = {**flat(params), **flat(stats)}
    layout = runs.layout(config, ours) if published.of_run else _layout(published, config)
    _agree(published, layout, config)
    values, new = dict(ours), []
    for entry in _entries(published, layout):
        there, wanted = [published.tensors[name] for name in entry.names], ours[entry.path]
        if entry.kind == "positions":
            there = [_positions(published, config, there[0], wanted.shape, features, entry)]
            if there[0].shape != published.tensors[entry.names[0]].shape:
                new.append(
                    f"{entry.names[0]} from {published.tensors[entry.names[0]].shape[1]}"
                    f" to {there[0].shape[1]}"
                )
        if entry.kind == "conv" and entry.path[0] == "stem":
            there = [_one_channel(there[0], stem)]
        shapes = [part.shape for part in entry.theirs(np.broadcast_to(np.float32(0), wanted.shape))]
        found = [part.shape for part in there]
        if entry.head and found != shapes:
            continue
        for name, has, wants in zip(entry.names, found, shapes, strict=True):
            if has != wants:
                raise UserError(f"{published.path}: {name} is {has}, and {wants} in this network")
        values[entry.path] = entry.ours(there)
    taken = {path for path in values if values[path] is not ours[path]}
    untouched = sorted({str(path[0]) for path in ours if path not in taken})
    note = f"{published.path}: {layout.name}, SHA-256 {published.sha256}"
    note += "".join(f"; {line}" for line in new)
    note += f"; new: {', '.join(untouched)}" if untouched else ""
    for begins, told in layout.left_out.items():
        note += f"; {told}" * any(name.startswith(begins) for name in published.tensors)
    return Start(_placed(params, values), _placed(stats, values), note)


def begun(
    initialise: Callable[[Any], tuple[Any, Any]],
    config: Any,
    features: int,
    clips: str = "",
    folds: Iterable[int] = (),
) -> Callable[..., tuple[Any, Any]]:
    """Initial values of a key: those of `initialise`, or of what the configuration names.

    Where it names a run with several folds, a second argument says whose they are.

    Args:
      initialise: draws parameters and statistics of a key.
      config: the whole configuration (`model` and `pretrained` are read).
      features: M of the network's input.
      clips: the digest of this run's clips, and `folds` that it tests on: a run of ours on the same
        clips gives each its own.

    Returns:
      A function like it, which says once on stderr what it read.

    Raises:
      UserError: as `files.read`, `runs.check` and, when it is called, `fit`.
    """
    wanted = config.pretrained
    if not wanted.weights:
        return lambda key, fold=runs.ALL: initialise(key)
    published = files.read_all(wanted.weights, wanted.sha256)
    one = next(iter(published.values()))
    if one.of_run:
        runs.check(config, one.about, clips, folds)
    told = False

    def begin(key: Any, fold: int = runs.ALL) -> tuple[Any, Any]:
        nonlocal told
        drawn = initialise(key)
        number = runs.ALL if runs.ALL in published else fold
        if number not in published:
            raise UserError(
                f"config.pretrained.weights={wanted.weights!r}: a run of several folds; name one"
            )
        found = published[number]
        start = fit(found, config.model, *drawn, features=features, stem=wanted.stem)
        if not told and jax.process_index() == 0:
            print(start.note, file=sys.stderr)
        told = True
        return start.params, start.stats

    return begin


def tensors(config: Any, params: Any, stats: Any, layout: str = "") -> dict[str, np.ndarray]:
    """A network's values by a publisher's names; `fit` of them gives the same bits.

    A layout without a classifier leaves it out.

    Args:
      config: the `model` section of the configuration.
      params: parameters.
      stats: statistics.
      layout: the name of one of `layouts(config)`; "" takes the first.

    Raises:
      UserError: nobody publishes such networks, or this one has what they have not.
    """
    known = {found.name: found for found in layouts(config)}
    if not known or (layout and layout not in known):
        there = ", ".join(known) or "no publisher's names are known for it"
        raise UserError(f"model.name={config.name!r} has no layout {layout!r}: {there}")
    chosen = known[layout] if layout else next(iter(known.values()))
    ours = {**flat(params), **flat(stats)}
    made: dict[str, np.ndarray] = {}
    for entry in chosen.entries:
        made.update(zip(entry.names, entry.theirs(np.asarray(ours.pop(entry.path))), strict=True))
    classified = any(entry.head for entry in chosen.entries)
    if left := [path for path in ours if classified or path[0] not in _CLASSIFIER]:
        path = ".".join(map(str, min(left, key=str)))
        raise UserError(f"{path} has no place in {chosen.name}")
    return made


def flat(tree: Any) -> dict[Path, Any]:
    """Parameters or statistics by their path, such as `("blocks", 0, "norm", "scale")`."""
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def path_of(keys: tuple[Any, ...]) -> Path:
    """A path as JAX gives it in the words and numbers of the module's attributes."""
    names: list[Any] = [
        getattr(k, "key", getattr(k, "idx", getattr(k, "name", None))) for k in keys
    ]
    return tuple(names[:-1] if names[-1] == "value" else names)


def _placed(tree: Any, values: Mapping[Path, Any]) -> Any:
    leaves, shape = jax.tree_util.tree_flatten_with_path(tree)
    return jax.tree_util.tree_unflatten(
        shape, [jnp.asarray(values[path_of(path)], leaf.dtype) for path, leaf in leaves]
    )


def _layout(published: Published, config: Any) -> Layout:
    known = layouts(config)
    if not known:
        raise UserError(f"config.model.name={config.name!r}: no published weights are known for it")
    for layout in known:
        if layout.mark in published.tensors:
            return layout
    marks = " or ".join(dict.fromkeys(layout.mark for layout in known))
    raise UserError(
        f"{published.path}: not the weights of a model.name={config.name!r}: no {marks}"
    )


def _agree(published: Published, layout: Layout, config: Any) -> None:
    """What shapes do not show: strides, heads, padding."""
    for key, wants in layout.wants.items():
        if getattr(config, key) != wants:
            raise UserError(
                f"config.model.{key}={getattr(config, key)!r}: {layout.name} has {wants!r}"
            )
    place = "configuration of" if published.of_run else "config.json beside"
    for key, field in layout.fields.items():
        there = published.about.get(field, getattr(config, key))
        if there != getattr(config, key):
            raise UserError(
                f"config.model.{key}={getattr(config, key)!r}: {field} is {there!r} in the "
                f"{place} {published.path}"
            )


def _entries(published: Published, layout: Layout) -> list[Entry]:
    """Those of the layout that the file has: all, or all but the classifier's."""
    there = published.tensors.keys()
    head = any(name in there for entry in layout.entries if entry.head for name in entry.names)
    entries = [entry for entry in layout.entries if head or not entry.head]
    wanted = {name for entry in entries for name in entry.names}
    if missing := sorted(wanted - there):
        raise UserError(
            f"{published.path}: {missing[0]} is missing{_and_more(missing)} ({layout.name})"
        )
    extra = sorted(
        name
        for name in there - wanted
        if not name.endswith(_UNUSED) and not name.startswith((*layout.unused, *layout.left_out))
    )
    if extra:
        raise UserError(
            f"{published.path}: {extra[0]} has no place in this network{_and_more(extra)} "
            f"({layout.name})"
        )
    return entries


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _one_channel(kernel: np.ndarray, stem: str) -> np.ndarray:
    """`[out, 3, height, width]` -> `[out, 1, height, width]`; what has one channel stays."""
    if kernel.ndim != 4 or kernel.shape[1] == 1:
        return kernel
    total = kernel.sum(1, keepdims=True, dtype=np.float64)
    return (total / (kernel.shape[1] if stem == "mean" else 1)).astype(np.float32)


def _positions(
    published: Published,
    config: Any,
    table: np.ndarray,
    wanted: tuple[int, ...],
    features: int,
    entry: Entry,
) -> np.ndarray:
    """AST's `[1, N, D]` for the network's grid of patches."""
    bins = published.about.get("num_mel_bins", _AST_BINS)
    rows = patches(bins, config.patch, config.frequency_stride)
    places = table.shape[1] - TOKENS if table.ndim == 3 else 0
    if places <= 0 or places % rows:
        raise UserError(
            f"{published.path}: {entry.names[0]} is {table.shape}, and not {TOKENS} tokens and "
            f"{rows} patches of frequency, which {bins} bins make, times some of time"
        )
    rows_here = patches(features, config.patch, config.frequency_stride)
    here = (rows_here, (wanted[0] - TOKENS) // rows_here)
    grid = table[0, TOKENS:].reshape(rows, places // rows, -1)
    for axis in (1, 0):
        grid = resized(grid, here[axis], axis)
    return np.concatenate([table[0, :TOKENS], grid.reshape(-1, grid.shape[2])])[None]


def resized(grid: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Positions of another size along an axis, as AST's authors have them.

    The middle of what is longer, and what is shorter interpolated linearly, positions being areas
    (`torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`).
    """
    old = grid.shape[axis]
    if size <= old:
        start = old // 2 - size // 2
        return grid.take(range(start, start + size), axis)
    centre = np.clip((np.arange(size) + 0.5) * (old / size) - 0.5, 0, old - 1)
    before = np.floor(centre).astype(int)
    after = np.minimum(before + 1, old - 1)
    share = (centre - before).reshape([-1 if i == axis else 1 for i in range(grid.ndim)])
    mixed = grid.take(before, axis) * (1 - share) + grid.take(after, axis) * share
    return mixed.astype(grid.dtype)
