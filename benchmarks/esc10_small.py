"""ESC-10 by networks small enough to train five folds in a minute or two: what crossval.py runs.

    python -m jaxsound.main --config=benchmarks/esc10_small.py:network=transformer

Both networks train ten epochs of batches of 32, without augmentation or validation clips;
torch_crossval.py has the same.
"""

import ml_collections

from jaxsound.config import apply_argument, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    network, _, rest = arg.removeprefix("network=").partition(",")
    config = default_config(network or "transformer")
    config.epochs = 10
    config.batch_size = 32
    config.data.name = "esc50"
    config.data.subset = "esc10"
    config.data.partial = True
    config.data.pad_seconds = 5.0
    config.data.validation = 0.0

    config.frontend.sample_rate = 16000
    config.frontend.n_fft = 512
    config.frontend.hop_length = 320
    config.frontend.n_mels = 40

    if config.model.name == "cnn":
        config.model.channels = (16, 32, 64)
        config.model.convs = 1
        config.model.stem_kernel = 5
    else:
        config.model.stem_channels = (16, 32)
        config.model.width = 64
        config.model.depth = 2
    config.model.dropout = 0.1
    config.optimizer.peak_lr = 2e-3
    apply_argument(config, rest)
    return config
