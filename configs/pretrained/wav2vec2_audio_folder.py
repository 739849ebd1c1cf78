"""wav2vec 2.0 base, which hears the sound itself, fine-tuned on your own recordings.

    python -m jaxsound.main --config=configs/pretrained/wav2vec2_audio_folder.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class, or is a CSV; voices are what these weights know best. They are
those of `wav2vec2_esc50.py` beside this file, which tells of others. Training takes random crops of
4 s, evaluation up to 10 s of a clip; what a clip does not fill is masked. The convolutions over
samples stay as they are; the classifier, with the layer before it, trains alone for a tenth of the
steps. Variants: `:probe` (those two layers alone), `:lora`, `:fold=3`.

Not measured here, for want of the weights; what a step costs grows with `data.crop_seconds`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("wav2vec2")
    config.epochs = 20
    config.batch_size = 32
    config.eval_every = 5
    config.data.name = "audio_folder"
    config.data.pad_seconds = 10.0
    config.data.crop_seconds = 4.0
    config.data.normalize = "fixed"
    config.data.fixed_std = 32768.0  # full scale is 1, as the publisher's extractor hears it

    config.pretrained.weights = (
        "facebook/wav2vec2-base-960h@22aad52d435eb6dbaf354bdad9b0da84ce7d6156"
    )
    config.pretrained.freeze = ("convs.*", "conv_norm.*")
    config.pretrained.head_first = 0.1

    config.optimizer.peak_lr = 5e-5
    config.optimizer.accumulate = 4
    config.loss.class_weights = "balanced"

    arg = variant(config, arg)
    apply_argument(config, arg)
    return config
