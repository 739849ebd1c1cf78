"""A transformer that learns from recordings without labels: it fills in masked spectrograms.

    python -m jaxsound.main --config=configs/pretrained/masked_audio_folder.py \
        --config.data.manual_dir=DIR

DIR holds recordings at any depth, of any length; folders are not looked at. The encoder and the
frontend are those of `configs/esc50_transformer.py`. Three fifths of a clip's patches, of 16 frames
by 16 bins, are masked, and the loss is the squared error there (SimMIM, Xie et al., 2022; AudioMAE,
Huang et al., 2022). One of ten folds is held out, to show the loss on clips not trained on.

A classifier begins with it: `masked_esc50.py` beside this file, or any config of the same network
and frontend with `--config.pretrained.weights=runs/masked_audio_folder/fold_1`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("transformer")
    config.task = "reconstruction"
    config.epochs = 200
    config.batch_size = 32
    config.folds = (1,)
    config.data.name = "audio_folder"
    config.data.unlabelled = True
    config.data.make_folds = 10
    config.data.pad_seconds = 5.0
    config.data.validation = 0.0

    config.frontend.sample_rate = 32000
    config.frontend.n_fft = 1280
    config.frontend.hop_length = 640
    config.frontend.n_mels = 64

    config.model.stem_channels = (24, 48, 96)
    config.model.width = 128
    config.model.depth = 3
    config.model.heads = 4
    config.model.dropout = 0.0

    config.reconstruction.masked_share = 0.6
    config.reconstruction.patch_frames = 16
    config.reconstruction.patch_bins = 16

    config.optimizer.peak_lr = 1e-3
    config.optimizer.weight_decay = 0.05

    config.augment.time_roll = True
    config.augment.gain_db = 6.0

    apply_argument(config, arg)
    return config
