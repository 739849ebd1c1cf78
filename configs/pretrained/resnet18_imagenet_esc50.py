"""s3's ResNet18 on ESC-50, from ImageNet's weights.

    python -m jaxsound.main --config=configs/pretrained/resnet18_imagenet_esc50.py

Front end, crops and masks are those of `configs/seeds/s3_resnet18.py`, which begins at random. The
stem's weights over red, green and blue are added up. The classifier trains alone for the first
tenth of the steps, and early blocks learn slower than late ones. Weights: Microsoft's of the hub
(47 MB, Apache-2.0, by the extra `[hub]`), or `--config.pretrained.weights=FILE` with torchvision's,
timm's or transformers' names. Variants: `:probe`, `:fold=1`, `:subset=esc10`.

Published by s3: 76.5 % at its best epoch. Here: not measured, for want of the weights; a step costs
what it does in `configs/seeds/s3_resnet18.py`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("resnet")
    config.epochs = 40
    config.batch_size = 64
    config.eval_every = 5
    config.data.name = "esc50"
    config.data.frames = 384
    config.data.crop_bins = 100
    config.data.normalize = "global"

    config.frontend.sample_rate = 44100
    config.frontend.n_fft = 2048
    config.frontend.hop_length = 512
    config.frontend.n_mels = 128
    config.frontend.fmin = 0.0
    config.frontend.fmax = 8000.0
    config.frontend.htk = True
    config.frontend.norm = ""

    config.model.depth = 18

    config.pretrained.weights = "microsoft/resnet-18@65a5785d9156231087c481e0c7dd33a5ff6f7e3e"
    config.pretrained.layer_decay = 0.8
    config.pretrained.head_first = 0.1

    config.optimizer.name = "adam"
    config.optimizer.peak_lr = 3e-4
    config.optimizer.weight_decay = 0.0

    config.augment.time_masks = 2
    config.augment.freq_masks = 2

    arg = variant(config, arg)
    apply_argument(config, arg, subset="data.subset")
    return config
