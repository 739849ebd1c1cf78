"""ResNet and EfficientNet as torchvision, timm and transformers name their tensors."""

import math
from collections.abc import Iterator
from typing import Any

from jaxsound.models import efficientnet, resnet
from jaxsound.pretrained.entries import (
    Entry,
    Layout,
    Path,
    batch_norm_entries,
    conv_entries,
    linear_entries,
)


def _resnet_blocks(config: Any) -> Iterator[tuple[Path, int, int, int, bool]]:
    """Ours, stage, number in it, convolutions and whether its input is projected."""
    deep = config.depth >= resnet.BOTTLENECK_FROM
    number = 0
    for stage, count in enumerate(resnet.STAGES[config.depth]):
        for i in range(count):
            yield ("blocks", number), stage, i, 3 if deep else 2, not i and (deep or stage > 0)
            number += 1


_PICTURES = {"stem_kernel": 7, "stem_stride": 2, "stem_pool": True, "width": 64}


def resnet_of_torchvision(config: Any) -> Layout:
    entries = [*conv_entries(("stem",), "conv1"), *batch_norm_entries(("stem_norm",), "bn1")]
    for ours, stage, i, convs, projects in _resnet_blocks(config):
        theirs = f"layer{stage + 1}.{i}."
        for j in range(convs):
            entries += conv_entries((*ours, "convs", j), f"{theirs}conv{j + 1}")
            entries += batch_norm_entries((*ours, "norms", j), f"{theirs}bn{j + 1}")
        if projects:
            entries += conv_entries((*ours, "skip"), f"{theirs}downsample.0")
            entries += batch_norm_entries((*ours, "skip_norm"), f"{theirs}downsample.1")
    entries += linear_entries(("head",), "fc", head=True)
    return Layout(
        "torchvision's and timm's ResNet", "layer1.0.conv1.weight", tuple(entries), _PICTURES
    )


def resnet_of_hub(config: Any, base: str) -> Layout:
    def pair(ours: Path, norm: Path, theirs: str) -> list[Entry]:
        return [
            *conv_entries(ours, f"{theirs}.convolution"),
            *batch_norm_entries(norm, f"{theirs}.normalization"),
        ]

    entries = pair(("stem",), ("stem_norm",), f"{base}embedder.embedder")
    for ours, stage, i, convs, projects in _resnet_blocks(config):
        theirs = f"{base}encoder.stages.{stage}.layers.{i}."
        for j in range(convs):
            entries += pair((*ours, "convs", j), (*ours, "norms", j), f"{theirs}layer.{j}")
        if projects:
            entries += pair((*ours, "skip"), (*ours, "skip_norm"), f"{theirs}shortcut")
    if base:
        entries += linear_entries(("head",), "classifier.1", head=True)
    name = "transformers' ResNet" + ("" if base else " without a classifier")
    mark = f"{base}encoder.stages.0.layers.0.layer.0.convolution.weight"
    return Layout(name, mark, tuple(entries), _PICTURES)


def efficientnets(config: Any) -> tuple[Layout, ...]:
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
                entries += linear_entries((*ours, "excite", "squeeze"), squeeze, kind="dense")
                entries += linear_entries((*ours, "excite", "excite"), excite, kind="dense")
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
            *linear_entries(("head",), head, head=True),
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
    yield from conv_entries((*ours, "conv"), conv)
    yield from batch_norm_entries((*ours, "norm"), norm)


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
