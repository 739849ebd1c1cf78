"""UrbanSound8K by a CP-ResNet on an accelerator: ten folds, last step, no external data.

    python -m jaxsound.main --config=configs/recipes/urbansound8k_cnn.py

The paper's layout with three quarters of its channels, squeeze-and-excitation, and the maximum
beside the mean: a unit sees 87 frames and 87 of the 128 bins.

Trained on sound: half of the clips are mixed with one of another class by their loudness, zero
padding gives way to repetitions, and speed, level, polarity, equaliser, low-pass and noise vary;
then a band of another clip's frequencies, a jitter of the bins and SpecAugment. The last tenth of
the steps sees single clips. The learning rate falls to zero, and the averaged weights of the last
step are evaluated. Nothing follows the validation split, so none is held out;
`--config.data.validation=0.1` holds one out, to calibrate on.

Cost: 9840 steps of 64 clips a fold; of 11.5 s each on two CPU cores (AMD EPYC, jax 0.10.2,
2026-11-22), so 31 hours a fold there. Goal: 83 to 85 %. Neither accuracy nor any accelerator is
measured. One fold: `:fold=3`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("cp_resnet")
    config.epochs = 80
    config.batch_size = 64
    config.eval_every = 0
    config.checkpoint_every = 50

    config.data.name = "urbansound8k"
    config.data.pad_seconds = 4.0
    config.data.input = "waveform"
    config.data.validation = 0.0
    config.data.resident_gib = 4.0

    config.frontend.sample_rate = 32000
    config.frontend.n_fft = 1024
    config.frontend.hop_length = 320
    config.frontend.n_mels = 128

    config.model.channels = (96, 192, 384)
    config.model.blocks = (4, 4, 4)
    config.model.rho = 5
    config.model.dropout = 0.3
    config.model.dtype = "bfloat16"

    config.optimizer.peak_lr = 2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.ema = 0.999
    config.loss.label_smoothing = 0.1

    config.augment.shift = True
    config.augment.loop = 0.5
    config.augment.speed = 1.25
    config.augment.between_class = 0.5
    config.augment.polarity = True
    config.augment.level_db = 6.0
    config.augment.noise = 0.3
    config.augment.equaliser_db = 6.0
    config.augment.low_pass = 0.2
    config.augment.low_pass_hz = 2000.0
    config.augment.freq_mix = 0.2
    config.augment.mel_jitter = 0.05
    config.augment.time_masks = 2
    config.augment.time_mask_share = 0.15
    config.augment.freq_masks = 2
    config.augment.freq_mask_share = 0.15
    config.augment.until = 0.9

    apply_argument(config, arg)
    return config
