"""AST, wav2vec 2.0, HuBERT and CLAP's HTS-AT as transformers names their tensors."""

from collections.abc import Iterator
from typing import Any

from jaxsound.models import wav2vec2
from jaxsound.pretrained.entries import (
    Entry,
    Layout,
    batch_norm_entries,
    conv_entries,
    linear_entries,
    norm_entries,
)


def ast(config: Any, classifier: bool, published: bool) -> Layout:
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
        entries += norm_entries((*ours, "norm_1"), f"{theirs}layernorm_before")
        entries += linear_entries((*ours, "qkv"), *(theirs + part for part in parts))
        entries += linear_entries((*ours, "out"), theirs + out)
        entries += norm_entries((*ours, "norm_2"), f"{theirs}layernorm_after")
        entries += linear_entries((*ours, "up"), theirs + up)
        entries += linear_entries((*ours, "down"), theirs + down)
    entries += norm_entries(("norm",), f"{base}layernorm")
    if classifier:
        entries += norm_entries(("head_norm",), "classifier.layernorm")
        entries += linear_entries(("head",), "classifier.dense", head=True)
    name = "transformers' AST" + ("" if classifier else " without a classifier")
    name += "" if published else " (names of its version 5)"
    fields = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "patch": "patch_size",
        "time_stride": "time_stride",
        "frequency_stride": "frequency_stride",
    }
    return Layout(name, f"{block}.0.{parts[0]}.weight", tuple(entries), fields=fields)


PARAMETRISED = ("parametrizations.weight.original0", "parametrizations.weight.original1")


def wav2vec2_or_hubert(config: Any, base: str, gain: tuple[str, str]) -> Layout:
    """Transformers' wav2vec 2.0 and HuBERT, by PyTorch's older or newer names of a gain."""
    entries = list(
        norm_entries(("conv_norm",), f"{base}feature_extractor.conv_layers.0.layer_norm")
    )
    for i in range(len(wav2vec2.KERNELS)):
        entries += conv_entries(("convs", i), f"{base}feature_extractor.conv_layers.{i}.conv")
    entries += norm_entries(("project_norm",), f"{base}feature_projection.layer_norm")
    entries += linear_entries(("project",), f"{base}feature_projection.projection")
    conv = f"{base}encoder.pos_conv_embed.conv."
    entries += [
        Entry(("positions", "gain"), (conv + gain[0],), "token"),
        Entry(("positions", "kernel"), (conv + gain[1],), "conv"),
        Entry(("positions", "bias"), (f"{conv}bias",)),
    ]
    entries += norm_entries(("begin_norm",), f"{base}encoder.layer_norm")
    for i in range(config.depth):
        ours, theirs = ("blocks", i), f"{base}encoder.layers.{i}."
        heads = (f"{theirs}attention.{part}_proj" for part in "qkv")
        entries += linear_entries((*ours, "qkv"), *heads)
        entries += linear_entries((*ours, "out"), f"{theirs}attention.out_proj")
        entries += norm_entries((*ours, "norm_1"), f"{theirs}layer_norm")
        entries += linear_entries((*ours, "up"), f"{theirs}feed_forward.intermediate_dense")
        entries += linear_entries((*ours, "down"), f"{theirs}feed_forward.output_dense")
        entries += norm_entries((*ours, "norm_2"), f"{theirs}final_layer_norm")
    if base:
        entries += linear_entries(("hidden",), "projector", head=True)
        entries += linear_entries(("head",), "classifier", head=True)
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


def fusion_entries(patch: str) -> Iterator[Entry]:
    """The second convolution, and attention to places and to the whole."""
    yield Entry(("fusion", "project", "kernel"), (f"{patch}mel_conv2d.weight",), "image")
    yield Entry(("fusion", "project", "bias"), (f"{patch}mel_conv2d.bias",))
    for scores, theirs, first in (("local", "local_att", 0), ("overall", "global_att", 1)):
        ours, layer = ("fusion", scores), f"{patch}fusion_model.{theirs}."
        yield from linear_entries((*ours, "down"), f"{layer}{first}", kind="dense")
        yield from batch_norm_entries((*ours, "norm_1"), f"{layer}{first + 1}")
        yield from linear_entries((*ours, "up"), f"{layer}{first + 3}", kind="dense")
        yield from batch_norm_entries((*ours, "norm_2"), f"{layer}{first + 4}")


def htsat(config: Any, base: str) -> Layout:
    """The audio tower of transformers' CLAP, of the whole model or by itself."""
    patch = f"{base}patch_embed."
    entries = [
        *batch_norm_entries(("input_norm",), f"{base}batch_norm"),
        Entry(("project", "kernel"), (f"{patch}proj.weight",), "image"),
        Entry(("project", "bias"), (f"{patch}proj.bias",)),
        *norm_entries(("project_norm",), f"{patch}norm"),
    ]
    if config.fusion:
        entries += fusion_entries(patch)
    number = 0
    for stage, depth in enumerate(config.depths):
        for i in range(depth):
            ours, theirs = ("blocks", number), f"{base}layers.{stage}.blocks.{i}."
            attention = f"{theirs}attention.self."
            heads = (attention + part for part in ("query", "key", "value"))
            entries += norm_entries((*ours, "norm_1"), f"{theirs}layernorm_before")
            entries += linear_entries((*ours, "qkv"), *heads)
            entries.append(Entry((*ours, "table"), (f"{attention}relative_position_bias_table",)))
            entries += linear_entries((*ours, "out"), f"{theirs}attention.output.dense")
            entries += norm_entries((*ours, "norm_2"), f"{theirs}layernorm_after")
            entries += linear_entries((*ours, "up"), f"{theirs}intermediate.dense")
            entries += linear_entries((*ours, "down"), f"{theirs}output.dense")
            number += 1
        if stage < len(config.depths) - 1:
            last, merge = ("blocks", number - 1, "merge"), f"{base}layers.{stage}.downsample."
            entries += norm_entries((*last, "norm"), f"{merge}norm")
            kernel = (*last, "reduce", "kernel")
            entries.append(Entry(kernel, (f"{merge}reduction.weight",), "linear"))
    entries += norm_entries(("norm",), f"{base}norm")
    # What relates sounds to texts.
    unused: tuple[str, ...] = (
        "audio_projection.",
        "text_model.",
        "text_projection.",
        "logit_scale",
    )
    left_out = {}
    if not config.fusion:
        unused += (f"{patch}fusion_model.",)
        left_out[f"{patch}mel_conv2d."] = "clips are heard without fusion (model.fusion=False)"
    name = f"transformers' {'fused ' * config.fusion}CLAP" + (
        "" if base.startswith("audio_model") else ", its audio tower"
    )
    mark = f"{patch}proj.weight"
    return Layout(name, mark, tuple(entries), unused=unused, left_out=left_out)
