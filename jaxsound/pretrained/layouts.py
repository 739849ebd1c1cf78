"""What publishers call the tensors of a network, and how they lay them out.

An `Entry` pairs a parameter or statistic of ours with tensors of theirs. Pictures are theirs of
height by width and ours of time by frequency; a spectrogram's height is its frequency.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxsound.models import efficientnet, resnet, wav2vec2

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of ours and what it is made of.

    Attributes:
      path: ours, such as `("blocks", 0, "norm", "scale")`.
      names: theirs; several are joined along their outputs.
      kind: what theirs is: "plain" (the same as ours), "linear" `[out, in]`, "dense"
        `[out, in, 1, 1]`, "conv" `[out, in, height, width]` or `[out, in, time]`, "token"
        `[1, 1, D]` or "positions" `[1, N, D]`, a table that depends on the input's size.
      head: whether it belongs to the classifier, which another number of classes replaces.
    """

    path: Path
    names: tuple[str, ...]
    kind: str = "plain"
    head: bool = False

    def ours(self, theirs: list[np.ndarray]) -> np.ndarray:
        """Their tensors as one of ours."""
        first = theirs[0]
        match self.kind:
            case "linear":
                return np.concatenate(theirs).T
            case "dense":
                return first[:, :, 0, 0].T
            case "conv":
                return first.T  # all four or three axes turned round
            case "token":
                return first[0, 0]
            case "positions":
                return first[0]
        return np.concatenate(theirs)

    def theirs(self, ours: np.ndarray) -> list[np.ndarray]:
        """The way back, bit for bit."""
        match self.kind:
            case "linear":
                return np.split(ours.T, len(self.names))
            case "dense":
                return [ours.T[:, :, None, None]]
            case "conv":
                return [ours.T]
            case "token":
                return [ours[None, None]]
            case "positions":
                return [ours[None]]
        return np.split(ours, len(self.names))


@dataclasses.dataclass(frozen=True)
class Layout:
    """A publisher's names for one network.

    Attributes:
      name: for people.
      mark: a tensor that this layout has and the network's others have not.
      entries: of the network that the `model` section describes.
      wants: keys of that section, and what they must be for these weights.
      fields: keys of that section, and what the publisher's config.json calls them.
      unused: how names begin that have their use in the publisher's own training alone.
    """

    name: str
    mark: str
    entries: tuple[Entry, ...]
    wants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()


def layouts(config: Any) -> tuple[Layout, ...]:
    """The layouts in which weights of this network are published; none for most.

    Args:
      config: the `model` section of the configuration.
    """
    if config.name == "ast":
        return tuple(
            _ast(config, encoder, head) for encoder in (True, False) for head in (True, False)
        )
    if config.name == "resnet":
        return (
            _resnet_hub(config, "resnet."),
            _resnet_hub(config, ""),
            _resnet_torchvision(config),
        )
    if config.name == "wav2vec2":
        return tuple(
            _wav2vec2(config, base, gain)
            for base in ("wav2vec2.", "hubert.", "")
            for gain in (("weight_g", "weight_v"), _PARAMETRISED)
        )
    if config.name == "efficientnet":
        return _efficientnet(config)
    return ()


def _norm(path: Path, name: str) -> Iterator[Entry]:
    """LayerNorm."""
    yield Entry((*path, "scale"), (f"{name}.weight",))
    yield Entry((*path, "bias"), (f"{name}.bias",))


def _batch_norm(path: Path, name: str) -> Iterator[Entry]:
    yield from _norm(path, name)
    yield Entry((*path, "mean"), (f"{name}.running_mean",))
    yield Entry((*path, "var"), (f"{name}.running_var",))


def _linear(path: Path, *names: str, head: bool = False, kind: str = "linear") -> Iterator[Entry]:
    yield Entry((*path, "kernel"), tuple(f"{n}.weight" for n in names), kind, head)
    yield Entry((*path, "bias"), tuple(f"{n}.bias" for n in names), "plain", head)


def _conv(path: Path, name: str) -> Iterator[Entry]:
    yield Entry((*path, "conv", "kernel"), (f"{name}.weight",), "conv")


