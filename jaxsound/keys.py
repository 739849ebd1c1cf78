"""The table of configuration keys: each with its default, what it may be, and a sentence.

`jaxsound.config` makes configurations of these and checks them. The `frontend` section's keys are
the fields of `jaxsound.features.frontend.FrontendConfig`; the networks' stand in
`jaxsound.model_keys`.
"""

from jaxsound.key_kinds import (
    LARGEST,
    Key,
    chance,
    choice,
    flag,
    integer,
    integers,
    real,
    text,
    texts,
)
from jaxsound.model_keys import MODEL_COMMON as MODEL_COMMON
from jaxsound.model_keys import MODELS as MODELS


def _is_span(value: str) -> bool:
    first, colon, last = value.partition(":")
    return bool(colon) and first.isdecimal() and last.isdecimal() and int(first) < int(last)


TOP = {
    "task": choice(
        "classification",
        ("classification", "reconstruction"),
        "What is learnt: classes, or without labels to fill in masked parts of spectrograms.",
    ),
    "seed": integer(0, "Seeds initialisation, order, crops, augmentation and dropout."),
    "epochs": integer(100, "Passes over the training clips.", low=1),
    "batch_size": integer(32, "Clips per step, over all devices and hosts together.", low=1),
    "folds": integers((), "Test folds to run; () means all there are."),
    "crossval": choice(
        "auto",
        ("auto", "sequential", "vmap", "process"),
        "Folds one after another, in one compiled program ('auto': whichever should be faster), "
        "or shared out over processes.",
    ),
    "log_every": integer(10, "Steps between metric writes.", low=1),
    "eval_every": integer(10, "Epochs between looks at the validation split; 0 for never."),
    "checkpoint_every": integer(10, "Epochs between checkpoints; 0 for the last step only."),
    "nonfinite": choice(
        "stop",
        ("stop", "skip"),
        "What NaN or infinity in data, loss or gradient does: stop, or leave the step or clip out.",
    ),
    "select": choice("last", ("last", "best"), "Weights tested: the last, or validation's best."),
    "monitor": choice("loss", ("loss", "accuracy"), "What is best on the validation split."),
    "early_stopping": integer(0, "Evaluations without a better one that end a fold; 0 for never."),
    "watch_test": flag(False, "Draw the test fold's curve too. Nothing may be chosen by it."),
    "steps_per_call": integer(
        0, "Steps that a device takes in one call, at most; 0: 1 on CPUs, 8 on accelerators."
    ),
    "profile_steps": Key(
        "",
        lambda v: isinstance(v, str) and (not v or _is_span(v)),
        "'' or FIRST:LAST, as in '10:20'",
        "Steps of every fold of which TensorBoard gets a trace; '' for none.",
    ),
    "wandb": text("", "Weights & Biases project to log to as well; '' for none."),
}

