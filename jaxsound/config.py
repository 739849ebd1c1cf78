"""Configurations: made of the tables in `jaxsound.keys`, read from files, checked before use.

A config file calls `default_config(model)` and changes what it needs. The result is a locked
`ml_collections.ConfigDict`, so a misspelt key stops at once; `validate` checks values and the
relations between them before anything is read, written or compiled.
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from jaxsound.errors import UserError
from jaxsound.features.frontend import SAMPLES, WAVEFORM, FrontendConfig, samples_of
from jaxsound.keys import IN_SOUND, LOSS, MODEL_COMMON, MODELS, NEEDS_BINS, SECTIONS, TOP, Key
from jaxsound.models import stack

HEARING = ("wav2vec2",)  # networks that take samples instead of features
HEARD = FrontendConfig(kind=SAMPLES, sample_rate=16000, dtype="int16")
KEYS = frozenset(
    [f"config.{name}" for name in TOP]
    + [f"config.{section}.{name}" for section, keys in SECTIONS.items() for name in keys]
    + [f"config.model.{name}" for keys in MODELS.values() for name in keys | MODEL_COMMON]
    + [f"config.frontend.{field.name}" for field in dataclasses.fields(FrontendConfig)]
)


def default_config(model: str) -> ml_collections.ConfigDict:
    """All keys at their defaults, locked, for one of `MODELS`."""
    config = ml_collections.ConfigDict({k: key.default for k, key in TOP.items()})
    for section, keys in SECTIONS.items():
        config[section] = {k: key.default for k, key in keys.items()}
    config.frontend = dataclasses.asdict(HEARD if model in HEARING else FrontendConfig())
    config.model = {"name": model} | {k: v.default for k, v in _model_keys(model).items()}
    config.lock()
    return config


def _model_keys(name: str) -> dict[str, Key]:
    if name not in MODELS:
        raise UserError(f"config.model.name={name!r}: must be one of {', '.join(MODELS)}")
    return MODELS[name] | MODEL_COMMON


def apply_argument(config: ml_collections.ConfigDict, arg: str, **allowed: str) -> None:
    """Applies the `fold=3,subset=esc10` after the colon of `--config=file.py:...`.

    Args:
      config: changed in place.
      arg: comma-separated `key=value` pairs, or ''.
      **allowed: the keys understood beside `fold`, each with the dotted config key it sets.

    Raises:
      UserError: an item is not `key=value` or its key is not known.
    """
    for item in filter(None, arg.split(",")):
        key, equals, value = item.partition("=")
        if key == "fold" and value.isdecimal():
            config.folds = (int(value),)
        elif equals and key in allowed:
            config.update_from_flattened_dict({allowed[key]: value})
        else:
            known = ", ".join(["fold=NUMBER", *(f"{k}=..." for k in allowed)])
            raise UserError(f"config argument {item!r} is not understood; known: {known}")


def as_coded(arg: str) -> tuple[bool, str]:
    """Takes `as_coded` or `as_intended`, the default, out of a config's argument.

    Returns:
      Whether it was `as_coded`, and the rest of the argument.
    """
    items = arg.split(",")
    rest = [item for item in items if item not in ("as_coded", "as_intended")]
    return "as_coded" in items, ",".join(rest)


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks every value, and the relations between them.

    Raises:
      UserError: one line with the key, its value and what would do.
    """
    _check(config, TOP, "", sections=(*SECTIONS, "frontend", "model"))
    for section, keys in SECTIONS.items():
        _check(config[section], keys, f"{section}.")
    _check(config.model, _model_keys(config.model.name), "model.", sections=("name",))
    frontend = frontend_config(config)
    _check_relations(config, frontend)


