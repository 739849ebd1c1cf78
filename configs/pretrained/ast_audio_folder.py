"""AST with AudioSet weights, fine-tuned on your own recordings of any length up to 10 s.

    python -m jaxsound.main --config=configs/pretrained/ast_audio_folder.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class, or is a CSV. The weights are those of `ast_esc50.py` beside this
file. Unlike there, what a clip does not fill is masked: its padding changes nothing. The classifier
trains alone for a tenth of the steps, and early blocks learn slower than late ones. Variants:
`:probe` (a linear classifier alone, for a few dozen clips), `:lora`, `:fold=3`.

Not measured here, for want of the weights; what a step costs grows with `data.pad_seconds`.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("ast")
    config.epochs = 20
    config.batch_size = 32
    config.eval_every = 5
    config.data.name = "audio_folder"
    config.data.pad_seconds = 10.0
    config.data.normalize = "fixed"
    config.data.fixed_mean = -4.2677393
    config.data.fixed_std = 9.1379948  # twice AudioSet's deviation

    config.frontend.kind = "fbank"
    config.frontend.sample_rate = 16000
    config.frontend.n_fft = 512
    config.frontend.win_length = 400
    config.frontend.hop_length = 160
    config.frontend.n_mels = 128
    config.frontend.fmin = 20.0
    config.frontend.dtype = "float32"

    config.pretrained.weights = (
        "MIT/ast-finetuned-audioset-10-10-0.4593@f826b80d28226b62986cc218e5cec390b1096902"
    )
    config.pretrained.sha256 = "ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d"
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
