"""A small data set with nothing wrong in it, for each test to spoil in its own way."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxsound.audit import audit, sources
from jaxsound.audit.findings import Finding

RATE = 16_000
CLASSES = ("Sound_Drum", "Sound_Guitar", "Sound_Piano")


def sound(seed: int, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """float64 `[n]` in [-0.5, 0.5]: noise through a random filter, louder and softer in time."""
    rng = np.random.default_rng(seed)
    size = round(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    shape = np.interp(np.linspace(0, 12, len(spectrum)), np.arange(13), rng.uniform(0.1, 1, 13))
    swell = np.interp(np.linspace(0, 8, size), np.arange(9), rng.uniform(0.2, 1, 9))
    made = np.fft.irfft(spectrum * shape, size) * swell
    return 0.5 * made / np.abs(made).max()


@dataclasses.dataclass
class Folder:
    """Recordings and the CSV that lists them: 12 clips of each class, in 3 folds."""

    path: Path
    rows: list[dict[str, object]]

    def add(
        self,
        name: str,
        samples: np.ndarray,
        label: str = CLASSES[0],
        fold: int = 1,
        group: str = "",
        rate: int = RATE,
        **how: str,
    ) -> Path:
        """Writes a recording and lists it, in place of one of that name."""
        soundfile.write(self.path / name, samples, rate, **how)
        self.rows = [row for row in self.rows if row["path"] != name]
        self.rows.append({"path": name, "label": label, "fold": fold, "group": group or name})
        return self.path / name

    def of(self, label: str) -> list[dict[str, object]]:
        return [row for row in self.rows if row["label"] == label]

    def samples(self, place: int) -> np.ndarray:
        return soundfile.read(self.path / str(self.rows[place]["path"]))[0]

    def audit(self) -> dict[str, Finding]:
        """The findings by their code."""
        lines = ["path,label,fold,group"]
        lines += [f"{r['path']},{r['label']},{r['fold']},{r['group']}" for r in self.rows]
        (self.path / "clips.csv").write_text("\n".join(lines) + "\n")
        _, findings = audit(sources.from_folder(self.path / "clips.csv"), threads=1)
        return {finding.code: finding for finding in findings}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path, [])
    for place in range(36):
        label, fold = CLASSES[place % 3], 1 + place // 3 % 3
        made.add(f"{place:02d}.wav", sound(place), label, fold)
    return made
