"""The one error a user is meant to read, and how every command tells it."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")
Main = Callable[Arguments, int]

_HELP_HAS_PRINTED = 1  # what absl leaves with then


class UserError(Exception):
    """Something the user can mend. The message is one line: it names the thing and what would do.

    A command prints it as `error: <message>` and exits with status 2.
    """


def command(stopped: str = "stopped") -> Callable[[Main[Arguments]], Main[Arguments]]:
    """Decorates a command's `main`, which returns the exit status: no traceback for what happens.

    The status is 2 after a `UserError` or an `OSError`, told in one line on stderr, 130 after
    Ctrl-C, told by `stopped`, and 0 after absl's help; argparse leaves with its own.
    """

    def decorate(main: Main[Arguments]) -> Main[Arguments]:
        @functools.wraps(main)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except (UserError, OSError) as error:
                print(f"error: {_line(error)}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                print(f"\n{stopped}", file=sys.stderr)
                return 130
            except SystemExit as left:
                if left.code != _HELP_HAS_PRINTED:
                    raise
                return 0

        return run

    return decorate


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
