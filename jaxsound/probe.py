"""What a network's embeddings are worth: frozen, and a small classifier trained on them.

python -m jaxsound.probe --config=configs/pretrained/ast_esc50.py [--workdir=DIR]
python -m jaxsound.probe --run=RUN [--workdir=DIR]

Of a config, its network with the weights of `config.pretrained`, or as it is drawn at random where
there are none; of a finished run, fold k's model for fold k, which has not seen that fold's test
clips. The probes and how they are chosen: `jaxsound.evaluation.probe`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from jaxsound import allocator
from jaxsound.bars import bar
from jaxsound.cache import cache_root, keep_programs
from jaxsound.config import frontend_config, in_one_line, validate
from jaxsound.data import folds
from jaxsound.errors import UserError, command
from jaxsound.evaluation import files, probe
from jaxsound.experiment import input_shape
from jaxsound.features.store import Store
from jaxsound.input import finished, pipeline
from jaxsound.input.stores import prepare_store
from jaxsound.job import workdir
from jaxsound.pretrained import files as published
from jaxsound.pretrained.weights import begun
from jaxsound.training import state
from jaxsound.training.restore import Trained

ONCE = ("fixed", "none")  # normalisations of features that no fold has a part in
# Last layers that begin at random with every task.
NEW = {"wav2vec2": ("hidden", "head")}


@command()
def main(argv: Sequence[str]) -> int:
    """Probes what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxsound.probe",
        description="Trains small classifiers on a network's frozen embeddings, over folds.",
        epilog="--config.KEY=VALUE sets a key of the config; of a run, where its data is now.",
    )
    parser.add_argument("--config", metavar="FILE", help="a file of configs/, variants after ':'")
    parser.add_argument("--run", type=Path, metavar="RUN", help="a finished run, instead")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="runs/NAME_probe if unset")
    allocator.keep_freed_memory()
    logging.set_verbosity(logging.ERROR)
    options, rest = parser.parse_known_args(argv)
    if options.config and options.run:
        raise UserError("--config and --run: name one of the two")
    if options.run:
        options, changes = finished.parse(parser, argv)
        name, result = options.run.resolve().name, of_run(options.run, changes)
    else:
        chosen = [f"--config={options.config}"] if options.config else []
        name, result = of_config([parser.prog, *chosen, *rest])
    out = options.workdir or Path("runs") / f"{name}_probe"
    files.write(out / "probe.json", files.to_json(result))
    print(f"{probe.format_table(result)}\n\nfigures {out / 'probe.json'}")
    return 0


def of_config(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The config's name, and what `probe.json` holds of its network."""
    values = flags.FlagValues()  # its own: who imports this module may have a flag of that name
    config_flags.DEFINE_config_file("config", None, "The experiment.", flag_values=values)
    with in_one_line(list(argv)):
        values(argv)
        config, file = values.config, config_flags.get_config_filename(values["config"])
    validate(config)
    if config.task != "classification":
        raise UserError(f"config.task={config.task!r}: a probe is of classes")
    if not config.data.validation:
        raise UserError(
            "config.data.validation=0.0: the probe is chosen by validation clips; hold some out"
        )
    published.pin(config.pretrained)
    keep_programs(cache_root(config.data.cache_dir))
    config.data.input = "features"  # what is heard in training has no part in this
    store = prepare_store(config)
    chosen = sorted(set(config.folds)) or workdir.available_folds(store)
    splits = {
        fold: folds.split(store, fold, validation=config.data.validation, seed=config.seed)
        for fold in chosen
    }
    network = drawn(config, store, splits)

    def model(fold: int) -> Trained:
        return network(splits[fold].train)

    classifier = NEW.get(config.model.name, ("head",))
    once = config.data.normalize in ONCE
    return Path(file).stem, _probed(config, store, splits, model, classifier, once=once)


def of_run(directory: Path, changes: dict[str, str]) -> dict[str, Any]:
    """What `probe.json` holds of a run's networks."""
    keep_programs(cache_root(changes.get("data.cache_dir", "")))
    run = finished.open_run(directory, changes)
    splits = {fold: run.split(fold) for fold in run.folds}
    return {"run": str(directory)} | _probed(
        run.config, run.store, splits, run.model, ("head",), once=False
    )


def drawn(config: Any, store: Store, tested: Iterable[int] = ()) -> Callable[[np.ndarray], Trained]:
    """The config's network as training would begin with it, for features of some clips' statistics.

    Its values are the same for all folds; those that training would draw anew for each are those
    of a fold 0. Weights of a run that has heard test clips of the folds `tested` are refused.
    """
    frames, features = input_shape(config, int(store.lengths.max()))
    names = store.class_names
    network, initialise = state.plan_network(
        config.model, features=features, classes=len(names), frames=frames
    )
    begin = begun(initialise, config, features, workdir.digest_of_clips(store), tested)
    params, stats = begin(state.stream_key(config.seed, "init", 0))
    fixed = (config.data.fixed_mean, config.data.fixed_std)

    def model(clips: np.ndarray) -> Trained:
        mean, std = pipeline.normalisation(
            store, clips, config.data.normalize, fixed, skip=config.nonfinite == "skip"
        )
        whole = state.TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            opt_state=None,
            ema=None,
            mean=jnp.asarray(mean),
            std=jnp.asarray(std),
            class_weight=jnp.ones(len(names)),
        )
        return Trained(config, names, frontend_config(config), 0, frames, network, whole)

    return model


def _probed(
    config: Any,
    store: Store,
    splits: dict[int, folds.Split],
    model: Callable[[int], Trained],
    classifier: Sequence[str],
    *,
    once: bool,
) -> dict[str, Any]:
    """Embeds all clips, once or once for each fold, and probes what comes of it."""
    probe.check(splits)
    seconds, kept = 0.0, np.zeros((0, 0))
    clips = np.arange(len(store))

    def values(fold: int) -> np.ndarray:
        nonlocal seconds, kept
        if kept.size and once:
            return kept
        start = time.perf_counter()
        which = "" if once else f" for fold {fold}"
        with bar(desc=f"embeddings{which}", total=len(clips), unit="clip") as seen:
            kept = probe.embeddings(model(fold), store, clips, classifier, seen.update)
        seconds += time.perf_counter() - start
        return kept

    grid, steps = probe.GRID, probe.STEPS
    total = len(splits) * len({point.hidden for point in grid}) * steps
    with bar(desc="probes", total=total, unit="step", position=1) as stepped:
        result = probe.measure(
            values, store, splits, grid=grid, steps=steps, seed=config.seed, done=stepped.update
        )
    return result | {
        "embedding_width": kept.shape[1],
        "embedded": "once" if once else "for each fold, whose training clips normalise features",
        "embedding_seconds": seconds,
        **{key: store.meta[key] for key in ("note", "citation", "licence")},
        "clips_left_out": store.meta["left_out"],
        "config": config.to_dict(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