def _ast(config: Any, classifier: bool, published: bool) -> Layout:
    """Transformers' AST, with a classifier or without, by its older names, which the hub has, or
    those that its classes have since its version 5."""
    base = "audio_spectrogram_transformer." if classifier else ""
    stem = f"{base}embeddings."
    block = f"{base}encoder.layer" if published else f"{base}layers"
    parts = (
        ("attention.attention.query", "attention.attention.key", "attention.attention.value")
        if published
        else ("attention.q_proj", "attention.k_proj", "attention.v_proj")
    )
    out, up, down = (
        ("attention.output.dense", "intermediate.dense", "output.dense")
        if published
        else ("attention.o_proj", "mlp.fc1", "mlp.fc2")
    )
    patch = f"{stem}patch_embeddings.projection"
    entries = [
        Entry(("class_token",), (f"{stem}cls_token",), "token"),
        Entry(("distillation_token",), (f"{stem}distillation_token",), "token"),
        Entry(("table",), (f"{stem}position_embeddings",), "positions"),
        Entry(("project", "conv", "kernel"), (f"{patch}.weight",), "conv"),
        Entry(("project", "conv", "bias"), (f"{patch}.bias",)),
    ]
    for i in range(config.depth):
        ours, theirs = ("blocks", i), f"{block}.{i}."
        entries += _norm((*ours, "norm_1"), f"{theirs}layernorm_before")
        entries += _linear((*ours, "qkv"), *(theirs + part for part in parts))
        entries += _linear((*ours, "out"), theirs + out)
        entries += _norm((*ours, "norm_2"), f"{theirs}layernorm_after")
        entries += _linear((*ours, "up"), theirs + up)
        entries += _linear((*ours, "down"), theirs + down)
    entries += _norm(("norm",), f"{base}layernorm")
    if classifier:
        entries += _norm(("head_norm",), "classifier.layernorm")
        entries += _linear(("head",), "classifier.dense", head=True)
    name = "transformers' AST" + ("" if classifier else " without a classifier")
    fields = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "patch": "patch_size",
        "time_stride": "time_stride",
        "frequency_stride": "frequency_stride",
    }
    return Layout(name, f"{block}.0.{parts[0]}.weight", tuple(entries), fields=fields)


_PARAMETRISED = ("parametrizations.weight.original0", "parametrizations.weight.original1")


def _wav2vec2(config: Any, base: str, gain: tuple[str, str]) -> Layout:
    """Transformers' wav2vec 2.0 and HuBERT, by PyTorch's older or newer names of a gain."""
    entries = list(_norm(("conv_norm",), f"{base}feature_extractor.conv_layers.0.layer_norm"))
    for i in range(len(wav2vec2.KERNELS)):
        entries += _conv(("convs", i), f"{base}feature_extractor.conv_layers.{i}.conv")
    entries += _norm(("project_norm",), f"{base}feature_projection.layer_norm")
    entries += _linear(("project",), f"{base}feature_projection.projection")
    conv = f"{base}encoder.pos_conv_embed.conv."
    entries += [
        Entry(("positions", "gain"), (conv + gain[0],), "token"),
        Entry(("positions", "kernel"), (conv + gain[1],), "conv"),
        Entry(("positions", "bias"), (f"{conv}bias",)),
    ]
    entries += _norm(("begin_norm",), f"{base}encoder.layer_norm")
    for i in range(config.depth):
        ours, theirs = ("blocks", i), f"{base}encoder.layers.{i}."
        heads = (f"{theirs}attention.{part}_proj" for part in "qkv")
        entries += _linear((*ours, "qkv"), *heads)
        entries += _linear((*ours, "out"), f"{theirs}attention.out_proj")
        entries += _norm((*ours, "norm_1"), f"{theirs}layer_norm")
        entries += _linear((*ours, "up"), f"{theirs}feed_forward.intermediate_dense")
        entries += _linear((*ours, "down"), f"{theirs}feed_forward.output_dense")
        entries += _norm((*ours, "norm_2"), f"{theirs}final_layer_norm")
    if base:
        entries += _linear(("hidden",), "projector", head=True)
        entries += _linear(("head",), "classifier", head=True)
    name = {"wav2vec2.": "wav2vec 2.0", "hubert.": "HuBERT"}.get(base, "encoder")
    name = f"transformers' {name}{' without a classifier' if not base else ''} ({gain[0]})"
    fields = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "positions": "num_conv_pos_embeddings",
        "position_groups": "num_conv_pos_embedding_groups",
    }
    # Masking and quantising in the publisher's own training; a classifier of characters.
    unused = (f"{base}masked_spec_embed", "quantizer.", "project_q.", "project_hid.", "lm_head.")
    return Layout(name, conv + gain[0], tuple(entries), fields=fields, unused=unused)


def _resnet_blocks(config: Any) -> Iterator[tuple[Path, int, int, int, bool]]:
    """Ours, stage, number in it, convolutions and whether its input is projected."""
    deep = config.depth >= resnet.BOTTLENECK_FROM
    number = 0
    for stage, count in enumerate(resnet.STAGES[config.depth]):
        for i in range(count):
            yield ("blocks", number), stage, i, 3 if deep else 2, not i and (deep or stage > 0)
            number += 1


_PICTURES = {"stem_kernel": 7, "stem_stride": 2, "stem_pool": True, "width": 64}


def _resnet_torchvision(config: Any) -> Layout:
    entries = [*_conv(("stem",), "conv1"), *_batch_norm(("stem_norm",), "bn1")]
    for ours, stage, i, convs, projects in _resnet_blocks(config):
        theirs = f"layer{stage + 1}.{i}."
        for j in range(convs):
            entries += _conv((*ours, "convs", j), f"{theirs}conv{j + 1}")
            entries += _batch_norm((*ours, "norms", j), f"{theirs}bn{j + 1}")
        if projects:
            entries += _conv((*ours, "skip"), f"{theirs}downsample.0")
            entries += _batch_norm((*ours, "skip_norm"), f"{theirs}downsample.1")
    entries += _linear(("head",), "fc", head=True)
    return Layout(
        "torchvision's and timm's ResNet", "layer1.0.conv1.weight", tuple(entries), _PICTURES
    )


