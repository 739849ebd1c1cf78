"""Five folds of ESC-10 in PyTorch and librosa, from files to crossval.json, as one writes it.

    python benchmarks/torch_crossval.py --data=DIR/ESC-50-master --network=transformer --out=DIR

Features by librosa, once, in memory; a DataLoader; eager training. Network, batch, epochs and
optimiser are those of esc10_small.py.
"""

import argparse
import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import librosa
import numpy as np
import torch
import torch_peers
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, BATCH, LR, WEIGHT_DECAY, CLIP_NORM = 10, 32, 2e-3, 0.05, 1.0
RATE, N_FFT, HOP, MELS, FMIN, CLASSES = 16000, 512, 320, 40, 50.0, 10
FRAMES = 1 + 5 * RATE // HOP
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {
        "channels": (16, 32, 64),
        "convs": 1,
        "stem_kernel": 5,
        "stem_stride": 2,
        "dropout": 0.1,
    },
    "transformer": {
        "stem": "conv",
        "stem_channels": (16, 32),
        "width": 64,
        "depth": 2,
        "heads": 4,
        "mlp_ratio": 4.0,
        "dropout": 0.1,
        "drop_path": 0.0,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    with (args.data / "meta" / "esc50.csv").open() as file:
        clips = [row for row in csv.DictReader(file) if row["esc10"] == "True"]
    targets = sorted({int(row["target"]) for row in clips})
    labels = torch.tensor([targets.index(int(row["target"])) for row in clips])
    folds = torch.tensor([int(row["fold"]) for row in clips])
    features = torch.stack([log_mel(args.data / "audio" / row["filename"]) for row in clips])
    accuracies = []
    for fold in range(1, 6):
        train, test = folds != fold, folds == fold
        network = fit(args.network, args.epochs, features[train], labels[train])
        mean, std = features[train].mean((0, 1)), features[train].std((0, 1))
        with torch.inference_mode():
            predicted = network((features[test] - mean) / std).argmax(1)
        accuracies.append((predicted == labels[test]).float().mean().item())
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"accuracy_mean": float(np.mean(accuracies)), "folds": accuracies}
    (args.out / "crossval.json").write_text(json.dumps(result))


def log_mel(path: Path) -> Tensor:
    """A file's features, `[T, M]` float32."""
    audio, _ = librosa.load(path, sr=RATE)
    mel = librosa.feature.melspectrogram(
        y=audio, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS, fmin=FMIN
    )
    return torch.from_numpy(librosa.power_to_db(mel).T.astype(np.float32))


def build(name: str) -> nn.Module:
    """The network of that name."""
    return torch_peers.build(SimpleNamespace(name=name, **NETWORKS[name]), FRAMES, MELS, CLASSES)


def fit(name: str, epochs: int, features: Tensor, labels: Tensor) -> nn.Module:
    """Trains a network on normalised features; returns it in evaluation mode."""
    features = (features - features.mean((0, 1))) / features.std((0, 1))
    loader = DataLoader(TensorDataset(features, labels), BATCH, shuffle=True, drop_last=True)
    network = build(name)
    optimizer = torch_peers.adamw(network, LR, WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=epochs * len(loader), pct_start=0.05
    )
    for _ in range(epochs):
        for batch, label in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(batch), label)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()
    return network.eval()


if __name__ == "__main__":
    main()