@contextlib.contextmanager
def in_one_line(argv: list[str]) -> Iterator[None]:
    """Turns what goes wrong while the command line is read into a `UserError`.

    Args:
      argv: the command line.
    """
    path = next((a.partition("=")[2] for a in argv if a.startswith("--config=")), "")
    path = path.partition(":")[0]
    if not path and not any(arg.startswith("--help") for arg in argv):
        raise UserError("no --config=FILE; a first try: --config=configs/quickstart.py")
    if path and not Path(path).is_file():
        raise UserError(f"--config={path}: no such file; {_configs_beside(Path(path))}")
    try:
        yield
    except (UserError, SystemExit):
        raise
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; --help lists the flags") from None
    except Exception as error:
        given = [arg[2:].partition("=")[0] for arg in argv if arg.startswith("--config.")]
        for unknown in (key for key in given if key not in KEYS):
            near = difflib.get_close_matches(unknown, KEYS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{unknown}: unknown key{hint}") from None
        line = " ".join(str(error).split())
        raise UserError(f"--config={path} cannot be read: {type(error).__name__}: {line}") from None


def _configs_beside(path: Path) -> str:
    """The files and folders where a config was looked for, or else in configs/."""
    inside = path.parts[:1] == ("configs",) and path.parent.is_dir()
    folder = path.parent if inside else Path("configs")
    files = sorted(file.name for file in folder.glob("*.py"))
    folders = sorted({f"{file.parent.name}/" for file in folder.glob("*/*.py")})
    return f"{folder}/ has {', '.join(files + folders) or 'none'}"


def frontend_config(config: ml_collections.ConfigDict) -> FrontendConfig:
    """The frontend section as the frozen dataclass that `features.frontend` takes."""
    try:
        return FrontendConfig(**config.frontend)
    except (TypeError, ValueError) as error:
        raise UserError(f"config: {error}") from None


def follows_validation(config: ml_collections.ConfigDict) -> bool:
    """Whether training follows the validation split: its length, its rate or its weights."""
    return (
        config.select == "best"
        or config.early_stopping > 0
        or config.optimizer.schedule == "plateau"
    )


def stored_frontends(config: ml_collections.ConfigDict) -> list[FrontendConfig]:
    """What a run's stores keep: features, and where training hears sound, samples as well."""
    features = frontend_config(config)
    return [features] if config.data.input == "features" else [features, samples_of(features)]


def _check(
    section: Mapping[str, Any], keys: dict[str, Key], prefix: str, sections: tuple[str, ...] = ()
) -> None:
    for name in section:
        if name not in keys and name not in sections:
            near = difflib.get_close_matches(name, keys, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(keys)}"
            raise UserError(f"config.{prefix}{name}: unknown key{hint}")
    for name, key in keys.items():
        if not key.allows(section[name]):
            raise UserError(f"config.{prefix}{name}={section[name]!r}: must be {key.wants}")


def _check_htsat(
    data: Any, model: Any, frontend: FrontendConfig, refuse: Callable[[str, Any, str], None]
) -> None:
    bins = data.crop_bins or frontend.features
    if len(model.depths) != len(model.heads):
        refuse("model.heads", model.heads, f"must be as many as model.depths={model.depths}")
    if model.picture % bins:
        refuse("model.picture", model.picture, f"must be a multiple of the {bins} bins")
    smallest = model.patch * model.window * 2 ** (len(model.depths) - 1)
    if model.picture % smallest:
        refuse("model.picture", model.picture, f"must be a multiple of {smallest} pixels")
    most, key = model.picture * (model.picture // bins), "data.pad_seconds"
    if data.frames:
        frames, key = data.frames, "data.frames"
    else:
        frames = frontend.frames(round(data.pad_seconds * frontend.sample_rate))
    value = data.frames or data.pad_seconds
    if model.fusion:
        chunk = model.chunk_frames
        if chunk > most:
            refuse("model.chunk_frames", chunk, f"a picture of {model.picture} has {most}")
        if frames <= chunk:
            refuse("model.fusion", True, f"{key}={value} and the frontend leave {frames} frames")
        if frontend.frames(0) > chunk:
            refuse("model.chunk_frames", chunk, f"clips are padded to {frontend.frames(0)} frames")
    elif frames > most:
        refuse(key, value, f"{frames} frames, and a picture of {model.picture} has {most}")
    for stage, heads in enumerate(model.heads):
        if model.width * 2**stage % heads:
            refuse("model.heads", model.heads, f"{heads} must divide {model.width * 2**stage}")


def _check_cp_resnet(model: Any, refuse: Callable[[str, Any, str], None]) -> None:
    if not model.channels or len(model.channels) != len(model.blocks):
        refuse("model.blocks", model.blocks, f"must be as many as model.channels={model.channels}")
    if max(model.pools, default=0) > sum(model.blocks):
        refuse("model.pools", model.pools, f"there are {sum(model.blocks)} blocks")


def _check_transformer(
    model: Any, frontend: FrontendConfig, refuse: Callable[[str, Any, str], None]
) -> None:
    if model.width % model.heads:
        refuse("model.heads", model.heads, f"must divide model.width={model.width}")
    drops = {name: model[name] for name in ("drop_tokens", "drop_times", "drop_bins")}
    if model.positions == "rotary":
        if (model.width // model.heads) % 2:
            refuse("model.heads", model.heads, "rotary positions need an even width per head")
        if model.grid or any(drops.values()):
            why = "needs all tokens, one for each time: no model.grid, nothing dropped"
            refuse("model.positions", model.positions, why)
    if model.positions == "sinusoidal" and model.width % 2:
        refuse("model.width", model.width, "sinusoidal positions need an even width")
    if model.grid and model.stem != "conv":
        refuse("model.grid", model.grid, "needs model.stem='conv'")
    for name in ("drop_times", "drop_bins"):
        if drops[name] and not model.grid:
            refuse(f"model.{name}", drops[name], "needs model.grid; see model.drop_tokens")
    if model.stem == "waveform":
        if frontend.kind != WAVEFORM:
            refuse("model.stem", model.stem, f"needs frontend.kind={WAVEFORM!r}")
        if not model.stem_factors or len(model.stem_channels) != len(model.stem_factors):
            why = f"must be as many as model.stem_factors={model.stem_factors}"
            refuse("model.stem_channels", model.stem_channels, why)


def _check_reconstruction(config: Any, refuse: Callable[[str, Any, str], None]) -> None:
    """What a network that fills in spectrograms must be, and what would look at labels."""
    model = config.model
    if model.name != "transformer":
        refuse("model.name", model.name, "task='reconstruction' needs 'transformer'")
    if model.stem == "waveform":
        refuse("model.stem", model.stem, "task='reconstruction' needs 'conv' or 'frames'")
    for name in ("drop_tokens", "drop_times", "drop_bins"):
        if model[name]:
            refuse(f"model.{name}", model[name], "task='reconstruction' needs all tokens")
    labels = "task='reconstruction' looks at no labels"
    for name, key in LOSS.items():
        if config.loss[name] != key.default:
            refuse(f"loss.{name}", config.loss[name], labels)
    if config.distill.run:
        refuse("distill.run", config.distill.run, labels)
    if config.monitor == "accuracy":
        refuse("monitor", config.monitor, labels)


def _check_relations(config: ml_collections.ConfigDict, frontend: FrontendConfig) -> None:
    data, model, schedule = config.data, config.model, config.optimizer.schedule

    def refuse(key: str, value: Any, why: str) -> None:
        raise UserError(f"config.{key}={value!r}: {why}")

    if data.crop_seconds > data.pad_seconds and not data.frames:
        refuse(
            "data.crop_seconds",
            data.crop_seconds,
            f"must be at most pad_seconds={data.pad_seconds}",
        )
    if data.crop_bins > frontend.features:
        refuse("data.crop_bins", data.crop_bins, f"the frontend makes {frontend.features} bins")
    follows = {
        "select": config.select == "best" and config.select,
        "early_stopping": config.early_stopping,
        "optimizer.schedule": schedule == "plateau" and schedule,
    }
    for key, value in follows.items():
        if value and not (data.validation and config.eval_every):
            refuse(key, value, "needs data.validation and eval_every above 0")
    if config.early_stopping and config.crossval == "vmap":
        why = "folds side by side take the same steps; use crossval='sequential'"
        refuse("early_stopping", config.early_stopping, why)
    if config.watch_test and not config.eval_every:
        refuse("watch_test", config.watch_test, "needs eval_every above 0")
    if model.name == "stack":
        try:
            stack.plan(model.layers, model.dims, data.crop_bins or frontend.features, data.frames)
        except ValueError as error:
            raise UserError(f"config.{error}") from None
    if model.name == "transformer":
        _check_transformer(model, frontend, refuse)
    if model.name == "cp_resnet":
        _check_cp_resnet(model, refuse)
    if model.name == "htsat":
        _check_htsat(data, model, frontend, refuse)
    if model.name == "wav2vec2" and model.width % model.position_groups:
        refuse("model.position_groups", model.position_groups, f"must divide width={model.width}")
    if model.name in ("ast", "wav2vec2") and model.width % model.heads:
        refuse("model.heads", model.heads, f"must divide model.width={model.width}")
    if model.name == "ast" and (data.crop_bins or frontend.features) < model.patch:
        refuse("model.patch", model.patch, f"the input has {frontend.features} bins")
    if config.batch_size % config.optimizer.accumulate:
        refuse(
            "optimizer.accumulate",
            config.optimizer.accumulate,
            f"must divide batch_size={config.batch_size}",
        )
    if config.augment.gain_db and (frontend.kind != "log_mel" or frontend.scale != "none"):
        why = "needs frontend.kind='log_mel' and frontend.scale='none'"
        refuse("augment.gain_db", config.augment.gain_db, why)
    balanced = config.loss.class_weights == "balanced" or data.sampling == "balanced"
    if config.loss.logit_adjustment and balanced:
        why = "takes loss.class_weights='none' and data.sampling='shuffled', which do the same"
        refuse("loss.logit_adjustment", config.loss.logit_adjustment, why)
    if data.unlabelled and data.name != "audio_folder":
        refuse("data.unlabelled", True, "needs data.name='audio_folder'")
    if config.task == "reconstruction":
        _check_reconstruction(config, refuse)
    elif data.unlabelled:
        refuse("data.unlabelled", True, "classification needs labels; task='reconstruction' none")
    if data.subset and data.name != "esc50":
        refuse("data.subset", data.subset, "only data.name='esc50' has this subset")
    _check_sound(config, frontend, refuse)


def _check_sound(
    config: ml_collections.ConfigDict, frontend: FrontendConfig, refuse: Callable[..., None]
) -> None:
    """What training on sound needs, and what needs sound."""
    augment = config.augment
    if (frontend.kind == SAMPLES) != (config.model.name in HEARING):
        why = f"samples go to model.name={' or '.join(HEARING)}, which takes nothing else"
        refuse("frontend.kind", frontend.kind, why)
    if frontend.kind == SAMPLES and config.data.input != "features":
        refuse("data.input", config.data.input, "this network hears the stored samples themselves")
    if frontend.kind == WAVEFORM:
        if config.data.crop_bins:
            refuse("data.crop_bins", config.data.crop_bins, f"{WAVEFORM!r} has no bins")
        for key in NEEDS_BINS:
            if augment[key]:
                refuse(f"augment.{key}", augment[key], f"frontend.kind={WAVEFORM!r} has no bins")
    if config.data.input == "features":
        for key, off in IN_SOUND.items():
            if augment[key] != off:
                refuse(f"augment.{key}", augment[key], "needs data.input='waveform'")
        return
    for key, plain in {"seconds": 0, "pad": "none", "resize_frames": 0}.items():
        if (value := getattr(frontend, key)) != plain:
            why = f"with data.input='waveform' must be {plain!r}; data.pad_seconds cuts and pads"
            refuse(f"frontend.{key}", value, why)
    if augment.noise_low_db > augment.noise_high_db:
        why = f"must be at most noise_high_db={augment.noise_high_db}"
        refuse("augment.noise_low_db", augment.noise_low_db, why)
    if augment.low_pass and augment.low_pass_hz > frontend.sample_rate / 2:
        why = f"must be at most half of frontend.sample_rate={frontend.sample_rate}"
        refuse("augment.low_pass_hz", augment.low_pass_hz, why)
