"""CLAP's audio tower, HTS-AT, fine-tuned on your own recordings.

    python -m jaxsound.main --config=configs/pretrained/clap_audio_folder.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class, or is a CSV. Weights and front end are those of `clap_esc50.py`
beside this file: what is shorter than 10 s is repeated, and of what is longer the first 10 s are
heard, or with `--config.frontend.excerpt=loudest` those around its greatest sample. The classifier
trains alone for a tenth of the steps, and early blocks learn slower than late ones. Variants:
`:probe` (a linear classifier alone, for a few dozen clips), `:lora`, `:fold=3`.

Not measured here, for want of the weights; a step costs what it does in `clap_esc50.py`, whatever
the length of the clips.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("htsat")
    config.epochs = 20
    config.batch_size = 32
    config.eval_every = 5
    config.data.name = "audio_folder"
    config.data.pad_seconds = 10.0
    config.data.normalize = "none"  # the network's first layer does

    config.frontend.sample_rate = 48000
    config.frontend.seconds = 10.0
    config.frontend.pad = "repeatpad"
    config.frontend.ends = "reflect"
    config.frontend.n_fft = 1024
    config.frontend.hop_length = 480
    config.frontend.n_mels = 64
    config.frontend.fmin = 50.0
    config.frontend.fmax = 14000.0
    config.frontend.top_db = 0.0
    config.frontend.dtype = "float32"

    config.pretrained.weights = "laion/clap-htsat-unfused@79b58ed25fc00386262a2bea4b19fd21dc4310a0"
    config.pretrained.fixed_statistics = True
    config.pretrained.layer_decay = 0.75
    config.pretrained.head_first = 0.1

    config.optimizer.peak_lr = 1e-4
    config.loss.class_weights = "balanced"
    config.loss.label_smoothing = 0.1

    config.augment.time_masks = 1
    config.augment.freq_masks = 1

    arg = variant(config, arg)
    apply_argument(config, arg)
    return config
