"""A trained run for other runtimes: waveform in, probabilities out.

python -m jaxsound.export runs/quickstart model.onnx --to=onnx
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import absl.logging
import jax

from jaxsound.cache import cache_root, keep_programs
from jaxsound.errors import command
from jaxsound.serving.classifier import load
from jaxsound.serving.exporting import verification
from jaxsound.serving.exporting.artefact import FORMATS, export


@command("stopped; nothing was written")
def main(argv: Sequence[str] | None = None) -> int:
    """Exports what the command line names.

    Returns:
      The exit status: 2 if nothing could be written.
    """
    absl.logging.set_verbosity(absl.logging.ERROR)
    args = _parse(argv)
    # What is traced on a GPU or TPU is that device's alone.
    jax.config.update("jax_platforms", "cpu")
    keep_programs(cache_root())
    classifier = load(args.checkpoint)
    clips = verification.recorded(classifier, args.verify) if args.verify else None
    found = export(classifier, args.out, args.to, clips)
    verified = found.about["verified"]
    print(f"{found.path}: {args.to}, {found.bytes / 1e6:.1f} MB, described in {found.path}.json")
    print(
        f"at most {verified['max_difference']:.1e} from the checkpoint in probability, in "
        f"{verified['runtime']}, over {verified['clips']} clips and parts of them"
    )
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.export",
        description="A trained run for other runtimes: waveform in, probabilities out.",
    )
    add = parser.add_argument
    add("checkpoint", help="a run (the mean over its folds), a fold, or several with commas")
    add("out", type=Path, help="the file, or for saved_model the folder; an earlier export goes")
    add("--to", choices=FORMATS, required=True, help="the format")
    add(
        "--verify",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="recordings on which it is compared with the checkpoint (synthetic sounds)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
