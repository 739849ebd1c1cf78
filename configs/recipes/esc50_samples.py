"""ESC-50 by a transformer over samples, on an accelerator: five folds, no external data.

    python -m jaxsound.main --config=configs/recipes/esc50_samples.py

After EAT (Gazneli et al., 2022): convolutions over the sound at 22 050 Hz shorten it by 1024, to
108 tokens, for four pre-norm blocks of width 128. There is no spectrum: `frontend.kind="waveform"`
leaves samples as they are, in rows, and the network joins the rows again.

Trained on sound: half of the clips are mixed with one of another class by their loudness, zero
padding gives way to repetitions, and speed, level, polarity and noise vary. The last tenth of the
steps sees single clips. The learning rate falls to zero, and the averaged weights of the last step
are evaluated. Nothing follows the validation split, so none is held out;
`--config.data.validation=0.1` holds one out, to calibrate on.

Cost: 20 000 steps of 64 clips a fold, where the original takes 44 000 of 128; of 32 s each on two
CPU cores (AMD EPYC, jax 0.10.2, 2026-11-22), so a week a fold there. Goal: 80 to 85 %, below the
original's 90. Neither accuracy nor any accelerator is measured. One fold: `:fold=3`; ESC-10:
`:subset=esc10`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("transformer")
    config.epochs = 800
    config.batch_size = 64
    config.eval_every = 0
    config.checkpoint_every = 50

    config.data.name = "esc50"
    config.data.pad_seconds = 5.0
    config.data.input = "waveform"
    config.data.normalize = "global"
    config.data.validation = 0.0

    config.frontend.kind = "waveform"
    config.frontend.sample_rate = 22050
    config.frontend.hop_length = 256

    config.model.stem = "waveform"
    config.model.stem_factors = (4, 4, 4, 4, 2, 2)
    config.model.stem_channels = (16, 32, 64, 128, 256, 512)
    config.model.stem_blocks = 2
    config.model.width = 128
    config.model.depth = 4
    config.model.heads = 8
    config.model.positions = "learned"
    config.model.layer_scale = 0.1
    config.model.drop_path = 0.1
    config.model.pool = "class_token"
    config.model.dtype = "bfloat16"

    config.optimizer.peak_lr = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.ema = 0.999
    config.loss.label_smoothing = 0.1

    config.augment.shift = True
    config.augment.loop = 0.5
    config.augment.speed = 1.25
    config.augment.between_class = 0.5
    config.augment.polarity = True
    config.augment.level_db = 6.0
    config.augment.noise = 0.3
    config.augment.time_masks = 2
    config.augment.time_mask_share = 0.1
    config.augment.until = 0.9

    apply_argument(config, arg, subset="data.subset")
    return config