DATA = {
    "name": choice(
        "synthetic",
        ("esc50", "urbansound8k", "fsdkaggle2018", "audio_folder", "synthetic"),
        "The data set.",
    ),
    "manual_dir": text("", "Folder (or CSV) of files already on disk; '' downloads."),
    "cache_dir": text("", "Where prepared data and features are kept; '' is ~/.cache/jaxsound."),
    "subset": choice("", ("", "esc10"), "Part of the data set: 'esc10' of ESC-50."),
    "partial": flag(False, "Go on with a copy that is not whole; the result says so."),
    "on_bad": choice("stop", ("stop", "skip"), "What a broken recording does."),
    "unlabelled": flag(
        False, "'audio_folder': all recordings in it, in whatever folders, without classes."
    ),
    "make_folds": integer(5, "Folds to make where the data set has none.", low=2),
    "sampling": choice(
        "shuffled",
        ("shuffled", "balanced"),
        "An epoch has each clip once, or each class equally often: rare clips come again.",
    ),
    "validation": real(0.1, "Share of the training clips, by source, held out.", 0.0, 0.5),
    "pad_seconds": real(5.0, "Longest stretch of a clip that evaluation sees.", 0.05),
    "crop_seconds": real(0.0, "Length of a random training crop; 0 takes pad_seconds."),
    "frames": integer(0, "Exact frames of every input, instead of seconds; 0 for as they come."),
    "crop_bins": integer(0, "Bins of a random crop in frequency, the middle in tests; 0 for all."),
    "normalize": choice(
        "per_bin",
        ("per_bin", "global", "fixed", "none"),
        "By the training split's frames, by fixed_mean and fixed_std, or not at all.",
    ),
    "fixed_mean": real(0.0, "Subtracted where normalize is 'fixed'.", low=-LARGEST),
    "fixed_std": real(1.0, "Divides where normalize is 'fixed'.", low=1e-9),
    "input": choice(
        "features",
        ("features", "waveform"),
        "Train on stored features, or on stored sound, with the frontend inside the step.",
    ),
    "feed": choice(
        "auto",
        ("auto", "stream", "resident"),
        "Send batches, or keep features on the device and send indices.",
    ),
    "resident_gib": real(2.0, "Largest feature store that 'auto' puts on the device, GiB."),
    "read_threads": integer(0, "Grain's, in 'stream' mode; 2 or more for slow disks."),
}

OPTIMIZER = {
    "name": choice(
        "adamw",
        ("adamw", "muon", "lion", "adam", "sgd"),
        "Weight decay is decoupled in the first three, L2 in the others.",
    ),
    "schedule": choice(
        "cosine",
        ("cosine", "constant", "step", "plateau", "one_cycle"),
        "Of the learning rate, after linear warm-up; 'plateau' watches the validation split.",
    ),
    "peak_lr": real(1e-3, "Learning rate after warm-up."),
    "warmup_fraction": real(0.05, "Share of the steps spent warming up.", 0.0, 0.9),
    "final_fraction": real(0.0, "Last over peak_lr: 'cosine' and 'one_cycle'.", 0.0, 1.0),
    "step_epochs": integer(10, "'step': epochs between drops.", low=1),
    "factor": real(0.1, "'step' and 'plateau': multiplies the learning rate.", 1e-6, 1.0),
    "patience": integer(3, "'plateau': evaluations without a better one that it waits for."),
    "weight_decay": real(0.05, "On matrices and kernels only."),
    "momentum": real(0.9, "'sgd' and 'muon': Nesterov's; 0.95 is usual for that.", 0.0, 0.9999),
    "b1": real(0.9, "First moment decay.", 0.0, 0.9999),
    "b2": real(0.999, "Second moment decay.", 0.0, 0.99999),
    "clip_norm": real(1.0, "Global gradient norm limit; 0 for none."),
    "ema": real(
        0.0, "Decay of averaged weights, which are then evaluated; 0 for none.", 0, 0.99999
    ),
    "accumulate": integer(1, "Parts a batch is split into; gradients are added up.", low=1),
}

LOSS = {
    "label_smoothing": real(0.0, "Probability spread over all classes.", 0.0, 0.9),
    "class_weights": choice("none", ("none", "balanced"), "Weigh clips by inverse class count."),
    "logit_adjustment": real(
        0.0, "Times the logarithms of the classes' shares, added to logits in training; 0 for none."
    ),
    "unverified_weight": real(1.0, "Of a clip whose label nobody has verified.", 0.0, 1.0),
}

