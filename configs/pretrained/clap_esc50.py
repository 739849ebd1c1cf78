"""CLAP's audio tower, HTS-AT, fine-tuned on ESC-50: five folds, the last step.

    python -m jaxsound.main --config=configs/pretrained/clap_esc50.py

The weights are LAION's of CLAP without fusion (Wu et al., 2023; some 614 MB with the text tower,
which is left out; Apache-2.0), by the extra `[hub]`, in the commit that has them as safetensors, or
`--config.pretrained.weights=FILE`. The front end is that of transformers' ClapFeatureExtractor:
48 kHz, each clip repeated to 10 s, 64 bins of Slaney's scale from 50 Hz to 14 kHz. The classifier
trains alone for a tenth of the steps, and early blocks learn slower than late ones. Variants:
`:probe` (a linear classifier alone), `:lora` (rank 8 on queries and values), `:fold=3`,
`:subset=esc10`. Frozen embeddings: `python -m jaxsound.probe` with the same `--config`.

Published: 97.0 % for this network from AudioSet's labels (Chen et al., 2022), which is another
training of it. Not measured here, for want of the weights. 4096 tokens and fewer from stage to
stage come to 5.9 G multiplications forward and some 35 GFLOP for each clip and step, by arithmetic,
whatever a clip's length: a quarter of an hour and more an epoch on two CPU cores.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config
from jaxsound.pretrained.variants import variant


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    config = default_config("htsat")
    config.epochs = 30
    config.batch_size = 32
    config.eval_every = 5
    config.data.name = "esc50"
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
    config.loss.label_smoothing = 0.1

    config.augment.time_masks = 1
    config.augment.freq_masks = 1

    arg = variant(config, arg)
    apply_argument(config, arg, subset="data.subset")
    return config
