"""s4's ResNet152 for musical instruments, or any folder of recordings, from ImageNet's weights.

    python -m jaxsound.main --config=configs/pretrained/resnet152_instruments.py \
        --config.data.manual_dir=DIR --config.pretrained.weights=FILE

DIR holds a folder for each class. FILE is a safetensors file with torchvision's, timm's or
transformers' names, or a repository of the hub with its commit, such as
`timm/resnet152.a1_in1k@COMMIT`: without one the run stops and says so. 58 M parameters; activations
are computed anew in the backward pass. Variants: `:probe`, `:fold=3`.

No figure of s4's for weights of ImageNet is known to us; from scratch it reported .175
(`configs/seeds/s4_m4.py`). Not measured here, for want of the weights.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("resnet")
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

    config.model.depth = 152
    config.model.remat = True

    config.pretrained.weights = "timm/resnet152.a1_in1k"  # which commit is for you to say
    config.pretrained.layer_decay = 0.9
    config.pretrained.head_first = 0.1

    config.optimizer.peak_lr = 5e-4
    config.optimizer.accumulate = 2
    config.loss.class_weights = "balanced"
    config.loss.label_smoothing = 0.1

    config.augment.gain_db = 6.0
    config.augment.time_masks = 2
    config.augment.freq_masks = 2

    arg = variant(config, arg)
    apply_argument(config, arg)
    return config