AUGMENT = {
    "copies": integer(0, "Augmented copies of a clip beside the plain one; 0 augments every clip."),
    "time_masks": integer(0, "SpecAugment: masks along time."),
    "time_mask_share": real(0.2, "Longest time mask over the clip's own length.", 0.0, 1.0),
    "freq_masks": integer(0, "SpecAugment: masks along frequency."),
    "freq_mask_share": real(0.2, "Widest frequency mask over the number of bins.", 0.0, 1.0),
    "time_roll": flag(False, "Rotate each clip in time within its own length."),
    "gain_db": real(0.0, "Random gain of up to this many dB either way (log-mel only)."),
    "mixup": real(0.0, "Beta(a, a) mixing of pairs and their labels; 0 for none."),
    "time_mix": chance("a stretch of time is another clip's, labels by share."),
    "freq_mix": chance("a band of frequencies is another clip's, labels by share."),
    "until": real(1.0, "Share of the steps in which clips are mixed: the first.", 0.0, 1.0),
    "mel_jitter": real(0.0, "Moves either end of the bins by up to this share of them.", 0.0, 0.5),
    # In sound: these need data.input='waveform'.
    "shift": flag(False, "In sound: turn each clip round within its own length."),
    "loop": chance("in sound, zeros at its ends give way to repetitions of it."),
    "speed": real(1.0, "In sound: faster or slower by up to this factor; 1 for none.", 1.0, 2.0),
    "between_class": chance("in sound, mixed with one of another class, by their loudness."),
    "loudness": choice("a_weighted", ("a_weighted", "rms"), "What 'between_class' mixes by."),
    "polarity": flag(False, "In sound: half of the clips upside down."),
    "level_db": real(0.0, "In sound: random gain of up to this many dB either way.", 0.0, 60.0),
    "noise": chance("in sound, white noise is added."),
    "noise_low_db": real(10.0, "Least signal-to-noise ratio of 'noise', dB.", -20.0, 100.0),
    "noise_high_db": real(40.0, "Greatest signal-to-noise ratio of 'noise', dB.", -20.0, 100.0),
    "equaliser_db": real(0.0, "In sound: a random curve of up to this many dB.", 0.0, 60.0),
    "low_pass": chance("in sound, a low-pass filter."),
    "low_pass_hz": real(2000.0, "Lowest cut-off of 'low_pass', Hz.", 1.0),
}
# What of that needs sound, and the value that leaves it out.
IN_SOUND = {
    name: AUGMENT[name].default
    for name in (
        *("shift", "loop", "speed", "between_class", "polarity"),
        *("level_db", "noise", "equaliser_db", "low_pass"),
    )
}
# What of that needs a spectrum.
NEEDS_BINS = ("freq_masks", "freq_mix", "mel_jitter", "equaliser_db", "low_pass")

PRETRAINED = {
    "weights": text(
        "",
        "A safetensors file, its folder, OWNER/NAME@COMMIT of the hub, or a run or a fold of "
        "jaxsound's; '' for none.",
    ),
    "sha256": text("", "That the file must have; '' takes any, and the run's record gets it."),
    "stem": choice("sum", ("sum", "mean"), "Weights of three colours to those of one spectrogram."),
    "freeze": texts((), "Paths of parameters that keep their values; '*' stands for anything."),
    "unfreeze": texts((), "Paths that train all the same, as ('head.*',) beside freeze=('*',)."),
    "fixed_statistics": flag(False, "BatchNorm keeps its published mean and variance."),
    "layer_decay": real(1.0, "Learning rate of a block over that of the next.", 0.01, 1.0),
    "head_rate": real(1.0, "Learning rate of the classifier over peak_lr."),
    "head_first": real(0.0, "Share of the steps in which the classifier trains alone.", 0.0, 0.5),
}

RECONSTRUCTION = {
    "masked_share": real(0.6, "Of a clip's patches that are masked.", 0.01, 0.99),
    "patch_frames": integer(16, "Frames of a patch.", low=1),
    "patch_bins": integer(16, "Bins of a patch; as many as there are mask whole times.", low=1),
}

DISTILL = {
    "run": text("", "A finished run whose fold k teaches fold k of this one; '' for none."),
    "share": real(0.5, "Of a training clip's label that is the teacher's word.", 0.0, 1.0),
    "temperature": real(2.0, "By which the teacher's logits are divided.", 0.05),
}

SECTIONS = {
    "data": DATA,
    "optimizer": OPTIMIZER,
    "loss": LOSS,
    "augment": AUGMENT,
    "pretrained": PRETRAINED,
    "reconstruction": RECONSTRUCTION,
    "distill": DISTILL,
}
