"""Runs of seconds for `kills.py`: tiny networks on the synthetic set, saved every other step."""

import ml_collections

from jaxsound.config import default_config


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    config = default_config(arg)
    config.folds = (1, 2)
    config.epochs = 8
    config.batch_size = 160  # two steps an epoch
    config.checkpoint_every = 1
    config.eval_every = 0
    config.log_every = 1
    config.data.name = "synthetic"
    config.data.pad_seconds = 1.0
    config.data.crop_seconds = 0.5
    config.frontend.sample_rate = 8000
    config.frontend.n_fft = 256
    config.frontend.hop_length = 160
    config.frontend.n_mels = 16
    config.augment.mixup = 0.3
    config.augment.time_masks = 1
    config.optimizer.ema = 0.9
    if arg == "cnn":
        config.model.channels = (4, 8)
        config.model.convs = 1
    else:
        config.model.width = 16
        config.model.depth = 1
        config.model.stem_channels = (4, 8)
    return config
