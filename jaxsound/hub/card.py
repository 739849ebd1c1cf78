"""The cards: what a stranger must know of a shared model or feature store.

A card is Markdown under a YAML header that the hub reads. Values of the header are written as
JSON, which is YAML too, so no text of a data set can break out of its place.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxsound.evaluation import crossval
from jaxsound.features.store import Store
from jaxsound.pretrained import files

_TAGS = ["audio", "sound-classification", "jax", "flax", "jaxsound"]


def for_run(result: Mapping[str, Any], repo: str, licence: str = "") -> str:
    """The card of a trained model.

    Args:
      result: what `crossval.json` holds.
      repo: "USER/NAME".
      licence: the hub's name of one; "" takes that of the data set.
    """
    config = _without_places(result["config"])
    data, name = config["data"], repo.split("/")[1]
    known = [] if data["name"] == "audio_folder" else [data["name"]]
    header = {
        **_licence(licence, result),
        "library_name": "jaxsound",
        "pipeline_tag": "audio-classification",
        "tags": [*_TAGS, config["model"]["name"]],
        "datasets": known,
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name, "results": [_measured(result, data["name"])]}],
    }
    low, high = result["ci95"]
    fold = result["folds"][0]["fold"]
    classes = result["class_names"]
    parts = [
        f"# {name}",
        f"A sound classifier of {len(classes)} classes: `{config['model']['name']}`, trained by"
        f" jaxsound on {_name_of(data)}, one model for each test fold.",
        _began(result["config"]),
        "## Result",
        f"Accuracy **{crossval.headline(result)}**. Over all {result['clips_used']} test clips"
        f" {crossval.percent(result['accuracy_pooled'])}, 95 % interval {100 * low:.1f} to"
        f" {crossval.percent(high)}: a bootstrap over {result['groups']} source recordings. Macro"
        f" F1 {crossval.percent(result['macro_f1'])}, mAP@3 {result['map3']:.3f}.",
        f"Protocol: {result['protocol']}",
        _bullets(crossval.remarks(result)),
        _block("", crossval.format_table(result)),
        "`report.html` has the curves, the confusion matrix and every class; `predictions.csv` has"
        " every test clip.",
        "## Use",
        _block(
            "bash",
            f"pip install 'jaxsound[hub]'\nhf download {repo} --local-dir {name}",
        ),
        _block("python", _EXAMPLE.format(name=name, fold=fold)),
        "Classes, in the order of the probabilities: " + ", ".join(f"`{c}`" for c in classes) + ".",
        "## Configuration",
        _block("json", json.dumps(config, indent=1, ensure_ascii=False)),
        _versions(result["versions"]),
        *_source(result, "The weights were trained on recordings under this licence."),
    ]
    return _assemble(header, parts)


def for_store(store: Store, repo: str, licence: str = "") -> str:
    """The card of a feature store; arguments as in `for_run`."""
    meta, name = store.meta, repo.split("/")[1]
    header = {
        **_licence(licence, meta),
        "pretty_name": f"Features of {meta['name']}",
        "task_categories": ["audio-classification"],
        "tags": [*_TAGS, store.frontend.kind],
    }
    seconds = meta["clip_seconds"]
    folds = sorted(set(store.folds.tolist()))
    remarks = [meta["note"]] if meta["note"] else []
    if meta["left_out"]:
        remarks.append(f"Clips left out (store.json lists them): {len(meta['left_out'])}.")
    parts = [
        f"# {name}",
        f"Features ({store.frontend.kind}) of {meta['name']}, computed by jaxsound: {len(store)}"
        f" clips of {seconds['min']:.2f} to {seconds['max']:.2f} s ({seconds['total'] / 3600:.2f} h"
        f" in all), {len(store.class_names)} classes, folds {', '.join(map(str, folds))}"
        f" ({'the publisher' if store.publisher_folds else 'jaxsound'}'s; a clip of fold 0 only"
        " ever trains). No audio is in here.",
        _bullets(remarks),
        "## Use",
        _block(
            "bash",
            "pip install 'jaxsound[hub]'\n"
            f"hf download {repo} --repo-type dataset --local-dir {name}",
        ),
        _block(
            "python",
            "from pathlib import Path\n"
            "from jaxsound.features.store import open_store\n\n"
            f"store = open_store(Path({name!r}))\n"
            "clip = store.frames[store.offsets[0] : store.offsets[1]]  # [frames, features]\n"
            "store.class_names[store.labels[0]], store.folds[0], store.groups[0]",
        ),
        "## Format",
        f"`frames.npy` `{list(store.frames.shape)}` {store.frames.dtype}: the clips' frames, one"
        " clip after another. `offsets.npy` `[N + 1]` int64: clip i is"
        " `frames[offsets[i]:offsets[i + 1]]`. `labels.npy` and `folds.npy` `[N]` int32;"
        " `groups.npy` (the source recording) and `clip_ids.npy` `[N]` text. `clips.jsonl`: a line"
        " for each clip, with its sample rate and samples. `store.json`: everything on this page.",
        "Classes, in the order of the labels: "
        + ", ".join(f"`{c}`" for c in store.class_names)
        + ".",
        "## Frontend",
        _block("json", json.dumps(dataclasses.asdict(store.frontend), indent=1)),
        _versions(meta["versions"]),
        *_source(
            meta, "These features are made of its recordings, and its licence goes with them."
        ),
    ]
    return _assemble(header, parts)


_EXAMPLE = """\
import jax, numpy as np
from jaxsound.data import audio
from jaxsound.features.frontend import frontend
from jaxsound.training.restore import restore

