"""wav2vec 2.0 base, which hears the sound itself, fine-tuned on ESC-50: five folds, the last step.

    python -m jaxsound.main --config=configs/pretrained/wav2vec2_esc50.py

The weights are those of `facebook/wav2vec2-base-960h` (Baevski et al., 2020; 378 MB, Apache-2.0),
by the extra `[hub]`: 960 h of reading, learnt first without labels and then with texts. Those of
the first part alone, `facebook/wav2vec2-base`, are a pickle at its commit
0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8; made safetensors, they go in as
`--config.pretrained.weights=FILE`, and so does HuBERT base. As is usual, the convolutions over
samples stay as they are; the classifier, with the layer before it, trains alone for a tenth of the
steps. The masking of wav2vec 2.0's own fine-tuning is not here. Variants: `:probe` (those two
layers alone), `:lora` (rank 8 on queries and values), `:fold=3`, `:subset=esc10`. Frozen
embeddings: `python -m jaxsound.probe` with the same `--config`.

Published: no figure for ESC-50 is known to us that could be checked; speech is what these weights
know, and networks with AudioSet's are far ahead (`ast_esc50.py`). Not measured here, for want of
the weights. Convolutions over 80 000 samples and 249 frames through 12 blocks of width 768 come to
36 G multiplications forward and some 0.2 TFLOP for each clip and step, by arithmetic, a fifth less
with the convolutions frozen: an hour and more an epoch on two CPU cores.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("wav2vec2")
    config.epochs = 30
    config.batch_size = 32
    config.eval_every = 5
    config.data.name = "esc50"
    config.data.pad_seconds = 5.0
    config.data.normalize = "fixed"
    config.data.fixed_std = 32768.0  # full scale is 1, as the publisher's extractor hears it

    config.pretrained.weights = (
        "facebook/wav2vec2-base-960h@22aad52d435eb6dbaf354bdad9b0da84ce7d6156"
    )
    config.pretrained.freeze = ("convs.*", "conv_norm.*")
    config.pretrained.head_first = 0.1

    config.optimizer.peak_lr = 5e-5
    config.optimizer.accumulate = 4

    arg = variant(config, arg)
    apply_argument(config, arg, subset="data.subset")
    return config
