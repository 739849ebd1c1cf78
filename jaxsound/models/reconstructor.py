"""What learns to fill in the masked parts of a spectrogram: an encoder and a linear prediction.

Masked parts of the input are zero, which is its mean, and every token, of a masked part or not,
predicts its own stretch of the input through one linear layer: SimMIM (Xie et al., 2022), with
patches of spectrograms as AudioMAE (Huang et al., 2022) has them. All tokens go through the
encoder, so convolutions before it see the whole map and shapes do not depend on what is masked.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsound.models.tokens import some
from jaxsound.models.transformer import Transformer
from jaxsound.models.waveform import WaveformStem

Array = jax.Array


class Reconstructor(Transformer):
    """The transformer with the prediction in the classifier's place.

    Its other parameters have the names that they have in a classifier, which can begin with them.
    """

    def __init__(self, config: Any, *, features: int, frames: int, rngs: nnx.Rngs, **_: Any):
        """Builds the network.

        Args:
          config: the `model` section, of a transformer whose stem is "conv" or "frames".
          features: mel bins M.
          frames: the longest T the network will see.
          rngs: source of initial values.
        """
        super().__init__(config, features=features, classes=1, frames=frames, rngs=rngs)
        # What only a classifier has: nothing would train it.
        self.hidden = nnx.List([])
        if self.pool == "attention":
            del self.score
        assert not isinstance(self.stem, WaveformStem), "the configuration refuses it"
        self.wide, self.high = self.stem.stride, -(-features // self.bins)  # of a token
        self.head = nnx.Linear(config.width, self.wide * self.high, rngs=rngs)

    def __call__(
        self, x: Array, length: Array, *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Array:
        """Normalised features `[B, T, M]`, valid frames `[B]` -> their prediction, float32."""
        batch, frames, features = x.shape
        tokens, _ = self.encode(x, length, train=train, rngs=rngs)
        if self.pool == "class_token":
            tokens = tokens[:, 1:]
        made = self.head(tokens.reshape(-1, tokens.shape[-1]).astype(jnp.float32))
        made = made.reshape(batch, -1, self.bins, self.wide, self.high)
        made = made.swapaxes(2, 3).reshape(batch, -1, self.bins * self.high)
        return made[:, :frames, :features]


def draw_masks(
    keys: Array, length: Array, shape: tuple[int, int], patch: tuple[int, int], share: float
) -> Array:
    """Which values of each clip are masked: whole patches.

    Exactly `share` of a clip's own patches, rounded, and at least one. Which they are depends on
    its key and not on the padding. A patch at the end of a clip or of its bins is as small as that
    leaves it.

    Args:
      keys: `[B]` PRNG keys.
      length: `[B]` valid frames.
      shape: T and M.
      patch: frames and bins of a patch, from the first frame and bin on.
      share: of the patches.

    Returns:
      `[B, T, M]` bool, False past `length`.
    """
    frames, features = shape
    wide, high = min(patch[0], frames), min(patch[1], features)
    times, bands = -(-frames // wide), -(-features // high)

    def draw(key: Array, length: Array) -> Array:
        own = -(-length // wide) * bands
        count = jnp.maximum(jnp.round(own * share).astype(jnp.int32), 1)
        masked = some(key, (jnp.arange(times * bands) < own)[None], count[None])
        masked = masked.reshape(times, bands).repeat(wide, 0).repeat(high, 1)[:frames, :features]
        return masked & (jnp.arange(frames) < length)[:, None]

    return jax.vmap(draw)(keys, length)
