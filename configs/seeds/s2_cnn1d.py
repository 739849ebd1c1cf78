"""s2's one-dimensional CNN on UrbanSound8K: mel bins are channels, time is flattened.

    python -m jaxsound.main --config=configs/seeds/s2_cnn1d.py

Ten folds; 1 547 258 parameters at 10 classes, nearly all in the layer after the flattening of
1501 frames. Log-mels from -80 to 0 dB, scaled to 0..1. Adam 1e-4, batch 512, 30 epochs.

The original reached about 30 %. What went wrong there: files kept their own rates, so a mel bin
meant another frequency from file to file; the batches were never shuffled; 1501 frames are four
seconds at 192 kHz, so 77 % of a 44.1 kHz clip's frames are padding. Here all sounds are resampled
to 44.1 kHz and shuffled; `--config.data.frames=345` takes the padding away, and the parameters
with it (367 610 are left).

Measured (2 cores of an AMD EPYC, 2026-11-21): 0.153 on fold 1 after two epochs on 261 clips of
UrbanSound8K, tested on 150; 40 s with one kill and resumption, 1.4 GiB. UrbanSound8K whole: not
measured. See `docs/seeds.md`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("stack")
    config.epochs = 30
    config.batch_size = 512
    config.data.name = "urbansound8k"
    config.data.normalize = "fixed"
    config.data.fixed_mean = -80.0
    config.data.fixed_std = 80.0
    config.data.frames = 1501

    config.model.dims = 1
    config.model.layers = (
        "conv 16 3",
        "max_pool 2",
        "relu",
        "conv 32 3",
        "max_pool 2",
        "relu",
        "conv 64 3",
        "max_pool 2",
        "relu",
        "flatten",
        "linear 128",
        "relu",
    )

    config.frontend.sample_rate = 44100
    config.frontend.n_fft = 2048
    config.frontend.hop_length = 512
    config.frontend.n_mels = 128
    config.frontend.fmin = 0.0
    config.frontend.top_db = 80.0
    with config.ignore_type():
        config.frontend.ref = "max"

    config.optimizer.name = "adam"
    config.optimizer.schedule = "constant"
    config.optimizer.peak_lr = 1e-4
    config.optimizer.warmup_fraction = 0.0
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0

    apply_argument(config, arg)
    return config
