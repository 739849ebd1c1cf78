"""AST with AudioSet weights, fine-tuned on ESC-50: five folds, the last step.

    python -m jaxsound.main --config=configs/pretrained/ast_esc50.py

The weights are those that AST's authors published at 0.459 mAP on AudioSet (346 MB, fetched by the
extra `[hub]`, or `--config.pretrained.weights=FILE`); their licence is BSD-3-Clause. Front end,
padding to 512 frames and masks follow the authors' recipe for ESC-50, but for two changes: features
are normalised by AudioSet's mean and deviation instead of figures that the test folds had a part
in, and the learning rate falls as a cosine. Variants: `:probe` (a linear classifier alone), `:lora`
(rank 8 on queries and values), `:fold=3`, `:subset=esc10`.

Published: 95.6 % ± 0.4 (Gong et al., 2021). Not measured here, for want of the weights. 602 tokens
through 12 blocks of width 768 come to some 0.35 TFLOP for each clip and step, by arithmetic: a day
and more an epoch on two CPU cores, minutes on a GPU, with `--config.model.dtype=bfloat16`, and
`--config.optimizer.accumulate=4` or `--config.model.remat=True` where memory is short.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("ast")
    config.epochs = 25
    config.batch_size = 48
    config.eval_every = 5
    config.data.name = "esc50"
    config.data.pad_seconds = 5.0
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
    config.frontend.seconds = 5.135  # 512 frames
    config.frontend.pad = "blank"
    config.frontend.dtype = "float32"

    config.pretrained.weights = (
        "MIT/ast-finetuned-audioset-10-10-0.4593@f826b80d28226b62986cc218e5cec390b1096902"
    )
    config.pretrained.sha256 = "ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d"

    config.optimizer.name = "adam"
    config.optimizer.peak_lr = 1e-5
    config.optimizer.weight_decay = 5e-7
    config.optimizer.b1 = 0.95

    config.augment.time_masks = 1
    config.augment.time_mask_share = 0.1875
    config.augment.freq_masks = 1
    config.augment.freq_mask_share = 0.1875

    arg = variant(config, arg)
    apply_argument(config, arg, subset="data.subset")
    return config
