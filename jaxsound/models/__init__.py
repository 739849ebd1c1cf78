"""Networks: `model(features [B, T, M], length [B], train=...) -> logits [B, C]`."""

from typing import Any

from flax import nnx

from jaxsound.models.ast import AST
from jaxsound.models.cnn import CNN
from jaxsound.models.cp_resnet import CPResNet
from jaxsound.models.efficientnet import EfficientNet
from jaxsound.models.htsat import HTSAT
from jaxsound.models.resnet import ResNet
from jaxsound.models.stack import Stack
from jaxsound.models.transformer import Transformer
from jaxsound.models.wav2vec2 import Wav2Vec2


def build_model(
    config: Any, *, features: int, classes: int, frames: int, rngs: nnx.Rngs
) -> nnx.Module:
    """Builds the network that `config.name` names.

    Args:
      config: the `model` section of the configuration.
      features: columns M of the input.
      classes: C.
      frames: the longest T the network will see.
      rngs: source of initial values.
    """
    if config.name == "cnn":
        return CNN(config, features=features, classes=classes, rngs=rngs)
    if config.name == "stack":
        return Stack(config, features=features, classes=classes, frames=frames, rngs=rngs)
    if config.name == "resnet":
        return ResNet(config, features=features, classes=classes, rngs=rngs)
    if config.name == "cp_resnet":
        return CPResNet(config, features=features, classes=classes, rngs=rngs)
    if config.name == "efficientnet":
        return EfficientNet(config, features=features, classes=classes, rngs=rngs)
    if config.name == "transformer":
        return Transformer(config, features=features, classes=classes, frames=frames, rngs=rngs)
    if config.name == "ast":
        return AST(config, features=features, classes=classes, frames=frames, rngs=rngs)
    if config.name == "wav2vec2":
        return Wav2Vec2(config, features=features, classes=classes, rngs=rngs)
    if config.name == "htsat":
        return HTSAT(config, features=features, classes=classes, rngs=rngs)
    names = (
        *("cnn", "stack", "resnet", "cp_resnet", "efficientnet"),
        *("transformer", "ast", "htsat", "wav2vec2"),
    )
    raise ValueError(f"model.name={config.name!r}: must be one of {', '.join(map(repr, names))}")