trained = restore("{name}/fold_{fold}")
sound, rate = audio.read("recording.wav")
sound = audio.resample(sound / np.float32(32768), rate, trained.frontend.sample_rate)
frames = frontend(trained.frontend, sound[None], np.array([len(sound)]))[0]
features, length = trained.batch([np.asarray(frames)])
probabilities = jax.nn.softmax(trained.logits(features, length))[0]
print(trained.class_names[probabilities.argmax()], probabilities.max())"""


def _measured(result: Mapping[str, Any], data: str) -> dict[str, Any]:
    """The result as the hub's model index has it."""
    folds = len(result["folds"])
    over = f"mean over {folds} test folds" if folds > 1 else "one test fold"
    return {
        "task": {"type": "audio-classification"},
        "dataset": {"name": data, "type": data},
        "metrics": [
            {"type": "accuracy", "value": result["accuracy_mean"], "name": f"accuracy, {over}"},
            {"type": "f1", "value": result["macro_f1"], "name": "macro F1, pooled"},
        ],
    }


def _licence(chosen: str, about: Mapping[str, Any]) -> dict[str, str]:
    """The hub's fields; a licence that it has no name for is "other", and the card quotes it."""
    text = about["licence"]
    if chosen:
        return {"license": chosen}
    if text == "as jaxsound itself":
        return {"license": "apache-2.0"}
    if re.fullmatch(r"CC BY(-NC)?(-SA|-ND)? [234]\.0", text):
        return {"license": text.lower().replace(" ", "-")}
    return {"license": "other", "license_name": "of-the-data-set", "license_link": "README.md"}


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the folders of the machine that it ran on."""
    data = {k: "" if k in ("manual_dir", "cache_dir") else v for k, v in config["data"].items()}
    begun = dict(config.get("pretrained", {}))  # runs of before it have none
    if not files.on_hub(begun.get("weights", "")):
        begun["weights"] = ""
    return {**config, "data": data, "pretrained": begun}


def _began(config: Mapping[str, Any]) -> str:
    """Whose weights training began with; empty for none."""
    begun = config.get("pretrained", {})
    if not begun.get("weights"):
        return ""
    where = f"`{begun['weights']}`" if files.on_hub(begun["weights"]) else "a file"
    return (
        f"Training began with the published weights of {where}, SHA-256 `{begun['sha256']}`; "
        "their licence goes with this model, too."
    )


def _name_of(data: Mapping[str, Any]) -> str:
    if data["name"] == "audio_folder":
        return "a folder of recordings"
    return f"{data['name']} ({data['subset']})" if data.get("subset") else str(data["name"])


def _source(about: Mapping[str, Any], what_it_covers: str) -> list[str]:
    """Licence, address and citation of the data set."""
    parts = ["## Data, licence, citation"]
    parts.append(f"Licence of the data: {about['licence'] or 'not stated'}. {what_it_covers}")
    if about["homepage"]:
        parts.append(f"Published at <{about['homepage']}>.")
    if about["citation"]:
        parts.append(_block("bibtex", about["citation"]))
    return parts


def _versions(versions: Mapping[str, Any]) -> str:
    return "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _assemble(header: Mapping[str, Any], parts: Sequence[str]) -> str:
    fields = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
    return "\n".join(["---", *fields, "---", "", "\n\n".join(filter(None, parts)), ""])
