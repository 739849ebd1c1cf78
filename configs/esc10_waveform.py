"""ESC-10 by the small residual CNN, trained on sound: five folds, the last step, no external data.

    python -m jaxsound.main --config=configs/esc10_waveform.py

The network and schedule of `esc50_cnn.py`, with int16 samples kept in memory and the frontend
inside the training step, so that augmentation happens in sound: half of the clips are mixed with
one of another class by their loudness, zero padding gives way to repetitions, and speed, level,
polarity, equaliser, low-pass and noise vary. Evaluation is of stored features, as in every config.
`:plain` leaves all augmentation out, and `:input=features` the sound: with both, training is that
of stored features. Other variants: `:fold=3`, and `:subset=` for the whole of ESC-50.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    items = arg.split(",")
    plain = "plain" in items
    config = default_config("cnn")
    config.epochs = 100
    config.batch_size = 32
    config.data.name = "esc50"
    config.data.subset = "esc10"
    config.data.pad_seconds = 5.0
    config.data.input = "waveform"

    config.frontend.sample_rate = 32000
    config.frontend.n_fft = 1280
    config.frontend.hop_length = 640
    config.frontend.n_mels = 64

    config.model.channels = (24, 48, 96, 192)
    config.model.convs = 1
    config.model.stem_kernel = 5
    config.model.stem_stride = 2
    config.model.dropout = 0.3

    config.optimizer.peak_lr = 2e-3
    config.optimizer.weight_decay = 0.1
    config.loss.label_smoothing = 0.1

    if not plain:
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
        config.augment.time_masks = 2
        config.augment.time_mask_share = 0.15
        config.augment.freq_masks = 2
        config.augment.freq_mask_share = 0.15

    rest = ",".join(item for item in items if item != "plain")
    apply_argument(config, rest, subset="data.subset", input="data.input")
    return config
