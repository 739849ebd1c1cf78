"""s3's seven convolutions (its "V5") on ESC-50.

    python -m jaxsound.main --config=configs/seeds/s3_cnn8.py

1 177 138 parameters at 50 classes. HTK mels of 0-8000 Hz in decibels, a random crop of 384 of 431
frames and 100 of 128 bins (the middle in tests); an epoch has every clip once plain and four
times masked (two bands of time, two of frequency). Adam 3e-4 with L2 1e-3, batch 400, 40 epochs;
the weights with the least validation loss are tested. Variants: `:fold=1`, `:subset=esc10`.

The original reported 68.25 % at its best epoch, 68.0 % at the last. What went wrong there: the
crop was random in validation too; the fold that chose the epoch was the fold that gave the
figure; batches were never shuffled; its cross-validation carried one model through all folds, a
leak that ended at an accuracy of 1.0. Here the epoch is chosen on a validation split of the
training folds, and every fold starts anew. `:as_coded` takes the last step's weights.

Measured (2 cores of an AMD EPYC, 2026-11-21): 0.438 on fold 1 after two epochs on 288 clips of
ESC-10, tested on 80; 162 s with one kill and resumption, 2.5 GiB. Ten epochs on ESC-10's fold 1
(288 clips): 0.700, 686 s. ESC-50 whole: not measured. See `docs/seeds.md`.
"""

import ml_collections

from jaxsound.config import apply_argument, as_coded, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    coded, arg = as_coded(arg)
    config = default_config("stack")
    config.epochs = 40
    config.batch_size = 400
    config.eval_every = 1
    config.select = "last" if coded else "best"
    config.monitor = "loss"
    config.data.name = "esc50"
    config.data.frames = 384
    config.data.crop_bins = 100
    config.data.normalize = "fixed"
    config.data.fixed_mean = -8.8024
    config.data.fixed_std = 20.8701

    config.frontend.sample_rate = 44100
    config.frontend.n_fft = 2048
    config.frontend.hop_length = 512
    config.frontend.n_mels = 128
    config.frontend.fmin = 0.0
    config.frontend.fmax = 8000.0
    config.frontend.htk = True
    config.frontend.norm = ""
    config.frontend.top_db = 80.0

    config.model.layers = (
        "conv 32 3 stride=2",
        "batch_norm",
        "relu",
        "conv 64 3 stride=2",
        "batch_norm",
        "relu",
        "conv 64 3",
        "batch_norm",
        "relu",
        "conv 128 3 stride=2",
        "batch_norm",
        "relu",
        "conv 128 3",
        "batch_norm",
        "relu",
        "conv 256 3 stride=2",
        "batch_norm",
        "relu",
        "conv 256 3",
        "batch_norm",
        "relu",
        "mean",
    )

    config.optimizer.name = "adam"
    config.optimizer.schedule = "constant"
    config.optimizer.peak_lr = 3e-4
    config.optimizer.warmup_fraction = 0.0
    config.optimizer.weight_decay = 1e-3
    config.optimizer.clip_norm = 0.0

    config.augment.copies = 4
    config.augment.time_masks = 2
    config.augment.freq_masks = 2

    apply_argument(config, arg, subset="data.subset")
    return config
