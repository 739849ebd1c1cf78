"""CLAP's audio tower with fusion, fine-tuned on your own recordings of more than ten seconds.

    python -m jaxsound.main --config=configs/pretrained/clap_fused_audio_folder.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class, or is a CSV. The weights are LAION's of CLAP with fusion (Wu et
al., 2023; some 614 MB with the text tower, which is left out; Apache-2.0), by the extra `[hub]`,
in the commit that others have pinned as the one with safetensors, or
`--config.pretrained.weights=FILE`. The front end is that of transformers' ClapFeatureExtractor for
them: 48 kHz, 64 bins of HTK's scale from 50 Hz to 14 kHz. What is shorter than 10 s is repeated;
what is longer is heard whole, up to 30 s (`--config.data.pad_seconds`): shrunk to 10 s, and as
three chunks of 10 s, in training from anywhere in their third of the clip and otherwise from its
middle, which the network blends. Where few clips last longer than 10 s, `clap_audio_folder.py`
does as well. Variants: `:probe` (a linear classifier alone, for a few dozen clips), `:lora`,
`:fold=3`.

Not measured here, for want of the weights; a step costs little more than in `clap_esc50.py`,
whatever the length of the clips.
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
    config.data.pad_seconds = 30.0
    config.data.normalize = "none"  # the network's first layer does

    config.frontend.sample_rate = 48000
    config.frontend.seconds = 10.0
    config.frontend.excerpt = "whole"
    config.frontend.pad = "repeatpad"
    config.frontend.ends = "reflect"
    config.frontend.n_fft = 1024
    config.frontend.hop_length = 480
    config.frontend.n_mels = 64
    config.frontend.fmin = 50.0
    config.frontend.fmax = 14000.0
    config.frontend.htk = True
    config.frontend.norm = ""
    config.frontend.top_db = 0.0
    config.frontend.dtype = "float32"

    config.model.fusion = True

    config.pretrained.weights = "laion/clap-htsat-fused@365dea6ef167def6676140ed93bbc43f84dabb28"
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
