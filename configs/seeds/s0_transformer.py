"""s0's transformer on FSDKaggle2018: two post-norm layers over linear spectrogram frames.

    python -m jaxsound.main --config=configs/seeds/s0_transformer.py

A frame is a token of width 128; sinusoidal positions, ReLU, two encoder layers (8 heads, 2048
hidden, dropout 0.1), a mask over padding, mean over the valid frames. Adam 1e-3, batch 32, 10
epochs. On CPU a batch is split in sixteen to keep attention over 1563 frames small.

The original reported about 40 %, and that "adding a positional encoding doesn't change the
result". What went wrong there: the encoder took `[B, T, D]` as `[T, B, D]`, so attention ran
across the 32 clips of a batch and never over time; the projection with positions was computed and
thrown away; pooling ran over features. `docs/mysteries.md` shows it solved. `:as_coded` has what
of this a configuration can say: 100 000 samples for the 200 000 meant, and no positions.

Measured (2 cores of an AMD EPYC, 2026-11-21): 0.250 on fold 1 after two epochs on 85 clips of
FSDKaggle2018 (10 of its classes), tested on 24; 182 s with one kill and resumption, 9.0 GiB.
FSDKaggle2018 whole: not measured. See `docs/seeds.md`.
"""

import ml_collections

from jaxsound.config import apply_argument, as_coded, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    coded, arg = as_coded(arg)
    config = default_config("transformer")
    config.epochs = 10
    config.batch_size = 32
    config.data.name = "fsdkaggle2018"
    config.data.normalize = "none"
    config.data.pad_seconds = 4.54

    config.frontend.kind = "stft"
    config.frontend.power = 1.0
    config.frontend.dtype = "float32"
    config.frontend.sample_rate = 44100
    config.frontend.n_fft = 255
    config.frontend.hop_length = 128
    config.frontend.seconds = (100_000 if coded else 200_000) / 44100

    config.model.stem = "frames"
    config.model.stem_frames = 1
    config.model.stem_activation = "relu"
    config.model.positions = "none" if coded else "sinusoidal"
    config.model.width = 128
    config.model.depth = 2
    config.model.heads = 8
    config.model.mlp_ratio = 16.0
    config.model.norm = "post"
    config.model.activation = "relu"
    config.model.dropout = 0.1
    config.model.remat = True

    config.optimizer.name = "adam"
    config.optimizer.schedule = "constant"
    config.optimizer.peak_lr = 1e-3
    config.optimizer.warmup_fraction = 0.0
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0
    config.optimizer.accumulate = 16

    apply_argument(config, arg)
    return config
