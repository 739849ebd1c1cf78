"""The table of configuration keys: each with its default, what it may be, and a sentence.

`jaxsound.config` makes configurations of these and checks them; the `frontend` section's keys are
the fields of `jaxsound.features.frontend.FrontendConfig`.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

_MOST = 2**31 - 1
_LARGEST = sys.float_info.max  # what is above is infinite


@dataclasses.dataclass(frozen=True)
class Key:
    """One configuration key: default, predicate, the words for what it wants, and its meaning."""

    default: Any
    allows: Callable[[Any], bool]
    wants: str
    doc: str


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST


def _is_span(value: str) -> bool:
    first, colon, last = value.partition(":")
    return bool(colon) and first.isdecimal() and last.isdecimal() and int(first) < int(last)


def integer(default: int, doc: str, low: int = 0) -> Key:
    return Key(
        default,
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= _MOST,
        f"an integer of {low} or more, up to {_MOST}",
        doc,
    )


def real(default: float, doc: str, low: float = 0.0, high: float = _LARGEST) -> Key:
    wants = f"a number from {low:g} to {high:g}" if high < _LARGEST else f"at least {low:g}"
    wants = "a finite number" if low == -_LARGEST else wants
    return Key(default, lambda v: _number(v) and low <= v <= high, wants, doc)


def flag(default: bool, doc: str) -> Key:
    return Key(default, lambda v: isinstance(v, bool), "True or False", doc)


def text(default: str, doc: str) -> Key:
    return Key(default, lambda v: isinstance(v, str), "text", doc)


def texts(default: tuple[str, ...], doc: str) -> Key:
    return Key(
        default,
        lambda v: isinstance(v, tuple | list) and all(isinstance(i, str) for i in v),
        "a tuple of texts",
        doc,
    )


def choice(default: Any, options: tuple[Any, ...], doc: str) -> Key:
    return Key(default, lambda v: v in options, "one of " + ", ".join(map(repr, options)), doc)


def chance(doc: str) -> Key:
    return real(0.0, f"Chance for a clip: {doc}", 0.0, 1.0)


def integers(default: tuple[int, ...], doc: str) -> Key:
    return Key(
        default,
        lambda v: isinstance(v, tuple | list) and all(_counts(i) for i in v),
        "a tuple of positive integers",
        doc,
    )


TOP = {
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
    "fixed_mean": real(0.0, "Subtracted where normalize is 'fixed'.", low=-_LARGEST),
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

MODELS: dict[str, dict[str, Key]] = {
    "cnn": {
        "keep_frequency": flag(True, "Pool over time alone: the classifier knows the pitch."),
        "channels": integers((32, 64, 128, 256), "Width of each stage; stages halve the map."),
        "convs": integer(2, "3x3 convolutions per stage.", low=1),
        "residual": flag(True, "Add each stage's input to its output."),
        "stem_kernel": integer(3, "Size of the first convolution, in both directions.", low=1),
        "stem_stride": integer(2, "Stride of the first convolution, in both directions.", low=1),
        "pool": choice("mean_max", ("mean", "mean_max"), "Over valid frames and frequency."),
        "dropout": real(0.2, "Before the classifier.", 0.0, 0.95),
    },
    "stack": {
        "dims": choice(2, (1, 2), "2: maps of time and frequency; 1: time, with bins as channels."),
        "layers": texts(
            ("conv 32 3", "relu", "max_pool 2", "mean"),
            "Layers in order, as `jaxsound.models.stack` describes them; the classifier follows.",
        ),
    },
    "resnet": {
        "depth": choice(18, (18, 34, 50, 101, 152), "Layers, as the paper counts them."),
        "width": integer(64, "Of the first stage; each stage after it doubles.", low=1),
        "stem_kernel": integer(7, "Size of the first convolution, in both directions.", low=1),
        "stem_stride": integer(2, "Stride of the first convolution, in both directions.", low=1),
        "stem_pool": flag(True, "3x3 max pooling of stride 2 after the first convolution."),
        "zero_init_residual": flag(False, "Every block begins as the identity."),
        "dropout": real(0.0, "Before the classifier.", 0.0, 0.95),
    },
    "efficientnet": {
        "variant": choice("b0", ("b0", "b1", "b2"), "Depth and width."),
        "stem_stride": integer(2, "Stride of the first convolution, in both directions.", low=1),
        "padding": choice(
            "centred",
            ("centred", "end"),
            "Of strided convolutions: PyTorch's, or Keras's for even sizes.",
        ),
        "norm_epsilon": real(1e-5, "Of BatchNorm; Keras's is 1e-3.", 1e-12, 1.0),
        "dropout": real(0.2, "Before the classifier.", 0.0, 0.95),
        "drop_path": real(0.2, "Stochastic depth at the last block (linear from 0).", 0.0, 0.95),
    },
    "transformer": {
        "width": integer(128, "Token width D.", low=1),
        "depth": integer(4, "Encoder blocks.", low=1),
        "heads": integer(4, "Attention heads; must divide width.", low=1),
        "mlp_ratio": real(4.0, "Hidden width of the MLP over width.", 0.1),
        "stem": choice("conv", ("conv", "frames"), "Convolutions, or a projection of frames."),
        "stem_channels": integers((32, 64, 128), "'conv': one stride-2 convolution each."),
        "stem_frames": integer(4, "'frames': consecutive frames per token.", low=1),
        "positions": choice(
            "sinusoidal", ("none", "sinusoidal", "learned", "rotary"), "Position information."
        ),
        "stem_activation": choice("none", ("none", "relu"), "After stem and positions."),
        "norm": choice("pre", ("pre", "post"), "LayerNorm before each branch, or after adding it."),
        "activation": choice("gelu", ("gelu", "relu"), "Of the MLPs."),
        "attention": choice(
            "auto",
            ("auto", "xla", "cudnn"),
            "Fused, which a GPU has for bfloat16, or XLA's; 'auto' takes the first where it can.",
        ),
        "pool": choice("mean", ("mean", "attention", "class_token"), "Tokens to one vector."),
        "hidden": integers((), "Widths of layers, with ReLU, before the classifier."),
        "dropout": real(0.1, "After embedding, attention and MLP.", 0.0, 0.95),
        "drop_path": real(0.0, "Stochastic depth at the last block (linear from 0).", 0.0, 0.95),
    },
    "htsat": {
        "width": integer(96, "Token width of the first stage; each stage after it doubles.", low=1),
        "depths": integers((2, 2, 6, 2), "Blocks of each stage."),
        "heads": integers((4, 8, 16, 32), "Attention heads of each stage."),
        "mlp_ratio": real(4.0, "Hidden width of the MLPs over width.", 0.1),
        "window": integer(8, "Side of a window, in tokens.", low=1),
        "patch": integer(4, "Side of a token, in pixels.", low=1),
        "picture": integer(256, "Side of what the input is folded to, a multiple of bins.", low=1),
        "lora_rank": integer(0, "Rank of what is added to queries and values; 0 for none."),
        "lora_alpha": real(16.0, "Scale of what is added, times lora_rank."),
        "dropout": real(0.1, "After embedding, attention and MLP.", 0.0, 0.95),
        "drop_path": real(0.0, "Stochastic depth at the last block (linear from 0).", 0.0, 0.95),
    },
    "wav2vec2": {
        "channels": integer(512, "Width of the convolutions over samples.", low=1),
        "width": integer(768, "Frame width D.", low=1),
        "depth": integer(12, "Encoder blocks.", low=1),
        "heads": integer(12, "Attention heads; must divide width.", low=1),
        "mlp_ratio": real(4.0, "Hidden width of the MLP over width.", 0.1),
        "positions": integer(128, "Frames under the convolution that tells positions.", low=1),
        "position_groups": integer(16, "Its groups; must divide width.", low=1),
        "hidden": integer(256, "Width between the mean over frames and the classifier.", low=1),
        "attention": choice("auto", ("auto", "xla", "cudnn"), "As the transformer's."),
        "lora_rank": integer(0, "Rank of what is added to queries and values; 0 for none."),
        "lora_alpha": real(16.0, "Scale of what is added, times lora_rank."),
        "dropout": real(0.1, "After embedding, attention and MLP.", 0.0, 0.95),
    },
    "ast": {
        "width": integer(768, "Token width D.", low=1),
        "depth": integer(12, "Encoder blocks.", low=1),
        "heads": integer(12, "Attention heads; must divide width.", low=1),
        "mlp_ratio": real(4.0, "Hidden width of the MLP over width.", 0.1),
        "patch": integer(16, "Size of a patch, in frames and in bins.", low=1),
        "time_stride": integer(10, "Frames from one patch to the next.", low=1),
        "frequency_stride": integer(10, "Bins from one patch to the next.", low=1),
        "attention": choice(
            "auto",
            ("auto", "xla", "cudnn"),
            "Fused, which a GPU has for bfloat16, or XLA's; 'auto' takes the first where it can.",
        ),
        "lora_rank": integer(0, "Rank of what is added to queries and values; 0 for none."),
        "lora_alpha": real(16.0, "Scale of what is added, times lora_rank."),
        "dropout": real(0.0, "After embedding, attention and MLP.", 0.0, 0.95),
        "drop_path": real(0.0, "Stochastic depth at the last block (linear from 0).", 0.0, 0.95),
    },
}
MODEL_COMMON = {
    "dtype": choice("float32", ("float32", "bfloat16"), "Compute type; parameters stay float32."),
    "remat": flag(False, "Recompute block activations in the backward pass to save memory."),
}

OPTIMIZER = {
    "name": choice(
        "adamw", ("adamw", "adam", "sgd"), "Weight decay is decoupled in 'adamw', L2 in the others."
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
    "momentum": real(0.9, "'sgd': Nesterov's.", 0.0, 0.9999),
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

PRETRAINED = {
    "weights": text(
        "",
        "Published: a safetensors file, its folder, or OWNER/NAME@COMMIT of the hub; '' for none.",
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
    "distill": DISTILL,
}
