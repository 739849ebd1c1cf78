"""What is wrong with a data set, before a result is believed.

python -m jaxsound.audit DIR    or    --config=configs/esc50_cnn.py --config.data.manual_dir=DIR
"""

import contextlib
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxsound.audit import audit, report, sources
from jaxsound.config import in_one_line, validate
from jaxsound.errors import UserError, command

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment whose data is audited.")
JSON = flags.DEFINE_string("json", None, "Where everything goes as JSON; '-' prints it instead.")
THREADS = flags.DEFINE_integer("threads", None, "Reading threads; one per core if unset.", 1)


@command()
def main(argv: list[str]) -> int:
    """Audits what the command line names; returns the exit status: 0, 1 if invalid, 2 if wrong."""
    app.define_help_flags()
    logging.set_verbosity(logging.ERROR)
    survey, findings = audit(_catalogue(argv), THREADS.value)
    everything = report.as_json(survey, findings) + "\n" if JSON.value else ""
    if JSON.value not in (None, "-"):
        Path(JSON.value).write_text(everything)
    print(everything if JSON.value == "-" else report.text(survey, findings))
    return report.status(findings)


def _catalogue(argv: list[str]) -> sources.Catalogue:
    named = any(arg.startswith(("--config=", "-config=")) for arg in argv)
    try:
        with in_one_line(argv) if named else contextlib.nullcontext():
            folders = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; --help lists the flags") from None
    if named == bool(folders) or len(folders) > 1:
        raise UserError("give either --config=FILE or one folder (or CSV) of recordings")
    if folders:
        return sources.from_folder(Path(folders[0]))
    validate(CONFIG.value)
    return sources.from_config(CONFIG.value.data)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
