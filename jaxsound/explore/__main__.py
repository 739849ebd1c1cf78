"""Figures of a data set, and of where a trained model looks, as PNGs and one page.

python -m jaxsound.explore --config=configs/quickstart.py --out=explore/quickstart
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxsound.config import in_one_line, validate
from jaxsound.data.dataset import prepare
from jaxsound.errors import command
from jaxsound.explore import page

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment; every key of it can be changed: --config.data.manual_dir=DIR"
)
OUT = flags.DEFINE_string("out", None, "Where figures go; explore/NAME_OF_CONFIG if unset.")
WORKDIR = flags.DEFINE_string("workdir", None, "A run of jaxsound.main: shows where it looks.")


@command()
def main(argv: list[str]) -> int:
    """Draws what the command line asks for; returns the exit status."""
    app.define_help_flags()
    logging.set_verbosity(logging.ERROR)
    with in_one_line(argv):
        flags.FLAGS(argv)
        config, file = CONFIG.value, config_flags.get_config_filename(flags.FLAGS["config"])
    validate(config)
    name = Path(file).stem
    out = Path(OUT.value or f"explore/{name}")
    workdir = Path(WORKDIR.value) if WORKDIR.value else None
    print(page.explore(prepare(config.data), config, out, workdir))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
