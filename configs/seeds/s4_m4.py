"""s4's ResNet152 for musical instruments, from scratch: two seconds at 44.1 kHz.

    python -m jaxsound.main --config=configs/seeds/s4_m4.py \
        --config.data.manual_dir=DIR

DIR holds a folder for each class. 58 145 732 parameters at 4 classes. AdamW with weight decay
1e-5, the rate divided by ten after 3 epochs without a better validation loss; batch 32, 50
epochs.

The original reported .175 on its test set, and an accuracy that swung .60, .26, .65, .30. What
went wrong there: the 700 "violin" training files are byte for byte the "drum" files, so no
network could pass .62; one file was corrupted and one label misspelt. `python -m jaxsound.audit
DIR` finds this before a training does (`docs/mysteries.md`).

Here the rate warms up over the first tenth of the steps to 2e-4 and falls to zero as a cosine,
gradients are clipped to a norm of 1, and every block begins as the identity; `:as_coded` does none
of it. That ends the swings (`docs/mysteries.md`).

Measured (2 cores of an AMD EPYC, 2026-11-21): .740 on 80 clips of ESC-10 in folders after ten
epochs on 288, 32 minutes while other work shared the cores. Before the cosine and the identities:
0.250 on fold 1 after two epochs on 85 clips of four kinds of instruments from FSDKaggle2018, tested
on 24; 252 s with one kill and resumption, 5.9 GiB. The author's own data: not measured. See
`docs/seeds.md`.
"""

import ml_collections

from jaxsound.config import apply_argument, as_coded, default_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    coded, arg = as_coded(arg)
    config = default_config("resnet")
    config.epochs = 50
    config.batch_size = 32
    config.eval_every = 1
    config.data.name = "audio_folder"
    config.data.frames = 173
    config.data.normalize = "none"

    config.frontend.kind = "mel"
    config.frontend.dtype = "float32"
    config.frontend.sample_rate = 44100
    config.frontend.n_fft = 1024
    config.frontend.hop_length = 512
    config.frontend.n_mels = 64
    config.frontend.fmin = 0.0
    config.frontend.excerpt = "loudest"
    config.frontend.seconds = 2.0
    config.frontend.pad = "zero"

    config.model.depth = 152
    config.model.remat = True
    config.model.zero_init_residual = not coded

    config.optimizer.name = "adamw"
    config.optimizer.schedule = "plateau" if coded else "cosine"
    config.optimizer.factor = 0.1
    config.optimizer.patience = 3
    config.optimizer.peak_lr = 1e-3 if coded else 2e-4
    config.optimizer.warmup_fraction = 0.0 if coded else 0.1
    config.optimizer.weight_decay = 1e-5
    config.optimizer.clip_norm = 0.0 if coded else 1.0

    apply_argument(config, arg)
    return config
