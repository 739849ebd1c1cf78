"""The command: what it prints, its exit statuses, and mistakes in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from jaxsound.audit import __main__ as command
from tests.audit.conftest import CLASSES, RATE, sound

ROOT = Path(__file__).parents[2]


def run(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaxsound.audit", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAXSOUND_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A folder per class, ten clips of half a second in each."""
    for number, name in enumerate(CLASSES):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(10):
            path = tmp_path / "clips" / name / f"{i}.wav"
            soundfile.write(path, sound(100 * number + i, 0.5), RATE)
    return tmp_path / "clips"


def test_exit_statuses_and_outputs(classes: Path, cache: Path, tmp_path: Path) -> None:
    clean = run(cache, str(classes), f"--json={tmp_path / 'clean.json'}")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "nothing that would invalidate a result" in clean.stdout
    assert json.loads((tmp_path / "clean.json").read_text())["valid"] is True

    drum = classes / CLASSES[0] / "0.wav"
    (classes / CLASSES[2] / "other.wav").write_bytes(drum.read_bytes())
    spoilt = run(
        cache,
        f"--config={ROOT}/configs/audio_folder_cnn.py",
        "--json=-",
        f"--config.data.manual_dir={classes}",
        "--threads=1",
    )
    assert spoilt.returncode == 1, spoilt.stdout + spoilt.stderr
    found = json.loads(spoilt.stdout)
    assert found["valid"] is False
    assert found["findings"][0]["code"] == "same_sound_two_labels"
    labels = {found["findings"][0]["details"][0][which]["label"] for which in ("first", "second")}
    assert labels == {CLASSES[0], CLASSES[2]}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--config=FILE or one folder"),
        (["/none"], "/none"),
        (["/none", "/nor/this"], "one folder"),
        (["/none", "--threads=0"], "threads"),
        (["/none", "--jsno=x"], "jsno"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command.flags.FLAGS.unparse_flags()
    assert command.main(["audit", *arguments]) == 2
    out, error = capsys.readouterr()
    assert named in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not out


def test_a_config_that_does_not_exist_is_one_line(cache: Path) -> None:
    done = run(cache, "--config=configs/none.py")
    assert done.returncode == 2
    assert "configs/none.py" in done.stderr
    assert "Traceback" not in done.stderr
