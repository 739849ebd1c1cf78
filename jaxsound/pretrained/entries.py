"""What publishers call the tensors of a network, and how they lay them out.

An `Entry` pairs a parameter or statistic of ours with tensors of theirs. Pictures are theirs of
height by width and ours of time by frequency; a spectrogram's height is its frequency.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of ours and what it is made of.

    Attributes:
      path: ours, such as `("blocks", 0, "norm", "scale")`.
      names: theirs; several are joined along their outputs.
      kind: what theirs is: "plain" (the same as ours), "linear" `[out, in]`, "dense"
        `[out, in, 1, 1]`, "conv" `[out, in, height, width]` or `[out, in, time]`, "image"
        (the first, where ours is of height by width too), "token" `[1, 1, D]` or "positions"
        `[1, N, D]`, a table that depends on the input's size.
      head: whether it belongs to the classifier, which another number of classes replaces.
    """

    path: Path
    names: tuple[str, ...]
    kind: str = "plain"
    head: bool = False

    def ours(self, theirs: list[np.ndarray]) -> np.ndarray:
        """Their tensors as one of ours."""
        first = theirs[0]
        match self.kind:
            case "linear":
                return np.concatenate(theirs).T
            case "dense":
                return first[:, :, 0, 0].T
            case "image":
                return first.transpose(2, 3, 1, 0)
            case "conv":
                return first.T  # all four or three axes turned round
            case "token":
                return first[0, 0]
            case "positions":
                return first[0]
        return np.concatenate(theirs)

    def theirs(self, ours: np.ndarray) -> list[np.ndarray]:
        """The way back, bit for bit."""
        match self.kind:
            case "linear":
                return np.split(ours.T, len(self.names))
            case "dense":
                return [ours.T[:, :, None, None]]
            case "image":
                return [ours.transpose(3, 2, 0, 1)]
            case "conv":
                return [ours.T]
            case "token":
                return [ours[None, None]]
            case "positions":
                return [ours[None]]
        return np.split(ours, len(self.names))


@dataclasses.dataclass(frozen=True)
class Layout:
    """A publisher's names for one network.

    Attributes:
      name: for people.
      mark: a tensor that this layout has and the network's others have not.
      entries: of the network that the `model` section describes.
      wants: keys of that section, and what they must be for these weights.
      fields: keys of that section, and what the publisher's config.json calls them.
      unused: how names begin that have their use in the publisher's own training alone.
      left_out: how names begin that this network has no place for, and what is told of them.
    """

    name: str
    mark: str
    entries: tuple[Entry, ...]
    wants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)


def norm_entries(path: Path, name: str) -> Iterator[Entry]:
    """LayerNorm."""
    yield Entry((*path, "scale"), (f"{name}.weight",))
    yield Entry((*path, "bias"), (f"{name}.bias",))


def batch_norm_entries(path: Path, name: str) -> Iterator[Entry]:
    yield from norm_entries(path, name)
    yield Entry((*path, "mean"), (f"{name}.running_mean",))
    yield Entry((*path, "var"), (f"{name}.running_var",))


def linear_entries(
    path: Path, *names: str, head: bool = False, kind: str = "linear"
) -> Iterator[Entry]:
    yield Entry((*path, "kernel"), tuple(f"{n}.weight" for n in names), kind, head)
    yield Entry((*path, "bias"), tuple(f"{n}.bias" for n in names), "plain", head)


def conv_entries(path: Path, name: str) -> Iterator[Entry]:
    yield Entry((*path, "conv", "kernel"), (f"{name}.weight",), "conv")
