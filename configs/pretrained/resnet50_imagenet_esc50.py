"""s1's ResNet50 on ESC-50 as its author meant it: from ImageNet's weights.

    python -m jaxsound.main --config=configs/pretrained/resnet50_imagenet_esc50.py

Front end and sizes are those of `configs/seeds/s1_resnet50.py`, which begins at random. The stem's
weights over red, green and blue are added up, so that a spectrogram does what three equal colours
did there. The classifier trains alone for the first tenth of the steps. Weights: Microsoft's of the
hub (102 MB, Apache-2.0, by the extra `[hub]`), or `--config.pretrained.weights=FILE`, a safetensors
file with torchvision's, timm's or transformers' names. Variants: `:probe`, `:fold=5`,
`:subset=esc10`.

Published by s1: nothing for this network, which did not fit its author's machine; from ImageNet its
ResNet18 reached 80.25 % at the best epoch on the test fold, 79.5 % at the last. Here: not measured,
for want of the weights. A step costs what it does in `configs/seeds/s1_resnet50.py`.
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
    config.data.normalize = "global"
    config.data.pad_seconds = 5.0

    config.frontend.sample_rate = 44100
    config.frontend.n_fft = 16384
    config.frontend.win_length = 3969
    config.frontend.hop_length = 308
    config.frontend.n_mels = 256
    config.frontend.fmin = 20.0
    config.frontend.fmax = 17000.0
    config.frontend.seconds = 5.0
    config.frontend.pad = "reflect"
    config.frontend.scale = "minmax"

    config.model.depth = 50
    config.model.remat = True

    config.pretrained.weights = "microsoft/resnet-50@34c2154c194f829b11125337b98c8f5f9965ff19"
    config.pretrained.head_first = 0.1

    config.optimizer.name = "adam"
    config.optimizer.peak_lr = 2e-4
    config.optimizer.weight_decay = 0.0
    config.optimizer.accumulate = 4

    arg = variant(config, arg)
    apply_argument(config, arg, subset="data.subset")
    return config
