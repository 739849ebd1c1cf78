"""One configuration key, and the kinds of keys that there are."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

_MOST = 2**31 - 1
LARGEST = sys.float_info.max  # what is above is infinite


@dataclasses.dataclass(frozen=True)
class Key:
    """One configuration key: default, predicate, the words for what it wants, and its meaning."""

    default: Any
    allows: Callable[[Any], bool]
    wants: str
    doc: str


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST


def integer(default: int, doc: str, low: int = 0) -> Key:
    return Key(
        default,
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= _MOST,
        f"an integer of {low} or more, up to {_MOST}",
        doc,
    )


def real(default: float, doc: str, low: float = 0.0, high: float = LARGEST) -> Key:
    wants = f"a number from {low:g} to {high:g}" if high < LARGEST else f"at least {low:g}"
    wants = "a finite number" if low == -LARGEST else wants
    return Key(default, lambda v: _number(v) and low <= v <= high, wants, doc)


def flag(default: bool, doc: str) -> Key:
    return Key(default, lambda v: isinstance(v, bool), "True or False", doc)


def text(default: str, doc: str) -> Key:
    return Key(default, lambda v: isinstance(v, str), "text", doc)


def texts(default: tuple[str, ...], doc: str) -> Key:
    return Key(
        default,
        lambda v: isinstance(v, tuple | list) and all(isinstance(i, str) for i in v),
        "a tuple of texts",
        doc,
    )


def choice(default: Any, options: tuple[Any, ...], doc: str) -> Key:
    return Key(default, lambda v: v in options, "one of " + ", ".join(map(repr, options)), doc)


def chance(doc: str) -> Key:
    return real(0.0, f"Chance for a clip: {doc}", 0.0, 1.0)


def integers(default: tuple[int, ...], doc: str) -> Key:
    return Key(
        default,
        lambda v: isinstance(v, tuple | list) and all(_counts(i) for i in v),
        "a tuple of positive integers",
        doc,
    )
