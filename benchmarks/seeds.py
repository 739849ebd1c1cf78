"""Trains every config of configs/seeds on the real clips at hand, and prints a table.

    python benchmarks/seeds.py --recordings=DIR
    python benchmarks/seeds.py --recordings=DIR --ten        # s3_* and s1_resnet18, ten epochs

DIR holds ESC-50-master, UrbanSound8K and freesound-audio-tagging, whole or in part. Each system
trains two epochs on fold 1, is killed by SIGKILL after its first checkpoint, goes on, and is
tested; the largest networks see some clips of each class only. Seconds are those of both
processes, compilation included; memory is the peak of the larger one. Results of earlier commands
stay in OUT/seeds.json and appear in the table; OUT/curves.png has the curves of the ten epochs.
"""

import argparse
import csv
import dataclasses
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INSTRUMENTS = {
    "drums": ("Bass_drum", "Hi_hat", "Snare_drum"),
    "guitar": ("Acoustic_guitar",),
    "strings": ("Cello", "Double_bass", "Violin_or_fiddle"),
    "winds": ("Clarinet", "Flute", "Saxophone"),
}


@dataclasses.dataclass(frozen=True)
class System:
    """One config: what its author reported, and how much of the clips at hand it sees here.

    Attributes:
      theirs: the author's accuracy.
      data: which recordings.
      per_class: clips of each class and fold; 0 for all.
      changes: configuration keys changed to suit few clips.
    """

    theirs: str
    data: str
    per_class: int = 0
    changes: tuple[str, ...] = ()


SMALL = ("batch_size=8",)
SYSTEMS = {
    "s0_conv2d": System("about .50", "fsd"),
    "s0_transformer": System("about .40", "fsd"),
    "s1_resnet18": System(".8025 best / .795 last", "esc10", 1, SMALL),
    "s1_resnet34": System("bad results", "esc10", 1, SMALL),
    "s1_resnet50": System("would not run", "esc10", 1, SMALL),
    "s2_cnn1d": System("about .30", "us8k", changes=("batch_size=64",)),
    "s2_transformer": System(
        "about .30", "us8k", changes=("batch_size=64", "optimizer.accumulate=8")
    ),
    "s3_resnet18": System(".765 best / .665 last", "esc10", 2, ("batch_size=40",)),
    "s3_cnn8": System(".6825 best / .680 last", "esc10", 0, ("batch_size=80",)),
    "s3_cnn4": System(".6625 best / .6625 last", "esc10", 2, ("batch_size=40",)),
    "s3_cnn4_relu": System("-", "esc10", 0, ("batch_size=80",)),
    "s4_m1": System(".525", "instruments", changes=SMALL),
    "s4_m2": System(".5375", "instruments", changes=SMALL),
    "s4_m3": System(".5375", "instruments", changes=SMALL),
    "s4_m4": System(".175", "instruments", changes=SMALL),
    "s4_m5": System(".6125", "instruments", changes=SMALL),
    "s4_m6": System(".475", "instruments", changes=SMALL),
}
TEN = ("s1_resnet18", "s3_cnn4_relu", "s3_cnn8", "s3_cnn4", "s3_resnet18")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "seeds")
    parser.add_argument("--ten", action="store_true", help="ten epochs of s3_* and s1_resnet18")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, metavar="SYSTEM", default=())
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only or (TEN if args.ten else SYSTEMS):
        print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
        record = train(name, args.recordings.absolute(), args.out.absolute(), ten=args.ten)
        print(f"{record['seconds']:.0f} s", file=sys.stderr)
        _keep(args.out / "seeds.json", f"{name} ten" if args.ten else name, record)
    records = json.loads((args.out / "seeds.json").read_text())
    draw_curves(records, args.out)
    print(table(records))


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


def train(name: str, recordings: Path, out: Path, *, ten: bool) -> dict[str, Any]:
    """Trains one system in processes of its own; raises if it does not end well."""
    system = SYSTEMS[name]
    folder, argument = clips(recordings, out, system.data, 0 if ten else system.per_class)
    workdir = out / (f"{name}_ten" if ten else name)
    shutil.rmtree(workdir, ignore_errors=True)
    changes = (
        f"epochs={10 if ten else 2}",
        "checkpoint_every=1",
        "data.partial=True",
        f"data.manual_dir={folder}",
        *(ten_epochs(name) if ten else system.changes),
    )
    command = [sys.executable, "-m", "jaxsound.main"]
    command += [f"--config={ROOT}/configs/seeds/{name}.py:{argument}", f"--workdir={workdir}"]
    command += [f"--config.{change}" for change in changes]
    began = time.monotonic()
    first = 0 if ten else _run(command, out, workdir, kill=True)
    peak = max(first, _run(command, out, workdir, kill=False))
    seconds = time.monotonic() - began
    result = json.loads((workdir / "crossval.json").read_text())
    (fold,) = result["folds"]
    return {
        "accuracy": result["accuracy_pooled"],
        "clips": fold["clips"],
        "parameters": _parameters(workdir),
        "theirs": system.theirs,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak / 2**20, 2),
        "steps": fold["steps"],
        "epochs": 10 if ten else 2,
        "curves": _curves(workdir) if ten else {},
        "machine": f"{os.cpu_count()} cores, {_processor()}, {datetime.date.today()}",
        "command": " ".join(("jaxsound.main", f"{name}.py:{argument}", *changes[:3])),
    }


