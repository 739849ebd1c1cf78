"""A store holds what the frontend gives, and comes out the same however often it was killed."""

import dataclasses
import errno
import fcntl
import filecmp
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxsound
from jaxsound.data.audio import resample
from jaxsound.data.dataset import Dataset
from jaxsound.errors import UserError
from jaxsound.features import clip, frontend, store
from jaxsound.features.frontend import FrontendConfig

CLIPS = 11
CONFIG = FrontendConfig(sample_rate=8000, n_fft=256, hop_length=100, n_mels=8, n_mfcc=8)


class Clips(Sequence[dict[str, Any]]):
    """Noise of uneven lengths and rates. Reading clip `dies_at` calls `how`."""

    def __init__(self, dies_at: int = -1, how: Any = None) -> None:
        self.dies_at, self.how = dies_at, how
        self.read: list[int] = []

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= CLIPS:
            raise IndexError(index)
        self.read.append(index)
        if index == self.dies_at:
            self.how()
        rng = np.random.default_rng(index)
        samples = int(rng.integers(1, 20_000)) if index else 0
        return {
            "clip_id": "clip é" + "x" * index,
            "audio": rng.integers(-9000, 9000, samples).astype(np.int16),
            "sample_rate": np.int64((8000, 11025, 4000)[index % 3]),
            "label": np.int64(index % 3),
            "group": str(index // 2),
            "fold": index % 4,
        }


def dataset(clips: Sequence[dict[str, Any]], **changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "noise",
        "class_names": ("a", "b", "ç"),
        "fingerprint": "0" * 32,
        "clips": clips,
        "publisher_folds": False,
        "left_out": ({"clip": "z.wav", "reason": "empty file"},),
        "note": "partial copy: 11 of 12 clips",
        "citation": "@misc{noise}",
        "licence": "CC0",
        "homepage": "",
    }
    return Dataset(**fields | changes)


def prepare(cache: Path, clips: Sequence[dict[str, Any]] | None = None) -> store.Store:
    return store.precompute(dataset(clips or Clips()), CONFIG, cache, progress=False)


def raise_(error: BaseException) -> None:
    raise error


def assert_identical(one: Path, other: Path) -> None:
    names = sorted(os.listdir(one))
    assert names == sorted(os.listdir(other))
    _, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    assert not different
    assert not unreadable


@pytest.fixture(autouse=True)
def commit_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_COMMIT_CLIPS", 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return prepare(tmp_path_factory.mktemp("whole"))


def test_holds_each_clips_own_frames(whole: store.Store) -> None:
    assert len(whole) == CLIPS
    assert isinstance(whole.frames, np.memmap)
    assert whole.frames.dtype == np.float16
    assert whole.frames.shape == (whole.lengths.sum(), CONFIG.features)
    for index, record in enumerate(Clips()):
        waveform = record["audio"].astype(np.float32) / 32768
        waveform = resample(waveform, int(record["sample_rate"]), CONFIG.sample_rate)
        padded = np.pad(waveform, (0, 50_000 - len(waveform)))[None]
        samples = np.array([len(waveform)], np.int32)
        expected = np.asarray(frontend.frontend(CONFIG, padded, samples))[0]
        frames = CONFIG.frames(len(waveform))
        assert whole.lengths[index] == frames
        kept = whole.frames[whole.offsets[index] : whole.offsets[index + 1]]
        np.testing.assert_allclose(kept, expected[:frames], rtol=1e-3, atol=1e-3)
        for column in ("label", "fold", "group", "clip_id"):
            assert getattr(whole, f"{column}s")[index] == record[column]


def test_holds_what_every_option_makes_of_a_clip(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG, excerpt="loudest", seconds=0.5, pad="reflect", resize_frames=9, scale="minmax"
    )
    made = store.precompute(dataset(Clips()), config, tmp_path, progress=False)
    assert (made.lengths == 9).all()
    for frames in made.frames[9:].reshape(-1, 9, config.features):  # the first clip is empty
        assert (frames.min(), frames.max()) == (0, 1)
    assert store.open_store(made.path).frontend == config


def test_tells_where_it_comes_from(whole: store.Store) -> None:
    data = dataset(Clips())
    assert whole.frontend == CONFIG
    assert whole.class_names == data.class_names
    assert whole.publisher_folds is False
    for key in ("name", "fingerprint", "note", "citation", "licence"):
        assert whole.meta[key] == getattr(data, key)
    assert whole.meta["left_out"] == list(data.left_out)
    assert whole.meta["source_rates"] == {"4000": 3, "8000": 4, "11025": 4}
    assert whole.meta["clip_seconds"]["min"] == 0
    lines = (whole.path / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["samples"] for line in lines] == [len(r["audio"]) for r in Clips()]


def test_nothing_on_disk_needs_pickle(whole: store.Store) -> None:
    for file in whole.path.glob("*.npy"):
        np.load(file, mmap_mode="r", allow_pickle=False)
    labels = (whole.labels, whole.folds, whole.offsets)
    assert [array.dtype for array in labels] == [np.int32, np.int32, np.int64]


def test_a_complete_store_is_opened_without_reading_a_clip(whole: store.Store) -> None:
    clips = Clips()
    again = prepare(whole.path.parents[1], clips)
    assert again.path == whole.path
    assert not clips.read
    np.testing.assert_array_equal(again.frames, whole.frames)


@pytest.mark.parametrize("dies_at", [0, 1, 7, 10])
def test_goes_on_where_it_stopped(whole: store.Store, tmp_path: Path, dies_at: int) -> None:
    stopped = UserError("stopped")
    with pytest.raises(UserError, match="stopped"):
        prepare(tmp_path, Clips(dies_at, lambda: raise_(stopped)))
    assert not (tmp_path / "features" / whole.path.name).exists()
    clips = Clips()
    resumed = prepare(tmp_path, clips)
    assert_identical(whole.path, resumed.path)
    assert min(clips.read) == dies_at // 3 * 3  # the last commit before it
    assert sorted(clips.read) == list(range(min(clips.read), CLIPS))
    assert not list(tmp_path.glob("features/*.partial"))


def test_survives_sigkill(whole: store.Store, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(jaxsound.__file__).parents[1])}
    child = subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, timeout=120)
    assert child.returncode == -signal.SIGKILL
    clips = Clips()
    resumed = prepare(tmp_path, clips)
    assert_identical(whole.path, resumed.path)
    assert min(clips.read) > 0


