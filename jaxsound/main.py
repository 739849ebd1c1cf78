"""The front door: flags, devices, one call.

python -m jaxsound.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from jaxsound import allocator, train
from jaxsound.cache import cache_root, keep_programs
from jaxsound.config import in_one_line, validate
from jaxsound.errors import command
from jaxsound.job import hosts, mirror, stopping
from jaxsound.results import format_table

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of configs/, variants after a colon (configs/x.py:fold=3); --config.seed=1 sets a key",
)
WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory; runs/NAME_OF_CONFIG if unset.")


@command()
def main(argv: list[str]) -> int:
    """Runs what the command line asks for; returns the exit status."""
    allocator.keep_freed_memory()
    app.define_help_flags()
    logging.set_verbosity(logging.FATAL)  # what Orbax logs as an error it raises as well
    try:
        with stopping.listen():
            return _run(argv)
    except stopping.Stopped as stopped:
        return stopped.report()


def _run(argv: list[str]) -> int:
    with in_one_line(argv):
        flags.FLAGS(argv)
        config, file = CONFIG.value, config_flags.get_config_filename(flags.FLAGS["config"])
    validate(config)
    cache = cache_root(config.data.cache_dir)
    keep_programs(cache)
    place = WORKDIR.value or f"runs/{Path(file).stem}"
    with hosts.together(config.crossval), mirror.at(place, cache) as directory:
        if result := train.run(config, directory):
            where = f"report  {place}/report.html\ncurves  tensorboard --logdir {place}"
            print(f"{format_table(result)}\n\n{where}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
