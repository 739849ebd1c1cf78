r"""Features of a large data set through Apache Beam: on this machine, Dataflow, Flink or Spark.

    python -m jaxsound.features.beam --config=configs/esc50_cnn.py --config.data.manual_dir=DIR \
        [--work=gs://BUCKET/DIR] [--clips=256] [-- --runner=DirectRunner ...]

What stands after `--` is Beam's. The store is the one that a training would prepare by itself, byte
for byte, at the place where it looks for it. docs/beam.md says what each runner needs.
"""

import functools
import sys
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from jaxsound import places
from jaxsound.cache import cache_root
from jaxsound.config import in_one_line, stored_frontends, validate
from jaxsound.data import dataset
from jaxsound.errors import UserError, command
from jaxsound.features import shards, store
from jaxsound.features.frontend import FrontendConfig

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment whose features are prepared, as jaxsound.main takes it."
)
WORK = flags.DEFINE_string(
    "work", "", "Folder of pieces that every worker sees: gs://, s3:// or a path; '': in the cache."
)
CLIPS = flags.DEFINE_integer("clips", 256, "Clips of a piece.", lower_bound=1)


def prepare(
    config: ml_collections.ConfigDict, work: str, clips: int, arguments: list[str]
) -> list[store.Store]:
    """The stores that `config` asks for, computed by Beam pipelines if they are not there.

    Args:
      config: checked.
      work: address or path of a folder that every worker sees; '' for one in the cache.
      clips: of a piece.
      arguments: Beam's options, as on its command line.

    Raises:
      UserError: what `store.precompute` and `dataset.prepare` raise; or the pipeline failed.
    """
    source = dataset.find(config.data)
    return [
        _prepared(config, source, frontend, work, clips, arguments)
        for frontend in stored_frontends(config)
    ]


def _prepared(
    config: ml_collections.ConfigDict,
    source: dataset.Source,
    frontend: FrontendConfig,
    work: str,
    clips: int,
    arguments: list[str],
) -> store.Store:
    cache = cache_root(config.data.cache_dir)
    path = store.place(source.fingerprint, frontend, cache)
    if path.exists():
        return store.open_store(path)
    if source.listing is None:
        raise UserError(
            "config.data.manual_dir='': Beam's workers read recordings that are there already; "
            "give their folder, which every worker sees under the same path"
        )
    address = config.data.manual_dir if places.is_remote(config.data.manual_dir) else ""
    root = places.local(config.data.manual_dir, cache) if address else None
    folder = f"{(work or str(cache / 'beam')).rstrip('/')}/{path.name}-{clips}"
    count = shards.lay_out(folder, source.listing.clips, clips, root, address)
    _run(folder, frontend, count, arguments)
    made = shards.gather(folder, count, source, config.data.name, frontend, cache)
    places.remove(folder)
    return made


def _run(folder: str, frontend: FrontendConfig, count: int, arguments: list[str]) -> None:
    beam, runner, options = _beam(arguments)
    try:
        with beam.Pipeline(runner, options=options) as pipeline:
            numbers = pipeline | beam.Create(range(count)) | beam.Reshuffle()
            numbers | beam.Map(functools.partial(shards.make, folder, frontend))
    except Exception as error:  # runners put a worker's traceback into the text of theirs
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"Beam's pipeline failed: {lines[-1] if lines else error!r}") from error


def _beam(arguments: list[str]) -> tuple[Any, Any, Any]:
    """Beam, the runner to use, None for the one that the options name, and the options."""
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    except ImportError as error:
        raise UserError("Apache Beam is not installed: pip install 'jaxsound[beam]'") from error
    options = PipelineOptions(arguments)
    named = options.view_as(StandardOptions).runner
    # What DirectRunner ends with, once it has looked for a program to download.
    local = named in (None, "DirectRunner")
    return apache_beam, FnApiRunner() if local else None, options


@command()
def main(argv: list[str]) -> int:
    """Runs what the command line asks for; returns the exit status."""
    app.define_help_flags()
    logging.set_verbosity(logging.ERROR)
    with in_one_line(argv):
        rest = flags.FLAGS(argv)[1:]
        config = CONFIG.value
    validate(config)
    stores = prepare(config, WORK.value, CLIPS.value, rest)
    for made in stores:
        print(f"{len(made)} clips, {len(made.meta['left_out'])} left out: {made.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
