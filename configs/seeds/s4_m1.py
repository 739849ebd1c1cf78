"""s4's first CNN for musical instruments: power mels of the first ten seconds at 16 kHz.

    python -m jaxsound.main --config=configs/seeds/s4_m1.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class. Adam 1e-3, batch 32, 50 epochs.

The original reported .525 on its test set. What went wrong there: the 700 "violin" training files
are byte for byte the "drum" files, so no network could pass .62; one file was corrupted and one
label misspelt. `python -m jaxsound.audit DIR` finds this before a training does
(`docs/mysteries.md`).

Measured (2 cores of an AMD EPYC, 2026-11-21): 0.792 on fold 1 after two epochs on 85 clips of
four kinds of instruments from FSDKaggle2018, tested on 24; 37 s with one kill and resumption, 2.1
GiB. The author's own data: not measured. See `docs/seeds.md`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("stack")
    config.epochs = 50
    config.batch_size = 32
    config.eval_every = 1
    config.data.name = "audio_folder"
    config.data.frames = 313
    config.data.normalize = "none"

    config.frontend.kind = "mel"
    config.frontend.dtype = "float32"
    config.frontend.sample_rate = 16000
    config.frontend.n_fft = 1024
    config.frontend.hop_length = 512
    config.frontend.n_mels = 64
    config.frontend.fmin = 0.0
    config.frontend.excerpt = "start"
    config.frontend.seconds = 10.0
    config.frontend.pad = "zero"

    config.model.layers = (
        "conv 16 3",
        "relu",
        "conv 32 3 stride=2",
        "relu",
        "conv 64 3 stride=2",
        "relu",
        "flatten",
        "linear 256",
        "relu",
        "dropout 0.3",
    )

    config.optimizer.name = "adam"
    config.optimizer.schedule = "constant"
    config.optimizer.peak_lr = 1e-3
    config.optimizer.warmup_fraction = 0.0
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0

    apply_argument(config, arg)
    return config