@pytest.mark.parametrize(
    "lost", ["journal", "newline", "frames", "both", "all frames", "whole journal"]
)
def test_survives_torn_writes(whole: store.Store, tmp_path: Path, lost: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, Clips(8, lambda: raise_(KeyboardInterrupt())))
    (partial,) = tmp_path.glob("features/*.partial")
    frames, journal = partial / "frames.npy", partial / "clips.jsonl"
    if lost == "journal":  # a line cut short, as if its frames had been the last thing written
        os.truncate(journal, journal.stat().st_size - 5)
    if lost == "newline":
        os.truncate(journal, journal.stat().st_size - 1)
    if lost == "frames":  # what a power cut may leave: the journal is ahead
        os.truncate(frames, frames.stat().st_size - 5)
    if lost == "both":
        frames.write_bytes(frames.read_bytes() + b"half a clip")
        journal.write_bytes(journal.read_bytes() + b'{"label": 1, "fr')
    if lost == "all frames":
        frames.unlink()
    if lost == "whole journal":
        journal.unlink()
    assert_identical(whole.path, prepare(tmp_path).path)


def test_killed_just_before_the_renaming(
    whole: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: raise_(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path)
    clips = Clips()
    assert_identical(whole.path, prepare(tmp_path, clips).path)
    assert not clips.read


def test_every_setting_has_its_own_store() -> None:
    changed = {
        "kind": "mfcc",
        "sample_rate": 16000,
        "excerpt": "loudest",
        "seconds": 0.2,
        "pad": "reflect",
        "ends": "reflect",
        "n_fft": 512,
        "win_length": 200,
        "hop_length": 101,
        "n_mels": 9,
        "fmin": 51.0,
        "fmax": 3999.0,
        "htk": True,
        "norm": "",
        "power": 1.0,
        "ref": "max",
        "amin": 1e-9,
        "top_db": 0.0,
        "n_mfcc": 7,
        "delta": 1,
        "resize_frames": 6,
        "resize_bins": 7,
        "scale": "minmax",
        "dtype": "float32",
    }
    assert set(changed) == {field.name for field in dataclasses.fields(FrontendConfig)}
    base = dataclasses.replace(CONFIG, seconds=0.1)
    configs = [base, *(dataclasses.replace(base, **{k: v}) for k, v in changed.items())]
    keys = {store._key("0" * 32, config) for config in configs}
    keys.add(store._key("1" * 32, base))
    assert len(keys) == len(changed) + 2


def test_a_store_of_before_there_was_a_choice_of_ends_is_still_found(
    whole: store.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read and hashed then had no such field."""
    assert "ends" not in json.loads((whole.path / "store.json").read_text())["frontend"]
    hashed: list[dict[str, Any]] = []
    dumps = json.dumps
    monkeypatch.setattr(
        json, "dumps", lambda parts, **kw: hashed.append(parts) or dumps(parts, **kw)
    )
    store._key("0" * 32, CONFIG)
    store._key("0" * 32, dataclasses.replace(CONFIG, ends="reflect"))
    assert ["ends" in parts["frontend"] for parts in hashed] == [False, True]


def test_versions_that_change_numbers_have_their_own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    before = store._key("0" * 32, CONFIG)
    for module, name in ((store, "FORMAT"), (frontend, "VERSION")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 99)
            assert store._key("0" * 32, CONFIG) != before


def test_two_processes_wait_for_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "features" / (store._key("0" * 32, CONFIG) + ".lock")
    lock.parent.mkdir()
    clips = Clips()
    second = threading.Thread(target=prepare, args=(tmp_path, clips))
    with lock.open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
        assert not clips.read
    second.join(timeout=60)
    assert not second.is_alive()
    assert len(clips.read) == CLIPS
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("waiting for another process")


def test_the_one_that_waited_opens_what_the_other_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = store._locked

    def made_meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(store, "_locked", taken)
        prepare(tmp_path)
        return taken(*args)

    monkeypatch.setattr(store, "_locked", made_meanwhile)
    clips = Clips()
    assert len(prepare(tmp_path, clips)) == CLIPS
    assert not clips.read


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file.*data\.cache_dir") as error:
        prepare(tmp_path / "file")
    assert "\n" not in str(error.value)


def test_a_full_disk_is_one_line_and_loses_nothing(
    whole: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = store._sync
    calls = iter(range(100))

    def full(file: Any) -> None:
        if next(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(file)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_sync", full)
        with pytest.raises(UserError, match=r"No space left on device.*data\.cache_dir"):
            prepare(tmp_path)
    clips = Clips()
    assert_identical(whole.path, prepare(tmp_path, clips).path)
    assert min(clips.read) == 6


def test_a_broken_clip_keeps_its_own_message(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="tape tore"):
        prepare(tmp_path, Clips(4, lambda: raise_(OSError("tape tore"))))


def test_no_clips_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="noise has no clips"):
        store.precompute(dataset(()), CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("frames.npy", lambda path: os.truncate(path, path.stat().st_size - 1)),
        ("frames.npy", lambda path: os.truncate(path, 10)),
        ("labels.npy", lambda path: os.truncate(path, path.stat().st_size - 1)),
        ("offsets.npy", lambda path: path.write_bytes(b"")),
        ("folds.npy", lambda path: path.unlink()),
        ("store.json", lambda path: path.write_text("{")),
        ("store.json", lambda path: path.write_text('{"format": 99}')),
    ],
)
def test_a_broken_store_says_which_file_and_what_would_do(
    tmp_path: Path, file: str, change: Any
) -> None:
    path = prepare(tmp_path).path
    change(path / file)
    with pytest.raises(UserError, match=rf"{path.name}.*delete it to prepare again") as error:
        prepare(tmp_path)
    assert "\n" not in str(error.value)
    assert file in str(error.value)


def test_no_store_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no feature store at"):
        store.open_store(tmp_path / "absent")


def test_rows_may_be_appended_under_one_header() -> None:
    sizes = {len(store._header(CONFIG, rows)) for rows in (0, 1, 10**6, 2**62)}
    assert len(sizes) == 1


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_few_padded_lengths_and_little_padding(rate: int) -> None:
    config = FrontendConfig(sample_rate=rate, fmax=0.0)
    samples = np.arange(rate // 10, 30 * rate, 997)
    lengths = np.array([clip.bucket(int(n), config) for n in samples])
    assert (lengths >= samples).all()
    assert (samples[samples > rate] > 0.74 * lengths[samples > rate]).all()
    assert len(set(lengths.tolist())) <= 16
    for seconds in (1, 4, 5):
        assert clip.bucket(seconds * rate, config) == seconds * rate


if __name__ == "__main__":
    store._COMMIT_CLIPS = 1
    prepare(Path(sys.argv[1]), Clips(8, lambda: os.kill(os.getpid(), signal.SIGKILL)))
