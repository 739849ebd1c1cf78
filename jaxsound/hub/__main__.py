"""The front door of sharing.

python -m jaxsound.hub runs/esc50_cnn --repo=USER/NAME --dry_run
"""

import logging
import sys
from pathlib import Path

from absl import app, flags

from jaxsound.errors import UserError, command
from jaxsound.hub import upload

REPO = flags.DEFINE_string("repo", "", "USER/NAME or ORGANISATION/NAME on the hub; made if needed.")
PRIVATE = flags.DEFINE_bool("private", False, "Only you see it. A public repository is refused.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List the files, print the card and send nothing.")
LICENCE = flags.DEFINE_string(
    "license", "", "The hub's name of a licence (cc-by-4.0); the data set's if unset."
)


@command("stopped; nothing is published before all is sent")
def main(argv: list[str]) -> int:
    """Shares the run or feature store that the command line names; returns the exit status."""
    app.define_help_flags()
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        paths = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        raise UserError(f"{error}; --help lists the flags") from None
    if len(paths) != 1:
        raise UserError("name one run directory or feature store: jaxsound.hub PATH --repo=...")
    plan = upload.plan(Path(paths[0]), REPO.value, LICENCE.value)
    print(plan.listing())
    if DRY_RUN.value:
        print(f"\nREADME.md\n\n{plan.card}\nNothing was sent.")
    else:
        print(upload.send(plan, private=PRIVATE.value))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
