"""ResNet18 from ImageNet's weights, fine-tuned on your own recordings.

    python -m jaxsound.main --config=configs/pretrained/resnet18_imagenet_audio_folder.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class, or is a CSV. The stem's weights over red, green and blue are
added up; the classifier trains alone for the first tenth of the steps, and early blocks learn
slower than late ones. Training takes random crops of 4 s, evaluation up to 10 s of a clip; what a
clip does not fill is masked. Weights: Microsoft's of the hub (Apache-2.0, by the extra `[hub]`), or
`--config.pretrained.weights=FILE` with torchvision's, timm's or transformers' names. Variants:
`:probe`, `:fold=3`.

Not measured here, for want of the weights.
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

    config.model.depth = 18

    config.pretrained.weights = "microsoft/resnet-18@65a5785d9156231087c481e0c7dd33a5ff6f7e3e"
    config.pretrained.layer_decay = 0.8
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
