"""The builders, on real recordings in their publishers' layouts and on copies with faults."""

import csv
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from jaxsound.data import dataset, folds
from jaxsound.data.dataset import prepare
from jaxsound.errors import UserError

Make = Callable[..., SimpleNamespace]
Write = Callable[..., Path]


def table(data: dataset.Dataset) -> SimpleNamespace:
    records = list(data.clips)
    return SimpleNamespace(
        labels=np.array([record["label"] for record in records]),
        folds=np.array([record["fold"] for record in records]),
        groups=np.array([record["group"] for record in records]),
        publisher_folds=data.publisher_folds,
    )


def refused(data: SimpleNamespace, words: str) -> str:
    with pytest.raises(UserError, match=words) as error:
        prepare(data)
    assert not list(Path(data.cache_dir).rglob("dataset_info.json"))
    assert not list(Path(data.cache_dir).rglob("incomplete*"))
    return str(error.value)


def test_esc10_is_whole(recordings: Path, options: Make) -> None:
    data = prepare(options("esc50", manual_dir=str(recordings / "ESC-50-master"), subset="esc10"))
    clips = table(data)
    assert len(data.clips) == 400
    assert data.note == ""
    assert data.left_out == ()
    assert data.class_names[:3] == ("dog", "rooster", "rain")  # targets 0, 1, 10
    assert np.bincount(clips.labels).tolist() == [40] * 10
    assert Counter(clips.folds.tolist()) == dict.fromkeys(range(1, 6), 80)
    assert data.publisher_folds
    assert "Piczak" in data.citation
    assert "NC" in data.licence
    record = data.clips[-1]
    samples, rate = soundfile.read(
        recordings / "ESC-50-master/audio" / record["clip_id"], dtype="int16"
    )
    assert record["sample_rate"] == rate == 44_100
    assert record["audio"].dtype == np.int16
    np.testing.assert_array_equal(record["audio"], samples)
    assert record["group"] == record["clip_id"].split("-")[1]


