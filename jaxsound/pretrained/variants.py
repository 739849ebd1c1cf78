"""Other ways to fine-tune the network of a configuration."""

from typing import Any

PROBE, LORA = "probe", "lora"
_PROBE_RATE = 1e-3
_LORA_RATE, _LORA_RANK = 2e-4, 8
_NEW = {"wav2vec2": ("hidden.*", "head.*")}  # more than the head begins at random


def variant(config: Any, arg: str) -> str:
    """Takes `probe` or `lora` out of a config's argument and changes the configuration to it.

    `probe` trains a linear classifier on what the frozen network makes of a clip (of wav2vec 2.0,
    two layers with nothing between them). `lora` trains matrices of rank 8 beside the queries and
    values of a transformer's attention, and the classifier.

    Args:
      config: changed in place.
      arg: what stands after the colon of `--config=file.py:...`.

    Returns:
      The rest of the argument.
    """
    items = arg.split(",")
    wanted = [
        item for item in items if item == PROBE or (item == LORA and "lora_rank" in config.model)
    ]
    new = _NEW.get(config.model.name, ("head.*",))
    if PROBE in wanted:
        _freeze(config, *new)
        config.optimizer.peak_lr = _PROBE_RATE
    elif LORA in wanted:
        _freeze(config, *new, "*.lora_*")
        config.model.lora_rank = _LORA_RANK
        config.optimizer.peak_lr = _LORA_RATE
    return ",".join(item for item in items if item not in wanted)


def _freeze(config: Any, *but: str) -> None:
    config.pretrained.freeze = ("*",)
    config.pretrained.unfreeze = but
    config.pretrained.fixed_statistics = True
    config.pretrained.head_first = 0.0
    config.pretrained.layer_decay = 1.0
    config.pretrained.head_rate = 1.0
