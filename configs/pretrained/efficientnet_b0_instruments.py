"""s4's EfficientNet-B0 for musical instruments, or any folder, from ImageNet's weights.

    python -m jaxsound.main --config=configs/pretrained/efficientnet_b0_instruments.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class. Weights: Google's of the hub, converted from Keras (21 MB,
Apache-2.0, by the extra `[hub]`); those of torchvision or timm (not its `tf_` ones) need
`--config.model.padding=centred --config.model.norm_epsilon=1e-5` beside
`--config.pretrained.weights=FILE`. The stem's weights over red, green and blue are added up; the
classifier trains alone for the first tenth of the steps. Variants: `:probe`, `:fold=3`.

No figure of s4's for this network is known to us, and its data had a class twice
(`docs/mysteries.md`). Not measured here, for want of the weights.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("efficientnet")
    config.epochs = 40
    config.batch_size = 32
    config.eval_every = 5
    config.data.name = "audio_folder"
    config.data.normalize = "global"
    config.data.pad_seconds = 10.0
    config.data.crop_seconds = 4.0

    config.frontend.sample_rate = 32000
    config.frontend.n_fft = 1024
    config.frontend.hop_length = 320
    config.frontend.n_mels = 128

    config.model.padding = "end"
    config.model.norm_epsilon = 1e-3

    config.pretrained.weights = "google/efficientnet-b0@3d8d75d0812b65064f0151b456f869c6344bf20c"
    config.pretrained.head_first = 0.1

    config.optimizer.peak_lr = 5e-4
    config.loss.class_weights = "balanced"
    config.loss.label_smoothing = 0.1

    config.augment.gain_db = 6.0
    config.augment.time_masks = 2
    config.augment.freq_masks = 2

    arg = variant(config, arg)
    apply_argument(config, arg)
    return config