def test_nothing_is_left_in_the_systems_temporary_folder(
    options: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    prepare(options("synthetic"))
    assert not list(temporary.iterdir())


def test_the_parent_folder_will_do_and_gives_the_same(recordings: Path, options: Make) -> None:
    inside = options("esc50", manual_dir=str(recordings / "ESC-50-master"), subset="esc10")
    above = options("esc50", manual_dir=str(recordings), subset="esc10")
    assert prepare(inside).fingerprint == prepare(above).fingerprint


def test_urbansound8k_in_part(recordings: Path, options: Make) -> None:
    message = refused(options("urbansound8k", manual_dir=str(recordings)), "not whole: 440 of")
    assert "8292 not listed" in message
    assert "--config.data.partial=True" in message
    data = prepare(options("urbansound8k", manual_dir=str(recordings), partial=True))
    assert data.note == "partial copy: 440 of 8732 clips"
    assert len(data.class_names) == 10
    assert data.class_names[3] == "dog_bark"
    with (recordings / "UrbanSound8K/metadata/UrbanSound8K.csv").open() as file:
        rows = {f"fold{row['fold']}/{row['slice_file_name']}": row for row in csv.DictReader(file)}
    assert {record["clip_id"] for record in data.clips} == set(rows)
    for record in data.clips:
        row = rows[record["clip_id"]]
        assert (record["label"], record["fold"]) == (int(row["classID"]), int(row["fold"]))
        assert record["group"] == row["fsID"]
    clips = table(data)
    assert folds.split(clips, 3).crossings == folds.crossings(
        clips.labels, clips.folds, clips.groups
    )


def test_kaggle_without_a_test_part_gets_stratified_folds(recordings: Path, options: Make) -> None:
    refused(options("fsdkaggle2018", manual_dir=str(recordings)), "118 of FSDKaggle2018's 11073")
    data = prepare(options("fsdkaggle2018", manual_dir=str(recordings), partial=True, make_folds=4))
    clips = table(data)
    assert not data.publisher_folds
    assert set(clips.folds) == {1, 2, 3, 4}
    assert list(data.class_names) == sorted(data.class_names)
    assert len(data.class_names) == 10
    assert data.note.startswith("partial copy: 118 of 11073 clips")
    assert Counter(clips.groups.tolist()).most_common(1)[0][1] == 1
    assert sorted({record["manually_verified"] for record in data.clips}) == [0, 1]


KAGGLE = ("train.csv", "audio_train", "test_post_competition.csv", "audio_test")
ZENODO = (
    "FSDKaggle2018.meta/train_post_competition.csv",
    "FSDKaggle2018.audio_train",
    "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv",
    "FSDKaggle2018.audio_test",
)


@pytest.mark.parametrize("layout", [KAGGLE, ZENODO])
def test_official_parts_of_fsdkaggle2018(
    tmp_path: Path, options: Make, write: Write, layout: tuple[str, ...]
) -> None:
    train_csv, train_audio, test_csv, test_audio = (tmp_path / "fsd" / name for name in layout)
    for path in (train_csv, test_csv):
        path.parent.mkdir(parents=True, exist_ok=True)
    train_csv.write_text("fname,label,manually_verified\na.wav,Oboe,1\nb.wav,Bark,0\nc.wav,Oboe,0")
    test_csv.write_text(
        "fname,label,usage,freesound_id,license\n"
        "d.wav,Bark,Public,1,x\ne.wav,Oboe,Private,2,x\nf.wav,Oboe,Ignored,3,x"
    )
    for seed, name in enumerate("abc"):
        write(train_audio / f"{name}.wav", seed=seed)
    for seed, name in enumerate("def"):
        write(test_audio / f"{name}.wav", seed=10 + seed)
    data = prepare(options("fsdkaggle2018", manual_dir=str(tmp_path / "fsd"), partial=True))
    assert data.publisher_folds
    assert data.class_names == ("Bark", "Oboe")
    found = {record["clip_id"]: (record["label"], record["fold"]) for record in data.clips}
    assert found == {
        "a.wav": (1, 0), "b.wav": (0, 0), "c.wav": (1, 0), "d.wav": (0, 1), "e.wav": (1, 1)
    }  # fmt: skip
    assert [record["manually_verified"] for record in data.clips] == [1, 0, 0, 1, 1]
    assert folds.split(table(data), 1, validation=0.0).test.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "esc51"}, "data.name='esc51' is not known; there are esc50"),
        ({"name": "esc50", "manual_dir": "/nowhere/at/all"}, "/nowhere/at/all: no such folder"),
        ({"name": "fsdkaggle2018", "manual_dir": "/nowhere/at/all"}, "no such folder"),
        ({"name": "urbansound8k", "subset": "esc10"}, "subset='esc10' is not in urbansound8k"),
        ({"name": "synthetic", "on_bad": "cry"}, "on_bad='cry' is not known"),
        ({"name": "audio_folder"}, "manual_dir is empty"),
    ],
)
def test_impossible_options(options: Make, changes: dict[str, Any], words: str) -> None:
    assert "\n" not in refused(options(**changes), words)


@pytest.mark.parametrize("name", ["esc50", "urbansound8k", "fsdkaggle2018"])
def test_a_folder_of_something_else(tmp_path: Path, options: Make, name: str) -> None:
    (tmp_path / "holidays").mkdir()
    message = refused(options(name, manual_dir=str(tmp_path / "holidays")), "holidays")
    assert "give the folder that" in message
    assert "\n" not in message


