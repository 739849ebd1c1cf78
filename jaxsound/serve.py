"""A trained run for others: an HTTP and WebSocket server, and a page to try it with.

python -m jaxsound.serve runs/quickstart
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import absl.logging

from jaxsound.cache import cache_root, keep_programs
from jaxsound.errors import UserError, command

if TYPE_CHECKING:
    from jaxsound.serving.server.settings import Settings

TOKEN = "JAXSOUND_TOKEN"  # the environment's variable
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@command()
def main(argv: Sequence[str] | None = None) -> int:
    """Serves the run that the command line names.

    Returns:
      The exit status: 0 after SIGTERM or SIGINT, 1 if the model does not run, 2 if the command
      line is wrong or the server cannot start.
    """
    absl.logging.set_verbosity(absl.logging.ERROR)
    args = _parse(argv)
    return _serve(args)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.serve",
        description="Serves a trained run over HTTP and WebSocket, with a page at /.",
        epilog=f"The bearer token that clients must bring is read from ${TOKEN} or --token-file.",
    )
    add = parser.add_argument
    add("checkpoint", help="a run (the mean over its folds), a fold, or several with commas")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    add("--port", type=int, default=8000, help="(8000); 0 for any that is free")
    add("--token-file", type=Path, metavar="FILE", help="whose first line is the bearer token")
    add(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="whose pages may use the server, https://example.org; may be repeated (none)",
    )
    limit = _limit(parser)
    limit("--max-megabytes", 50, "of a request's body")
    limit("--max-minutes", 60, "of sound in one request")
    limit("--body-seconds", 60, "for a body to arrive")
    limit("--request-seconds", 300, "for a request to be answered")
    limit("--idle-seconds", 10, "without a byte of headers or body; streams have three times that")
    limit("--drain-seconds", 30, "at the end, for what was taken to be answered")
    limit("--queue", 256, "windows that may wait; past it, 429", whole=True)
    limit("--max-streams", 16, "WebSocket streams at a time", whole=True)
    args = parser.parse_args(argv)
    if not 0 <= args.port < 65536:
        parser.error("--port must be 0 to 65535")
    return args


def _limit(parser: argparse.ArgumentParser):  # type: ignore[no-untyped-def]
    def positive(text: str) -> float:
        if not 0 < (value := float(text)) < 1e9:
            raise ValueError
        return value

    def count(text: str) -> int:
        if not 0 < (value := int(text)) < 10**9:
            raise ValueError
        return value

    def limit(name: str, default: int, about: str, whole: bool = False) -> None:
        kind = count if whole else positive
        parser.add_argument(
            name, type=kind, default=default, metavar="N", help=f"{about} ({default})"
        )

    return limit


def _serve(args: argparse.Namespace) -> int:
    try:
        from jaxsound.serving.server import app, running
        from jaxsound.serving.server.settings import BATCHES
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxsound"):
            raise
        raise UserError(f"serving needs {error.name}: pip install 'jaxsound[serve]'") from None
    from jaxsound.serving.classifier import load

    settings = _settings(args)
    with running.bind(args.host, args.port) as bound:
        keep_programs(cache_root())
        _log()
        classifier = load(args.checkpoint, BATCHES)
        made = app.build(classifier, settings)
        host, port = bound.getsockname()[:2]
        print(_banner(args, made.version, classifier.classes, host, port, settings), flush=True)
        return running.serve(made, settings, bound)


def _log() -> None:
    """jaxsound's own lines and others' warnings, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("jaxsound").setLevel(logging.INFO)


def _settings(args: argparse.Namespace) -> "Settings":
    from jaxsound.serving.server.settings import MEGABYTE, Settings

    for origin in args.cors_origin:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise UserError(f"--cors-origin={origin}: https://HOST or http://HOST:PORT is wanted")
    token = os.environ.get(TOKEN, "")
    if args.token_file:
        token = args.token_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        if not token:
            raise UserError(f"{args.token_file}: its first line is empty")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError("the token must be of ASCII's visible characters")
    return Settings(
        max_bytes=round(args.max_megabytes * MEGABYTE),
        max_minutes=args.max_minutes,
        body_seconds=args.body_seconds,
        request_seconds=args.request_seconds,
        idle_seconds=args.idle_seconds,
        queue=args.queue,
        drain_seconds=args.drain_seconds,
        max_streams=args.max_streams,
        decoders=max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2),
        token=token,
        cors_origins=tuple(args.cors_origin),
    )


def _banner(
    args: argparse.Namespace,
    version: str,
    classes: Sequence[str],
    host: str,
    port: int,
    settings: "Settings",
) -> str:
    shown = ", ".join(classes[:8]) + (f" and {len(classes) - 8} more" if len(classes) > 8 else "")
    lines = [
        f"jaxsound {version} serves {args.checkpoint}",
        f"classes  {shown}",
        f"page     http://{f'[{host}]' if ':' in host else host}:{port}/",
    ]
    if args.host not in LOOPBACK and not settings.token:
        lines.append(f"anyone who reaches this address may use it: no token is set (${TOKEN})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
