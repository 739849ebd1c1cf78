"""Every kind of bad recording has the outcome that docs/recordings.md gives it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxsound.data import audio, container
from tests.data import bad_recordings
from tests.data.bad_recordings import KINDS

ROOT = Path(__file__).parents[2]
BROKEN = ("half", "float_nan", "rate_1", "text", "dangling", "pipe", "empty")


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.slow], ids=lambda kind: kind.name
)
def test_the_outcome_is_the_documented_one(kind: bad_recordings.Kind, tmp_path: Path) -> None:
    if kind.unreadable and not hasattr(os, "geteuid"):
        pytest.skip("this system has no users to be another of")
    found = bad_recordings.read(kind, tmp_path)
    assert bad_recordings.plain(found.words) == kind.outcome
    if found.words != "used":
        assert found.named == str(found.path)
        assert found.line == f"{audio.printable(found.path)}: {found.words}"
        assert found.line.isprintable()


def test_there_are_enough_kinds_with_names_of_their_own() -> None:
    assert len(KINDS) >= 60
    assert len({kind.name for kind in KINDS}) == len({kind.what for kind in KINDS}) == len(KINDS)


def test_the_page_has_the_table_and_the_limits() -> None:
    page = bad_recordings.PAGE.read_text(encoding="utf-8")
    assert bad_recordings.table() in page, "python -m tests.data.bad_recordings --write"
    for number in (
        *(
            f"{audio.MIN_RATE // 1000} to {audio.MAX_RATE // 1000} kHz",
            f"{audio.MAX_CHANNELS} chan",
        ),
        *(f"{audio.MAX_EXPANSION} times", f"{audio.FREE_EXPANSION // 2**20} MiB"),
    ):
        assert number in page
    for name in container.FORMATS | container.SUBTYPES:
        assert f"`{name}`" in page


def test_none_of_them_takes_much_memory() -> None:
    """Nor has another outcome; in a process of its own, whose peak is theirs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.data.bad_recordings"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(KINDS)} kinds:" in done.stdout


def broken_set(folder: Path) -> list[str]:
    """160 clips of two classes, of which 8, a twentieth, are broken; returns their names."""
    rng = np.random.default_rng(0)
    for label, pitch in (("low", 0.1), ("high", 0.5)):
        (folder / label).mkdir(parents=True)
        for i in range(76):
            tone = np.sin(pitch * np.arange(800)) + rng.normal(scale=0.05, size=800)
            soundfile.write(folder / label / f"{i:02}.wav", 0.4 * tone, 8000)
    broken = [kind for kind in KINDS if kind.name in BROKEN]
    for i, kind in enumerate(broken):
        place = folder.parent / "kinds" / kind.name
        place.mkdir(parents=True)
        made = kind.make(place)
        shutil.move(made, folder / ("low", "high")[i % 2] / f"{kind.name}.wav")
    (folder / "low" / os.fsdecode(b"\xff.wav")).write_bytes(b"no sound")
    return [*(kind.name + ".wav" for kind in broken), r"\xff.wav"]


def test_a_twentieth_broken_is_listed_whole_and_the_run_ends(tmp_path: Path, cache: Path) -> None:
    broken = broken_set(tmp_path / "clips")
    assert len(broken) == 8
    command = [
        *(sys.executable, "-m", "jaxsound.main", "--config=configs/audio_folder_cnn.py"),
        f"--config.data.manual_dir={tmp_path / 'clips'}",
        *("--config.epochs=1", "--config.folds=(1,)", "--config.model.channels=(4,)"),
        *("--config.frontend.n_mels=8", "--config.data.crop_seconds=0.0", "--config.model.convs=1"),
    ]
    runs = {
        choice: subprocess.run(
            [*command, f"--config.data.on_bad={choice}", f"--workdir={tmp_path / choice}"],
            cwd=ROOT,
            env=os.environ | {"JAXSOUND_CACHE": str(cache)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        for choice in ("stop", "skip")
    }
    assert runs["stop"].returncode == 2
    assert "error: 8 of 160 recordings are broken" in runs["stop"].stderr
    assert "Traceback" not in runs["stop"].stderr
    assert not (tmp_path / "stop").exists()

    assert runs["skip"].returncode == 0, runs["skip"].stderr
    result = json.loads((tmp_path / "skip" / "crossval.json").read_text())
    left_out = {clip["clip"].partition("/")[2]: clip["reason"] for clip in result["clips_left_out"]}
    assert sorted(left_out) == sorted(broken)
    page = (tmp_path / "skip" / "report.html").read_text(encoding="utf-8")
    for name, reason in left_out.items():
        assert name in page
        assert f"{name}: {reason}" in runs["stop"].stderr
