"""How hypothesis runs here: the same examples each time, and nothing kept on disk.

`JAXSOUND_EXAMPLES=20` takes twenty times as many.
"""

import os
import tempfile

from hypothesis import HealthCheck, configuration, settings

configuration.set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "hypothesis-unused"))
_MORE = int(os.environ.get("JAXSOUND_EXAMPLES", "1"))


def examples(number: int) -> settings:
    """Settings for that many examples, or as many times more as the environment says."""
    return settings(
        max_examples=number * _MORE,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