@pytest.fixture
def small_esc50(recordings: Path, tmp_path: Path) -> Path:
    """Thirty ESC-10 clips of folds 1-3 in a folder of the test's own."""
    source, root = recordings / "ESC-50-master", tmp_path / "small"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    with (source / "meta/esc50.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] in "123"]
    rows = [row for i, row in enumerate(rows) if i % 8 == 0]
    with (root / "meta/esc50.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(source / "audio" / row["filename"], root / "audio")
    return root


def test_missing_files_are_named_or_left_out(small_esc50: Path, options: Make) -> None:
    gone = sorted((small_esc50 / "audio").iterdir())[3]
    gone.unlink()
    message = refused(options("esc50", manual_dir=str(small_esc50)), "1970 not listed")
    assert f"1 listed but missing, first {gone.name}" in message
    data = prepare(options("esc50", manual_dir=str(small_esc50), partial=True))
    assert data.left_out == ({"clip": gone.name, "reason": "listed, but missing on disk"},)
    assert data.note == "partial copy: 29 of 2000 clips"
    assert len(data.clips) == 29


def test_broken_recordings_stop_or_are_listed(small_esc50: Path, options: Make) -> None:
    cut, empty = sorted((small_esc50 / "audio").iterdir())[5:7]
    cut.write_bytes(cut.read_bytes()[:1000])
    empty.write_bytes(b"")
    data = options("esc50", manual_dir=str(small_esc50), partial=True)
    message = refused(data, "2 of 30 recordings are broken").splitlines()
    assert "--config.data.on_bad=skip" in message[0]
    assert [line.split(": ")[0].strip() for line in message[1:]] == [cut.name, empty.name]
    data.on_bad = "skip"
    kept = prepare(data)
    assert len(kept.clips) == 28
    assert [(left["clip"], left["reason"][:9]) for left in kept.left_out] == [
        (cut.name, "truncated"),
        (empty.name, "empty fil"),
    ]
    assert prepare(data).left_out == kept.left_out  # and when opened again


def test_a_class_that_is_broken_throughout_is_refused(folder: Path, options: Make) -> None:
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"")
    data = options("audio_folder", manual_dir=str(folder), make_folds=2, on_bad="skip")
    refused(data, "every recording of class 'dog' is broken")


def test_the_second_time_opens_what_is_there(
    folder: Path, options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = options("audio_folder", manual_dir=str(folder), make_folds=2)
    first = prepare(data)

    def decode(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("jaxsound.data.audio._open", decode)
    second = prepare(data)
    assert first.fingerprint == second.fingerprint
    assert len(first.clips) == len(second.clips)
    for one, other in zip(first.clips, second.clips, strict=True):
        np.testing.assert_array_equal(one.pop("audio"), other.pop("audio"))
        assert one == other


def test_a_changed_file_is_never_read_from_a_stale_copy(
    folder: Path, options: Make, write: Write
) -> None:
    data = options("audio_folder", manual_dir=str(folder), make_folds=2)
    before = prepare(data)
    write(folder / "cat/0.wav", seed=99)
    after = prepare(data)
    assert before.fingerprint != after.fingerprint
    old, new = ({clip["clip_id"]: clip["audio"] for clip in data.clips} for data in (before, after))
    assert [name for name in old if (old[name] != new[name]).any()] == ["cat/0.wav"]
    write(folder / "cat/new.wav")
    assert prepare(data).fingerprint not in (before.fingerprint, after.fingerprint)


def test_options_that_shape_the_data_shape_the_fingerprint(folder: Path, options: Make) -> None:
    base = {"manual_dir": str(folder), "make_folds": 2}
    changes: list[dict[str, Any]] = [{}, {"make_folds": 3}, {"on_bad": "skip"}, {"partial": True}]
    prints = [prepare(options("audio_folder", **(base | change))).fingerprint for change in changes]
    assert len(set(prints)) == len(changes)


def test_a_killed_preparation_leaves_nothing_that_looks_complete(
    folder: Path, options: Make
) -> None:
    data = options("audio_folder", manual_dir=str(folder), make_folds=2)
    program = f"""
import os, types
from jaxsound.data import builder, dataset
read, calls = builder.Clip.read, []
def die(clip):
    calls.append(clip)
    if len(calls) == 7:
        os.kill(os.getpid(), 9)
    return read(clip)
builder.Clip.read = die
dataset.prepare(types.SimpleNamespace(**{vars(data)!r}))
"""
    root = Path(dataset.__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    cache = Path(data.cache_dir)
    assert list(cache.rglob("incomplete*"))
    assert not list(cache.rglob("dataset_info.json"))
    assert len(prepare(data).clips) == 10
    assert not list(cache.rglob("incomplete*")), "the killed run's leavings are still there"


def test_only_our_bars_are_shown_and_tensorflow_is_not_needed(folder: Path, options: Make) -> None:
    data = options("audio_folder", manual_dir=str(folder), make_folds=2)
    program = f"""
import sys, types
from jaxsound.data import dataset
print(len(dataset.prepare(types.SimpleNamespace(**{vars(data)!r})).clips))
print("tensorflow" in sys.modules)
"""
    root = Path(dataset.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == ["10", "False"], done.stderr
    for line in done.stderr.replace("\r", "\n").split("\n"):
        assert line.strip() == "" or line.startswith(("checking", "writing")), line