def ten_epochs(name: str) -> tuple[str, ...]:
    """A batch that 320 clips fill several times, as theirs filled 1600 clips."""
    return ("batch_size=16",) if name.startswith("s1") else ("batch_size=80", "watch_test=True")


def clips(recordings: Path, out: Path, data: str, per_class: int) -> tuple[Path, str]:
    """The folder of recordings to train on, and the config's argument."""
    if data == "us8k":
        return recordings / "UrbanSound8K", "fold=1"
    if data == "fsd":
        return recordings / "freesound-audio-tagging", "fold=1"
    if data == "instruments":
        return _instruments(recordings / "freesound-audio-tagging", out / "instruments"), "fold=1"
    esc50 = recordings / "ESC-50-master"
    if per_class:
        esc50 = _some_of_esc10(esc50, out / f"esc10_{per_class}", per_class)
    return esc50, "fold=1,subset=esc10"


def _instruments(source: Path, folder: Path) -> Path:
    """s4's situation of four kinds of instruments, of FSDKaggle2018's clips."""
    kind_of = {label: kind for kind, labels in INSTRUMENTS.items() for label in labels}
    with (source / "train.csv").open() as file:
        for row in csv.DictReader(file):
            if row["label"] in kind_of:
                target = folder / kind_of[row["label"]] / row["fname"]
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    shutil.copy2(source / "audio_train" / row["fname"], target)
    return folder


def _some_of_esc10(source: Path, folder: Path, per_class: int) -> Path:
    """ESC-10 with so many clips of each class in each fold."""
    with (source / "meta" / "esc50.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["esc10"] == "True"]
    taken: Counter[tuple[str, str]] = Counter()
    for sub in ("meta", "audio"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            place = (row["target"], row["fold"])
            if taken[place] < per_class:
                taken[place] += 1
                writer.writerow(row)
                target = folder / "audio" / row["filename"]
                if not target.exists():
                    shutil.copy2(source / "audio" / row["filename"], target)
    return folder


def _run(command: list[str], out: Path, workdir: Path, *, kill: bool) -> int:
    """Runs a process to its end, or to its first checkpoint; returns its peak memory in KiB."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(out / "compiled"),
        "JAXSOUND_CACHE": os.environ.get("JAXSOUND_CACHE", str(out / "cache")),
    }
    with (out / f"{workdir.name}.log").open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        killed = False
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            if kill and not killed and any(workdir.glob("fold_1/checkpoints/[0-9]*/state")):
                process.send_signal(signal.SIGKILL)
                killed = True
            time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if killed is not kill or (not kill and process.returncode):
        tail = Path(log.name).read_text().strip().splitlines()[-3:]
        raise SystemExit(f"{workdir.name}: status {process.returncode}: {' / '.join(tail)}")
    return usage.ru_maxrss


def _parameters(workdir: Path) -> int:
    """Of the network that was trained: what its checkpoint holds."""
    import jax

    from jaxsound.training.restore import restore

    return sum(x.size for x in jax.tree.leaves(restore(workdir / "fold_1").params))


def _curves(workdir: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in (workdir / "fold_1" / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for tag in ("train/loss", "validation/accuracy", "test/accuracy"):
            if record.get(tag) is not None:
                curves.setdefault(tag, []).append((record["step"], record[tag]))
    return curves


def _keep(path: Path, name: str, record: dict[str, Any]) -> None:
    records = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(records | {name: record}, indent=1) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(records: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line for each system."""
    lines = [
        "| system | parameters | theirs | ours | epochs | clips | seconds | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(records, key=lambda name: (name.endswith(" ten"), name)):
        r = records[name]
        lines.append(
            f"| `{name.split()[0]}` | {r['parameters']:,} | {r['theirs']} | {r['accuracy']:.3f} "
            f"| {r['epochs']} | {r['clips']['train']} + {r['clips']['test']} "
            f"| {r['seconds']:.0f} | {r['peak_gib']:.1f} GiB |".replace(",", " ")
        )
    return "\n".join(lines)


def draw_curves(records: dict[str, dict[str, Any]], out: Path) -> None:
    """The ten epochs' training loss and accuracies, a column for each system."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {name: r for name, r in records.items() if r["curves"]}
    if not shown:
        return
    figure, axes = plt.subplots(
        2, len(shown), figsize=(3 * len(shown), 5), squeeze=False, sharey="row", sharex="col"
    )
    for (name, record), (loss, accuracy) in zip(shown.items(), axes.T, strict=True):
        per_epoch = record["steps"] / record["epochs"]
        for tag, points in record["curves"].items():
            axis = loss if tag == "train/loss" else accuracy
            split = tag.partition("/")[0]
            style = {"train": "0.3", "validation": "tab:blue", "test": "tab:red"}[split]
            epochs, values = [s / per_epoch for s, _ in points], [v for _, v in points]
            axis.plot(epochs, values, color=style, label=split)
        loss.set_title(name.split()[0], fontsize=10)
        accuracy.set_xlabel("epoch")
        accuracy.set_ylim(0, 1)
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("accuracy")
    axes[1, 0].legend(frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(out / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
