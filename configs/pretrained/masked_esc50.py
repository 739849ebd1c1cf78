"""ESC-50 by the transformer of `configs/esc50_transformer.py`, begun with a masked pre-training.

    python -m jaxsound.main --config=configs/pretrained/masked_audio_folder.py \
        --config.data.manual_dir=DIR
    python -m jaxsound.main --config=configs/pretrained/masked_esc50.py

All is as in `configs/esc50_transformer.py` but for the beginning: the encoder of
`runs/masked_audio_folder/fold_1`, whose recordings should not be ESC-50's, or each fold's own
(docs/pretrained.md), and a new classifier. Variants: `:fold=3`, `:subset=esc10`, `:probe`;
`--config.pretrained.weights=` begins at random, to compare.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("transformer")
    config.epochs = 80
    config.batch_size = 32
    config.data.name = "esc50"
    config.data.pad_seconds = 5.0

    config.frontend.sample_rate = 32000
    config.frontend.n_fft = 1280
    config.frontend.hop_length = 640
    config.frontend.n_mels = 64

    config.model.stem_channels = (24, 48, 96)
    config.model.width = 128
    config.model.depth = 3
    config.model.heads = 4
    config.model.drop_path = 0.1

    config.pretrained.weights = "runs/masked_audio_folder/fold_1"

    config.optimizer.peak_lr = 1e-3
    config.optimizer.weight_decay = 0.05
    config.loss.label_smoothing = 0.1

    config.augment.mixup = 0.3
    config.augment.time_roll = True
    config.augment.gain_db = 6.0
    config.augment.time_masks = 2
    config.augment.time_mask_share = 0.15
    config.augment.freq_masks = 2
    config.augment.freq_mask_share = 0.15

    arg = variant(config, arg)
    apply_argument(config, arg, subset="data.subset")
    return config
