"""Progress bars: on stderr, gone when finished, and seldom renewed where nobody watches."""

import sys
from typing import Any

from tqdm import tqdm

_SECONDS_IN_LOGS = 15.0  # a job's log keeps every state of a bar


def bar(iterable: Any = None, **options: Any) -> tqdm:
    """A bar with tqdm's `options`; on a terminal it moves at once, in a log every 15 s."""
    terminal = sys.stderr.isatty()
    defaults: dict[str, Any] = {"file": sys.stderr, "leave": False}
    if not terminal:
        defaults |= {"mininterval": _SECONDS_IN_LOGS, "maxinterval": 2 * _SECONDS_IN_LOGS}
    return tqdm(iterable, **defaults | options)