def _resnet_hub(config: Any, base: str) -> Layout:
    def pair(ours: Path, norm: Path, theirs: str) -> list[Entry]:
        return [
            *_conv(ours, f"{theirs}.convolution"),
            *_batch_norm(norm, f"{theirs}.normalization"),
        ]

    entries = pair(("stem",), ("stem_norm",), f"{base}embedder.embedder")
    for ours, stage, i, convs, projects in _resnet_blocks(config):
        theirs = f"{base}encoder.stages.{stage}.layers.{i}."
        for j in range(convs):
            entries += pair((*ours, "convs", j), (*ours, "norms", j), f"{theirs}layer.{j}")
        if projects:
            entries += pair((*ours, "skip"), (*ours, "skip_norm"), f"{theirs}shortcut")
    if base:
        entries += _linear(("head",), "classifier.1", head=True)
    name = "transformers' ResNet" + ("" if base else " without a classifier")
    mark = f"{base}encoder.stages.0.layers.0.layer.0.convolution.weight"
    return Layout(name, mark, tuple(entries), _PICTURES)


def _efficientnet(config: Any) -> tuple[Layout, ...]:
    """torchvision's, timm's (not its `tf_` ones) and transformers'."""
    pytorch = {"stem_stride": 2, "padding": "centred", "norm_epsilon": 1e-5}
    keras = {"stem_stride": 2, "padding": "end", "norm_epsilon": 1e-3}
    deeper = efficientnet.VARIANTS[config.variant][1]
    blocks: dict[str, list[Entry]] = {"torchvision": [], "timm": [], "hub": []}
    number = 0
    for stage, (expansion, *_, count) in enumerate(efficientnet.STAGES):
        for i in range(math.ceil(count * deeper)):
            ours, first = ("blocks", number), int(expansion > 1)
            names = {
                "torchvision": _torchvision_block(f"features.{stage + 1}.{i}.block.", first),
                "timm": _timm_block(f"blocks.{stage}.{i}.", first),
                "hub": _hub_block(f"efficientnet.encoder.blocks.{number}."),
            }
            for layout, (expand, depthwise, squeeze, excite, project) in names.items():
                entries = blocks[layout]
                for part, theirs in (
                    ("expand", expand),
                    ("depthwise", depthwise),
                    ("project", project),
                ):
                    if part != "expand" or first:
                        entries += _conv_norm((*ours, part), *theirs)
                entries += _linear((*ours, "excite", "squeeze"), squeeze, kind="dense")
                entries += _linear((*ours, "excite", "excite"), excite, kind="dense")
            number += 1
    ends = {
        "torchvision": (
            ("features.0.0", "features.0.1"),
            ("features.8.0", "features.8.1"),
            "classifier.1",
        ),
        "timm": (("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier"),
        "hub": (
            ("efficientnet.embeddings.convolution", "efficientnet.embeddings.batchnorm"),
            ("efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"),
            "classifier",
        ),
    }
    whole = {
        layout: (
            *_conv_norm(("stem",), *stem),
            *blocks[layout],
            *_conv_norm(("last",), *last),
            *_linear(("head",), head, head=True),
        )
        for layout, (stem, last, head) in ends.items()
    }
    return (
        Layout("torchvision's EfficientNet", "features.0.0.weight", whole["torchvision"], pytorch),
        Layout("timm's EfficientNet", "conv_stem.weight", whole["timm"], pytorch),
        Layout(
            "transformers' EfficientNet",
            "efficientnet.embeddings.convolution.weight",
            whole["hub"],
            keras,
        ),
    )


def _conv_norm(ours: Path, conv: str, norm: str) -> Iterator[Entry]:
    yield from _conv((*ours, "conv"), conv)
    yield from _batch_norm((*ours, "norm"), norm)


Block = tuple[tuple[str, str], tuple[str, str], str, str, tuple[str, str]]


def _torchvision_block(base: str, first: int) -> Block:
    parts = [(f"{base}{i}.0", f"{base}{i}.1") for i in range(first + 3)]
    squeeze = f"{base}{first + 1}.fc"
    return parts[0], parts[first], f"{squeeze}1", f"{squeeze}2", parts[first + 2]


def _timm_block(base: str, first: int) -> Block:
    project = "conv_pwl" if first else "conv_pw"
    return (
        (f"{base}conv_pw", f"{base}bn1"),
        (f"{base}conv_dw", f"{base}bn{first + 1}"),
        f"{base}se.conv_reduce",
        f"{base}se.conv_expand",
        (base + project, f"{base}bn{first + 2}"),
    )


def _hub_block(base: str) -> Block:
    return (
        (f"{base}expansion.expand_conv", f"{base}expansion.expand_bn"),
        (f"{base}depthwise_conv.depthwise_conv", f"{base}depthwise_conv.depthwise_norm"),
        f"{base}squeeze_excite.reduce",
        f"{base}squeeze_excite.expand",
        (f"{base}projection.project_conv", f"{base}projection.project_bn"),
    )
