"""In which layouts the weights of each network are published."""

from typing import Any

from jaxsound.pretrained import attentional, convolutional
from jaxsound.pretrained.entries import Layout

GAINS = (("weight_g", "weight_v"), attentional.PARAMETRISED)  # PyTorch's older and newer names


def layouts(config: Any) -> tuple[Layout, ...]:
    """The layouts in which weights of this network are published; none for most.

    Args:
      config: the `model` section of the configuration.
    """
    if config.name == "ast":
        return tuple(
            attentional.ast(config, encoder, head)
            for encoder in (True, False)
            for head in (True, False)
        )
    if config.name == "resnet":
        return (
            convolutional.resnet_of_hub(config, "resnet."),
            convolutional.resnet_of_hub(config, ""),
            convolutional.resnet_of_torchvision(config),
        )
    if config.name == "htsat":
        return tuple(
            attentional.htsat(config, base)
            for base in ("audio_model.audio_encoder.", "audio_encoder.")
        )
    if config.name == "wav2vec2":
        return tuple(
            attentional.wav2vec2_or_hubert(config, base, gain)
            for base in ("wav2vec2.", "hubert.", "")
            for gain in GAINS
        )
    if config.name == "efficientnet":
        return convolutional.efficientnets(config)
    return ()
