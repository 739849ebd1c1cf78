"""The recordings that benchmarks read: ESC-10 where it is, else files of the same kind."""

import argparse
import csv
import os
import shutil
from pathlib import Path

import numpy as np

RATE, SECONDS, CLASSES, FOLDS, PER_CLASS = 44100, 5, 10, 5, 8


def esc10(args: argparse.Namespace) -> Path:
    """A folder as ESC-50-master, with ESC-10's 400 clips; synthesised without --recordings."""
    if args.recordings:
        root = args.recordings.absolute() / "ESC-50-master"
        if not (root / "meta" / "esc50.csv").is_file():
            raise SystemExit(f"--recordings={args.recordings}: no ESC-50-master/meta/esc50.csv")
        return root
    root = args.out / "ESC-50-master"
    if not root.exists():
        partial = args.out / f"ESC-50-master.{os.getpid()}"
        _synthesise(partial)
        try:
            partial.rename(root)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return root


def files(root: Path) -> list[Path]:
    """The wav files of ESC-10, in the order of their names."""
    with (root / "meta" / "esc50.csv").open() as file:
        names = [row["filename"] for row in csv.DictReader(file) if row["esc10"] == "True"]
    return [root / "audio" / name for name in sorted(names)]


def _synthesise(root: Path) -> None:
    """Tones in noise, a pitch for each class: 16-bit mono wav at 44.1 kHz, 5 s each."""
    import soundfile

    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rng = np.random.default_rng(0)
    time = np.arange(RATE * SECONDS) / RATE
    rows = []
    for fold in range(1, FOLDS + 1):
        for label in range(CLASSES):
            for i in range(PER_CLASS):
                pitch = 200 * 1.4**label * rng.uniform(0.93, 1.07)
                sound = np.sin(2 * np.pi * pitch * time) * np.exp(-time * rng.uniform(0.1, 2))
                sound = 0.3 * sound + 0.1 * rng.standard_normal(len(time))
                name, source = f"{fold}-{label}{i}-A-{label}.wav", f"{fold}{label}{i}"
                soundfile.write(root / "audio" / name, sound, RATE, subtype="PCM_16")
                rows.append((name, fold, label, f"class {label}", True, source, "A"))
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "fold", "target", "category", "esc10", "src_file", "take"))
        writer.writerows(rows)
