"""The command: what it takes, what it prints, and how it ends."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import jaxsound
from jaxsound import predict
from tests.serving.conftest import NAMES, RATE, sound


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings of several formats, rates, lengths and channels, one of them broken."""
    folder = tmp_path / "recordings"
    (folder / "below").mkdir(parents=True)
    soundfile.write(folder / "a.wav", sound(1.0), RATE)
    soundfile.write(folder / "b.flac", sound(3.0, 22050), 22050)
    stereo = np.stack([sound(1.5, 96000)] * 2, 1)
    soundfile.write(folder / "below" / "a.ogg", stereo, 96000)
    (folder / "broken.mp3").write_bytes(b"no sound")
    (folder / "notes.txt").write_text("no sound either")
    return folder


def said(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = predict.main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_folder(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, run, folder, "--top=2")
    assert status == 1  # for the broken one, which is named once
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        str(folder / name) for name in ("a.wav", "b.flac", "below/a.ogg")
    ]
    assert all(line.count(" %") == 2 for line in out.splitlines())
    assert sum("broken.mp3: " in line for line in err.splitlines()) == 1
    assert "Traceback" not in err


def test_probabilities_are_those_of_the_library(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = said(capsys, run, folder / "b.flac", "--format=json", "--timeline", "--top=9")
    (found,) = json.loads(out)
    expected = jaxsound.load(run).predict(folder / "b.flac")
    assert status == 0
    assert [(c["class"], c["probability"]) for c in found["classes"]] == [
        (name, pytest.approx(p, abs=1e-5)) for name, p in expected.top(9)
    ]
    assert {c["class"] for c in found["classes"]} == set(NAMES)
    assert len(found["timeline"]) == len(expected.timeline())


def test_standard_input(run: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "jaxsound.predict", str(run / "fold_1"), "-", "--format=csv"]
    done = subprocess.run(command, input=(folder / "b.flac").read_bytes(), capture_output=True)
    (row,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert done.returncode == 0, done.stderr.decode()
    assert row["path"] == "-"
    assert float(row["seconds"]) == 3.0
    assert row["class_1"] in NAMES


def test_a_reader_that_has_seen_enough(run: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "jaxsound.predict", str(run), *[str(folder / "a.wav")] * 3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 0
    assert "error" not in said.lower()


def test_files_that_are_written(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, embeddings = tmp_path / "out", tmp_path / "e.npz"
    pattern = str(folder / "**" / "a.*")
    said(capsys, run, pattern, f"--plot={out}", f"--labels={out}", f"--embed={embeddings}")
    names = {"a.png", "a_2.png", "a.txt", "a_2.txt"}
    assert {path.name for path in out.iterdir()} == names
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in names if "png" in name)
    with np.load(embeddings) as found:
        assert found["paths"].tolist() == [
            str(folder / "a.wav"),
            str(folder / "below" / "a.ogg"),
        ]
        expected = jaxsound.load(run).embed(folder / "a.wav")
        np.testing.assert_allclose(found["embeddings"][0], expected, atol=1e-5)
        assert found["embeddings"].shape == (2, len(expected))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nowhere", "a.wav"), "nowhere"),
        (("RUN", "nothing*.wav"), "matches no file"),
        (("RUN", "EMPTY"), "no wav, flac, ogg or mp3"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    args: tuple[str, str],
    says: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": str(run), "EMPTY": str(tmp_path)}
    status, out, err = said(capsys, *(places.get(arg, arg) for arg in args))
    assert status == 2
    assert not out
    assert err.count("\n") == 1
    assert says in err


def test_a_missing_file_is_named_and_the_others_go_on(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, run, folder / "none.wav", folder / "a.wav")
    assert status == 1
    assert "none.wav: no such file" in err
    assert out.startswith(str(folder / "a.wav"))
