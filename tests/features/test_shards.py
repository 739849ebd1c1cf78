"""Pieces made anywhere, in any order, are the store that one machine makes, byte for byte."""

import filecmp
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import jaxsound
from jaxsound import places
from jaxsound.data import dataset
from jaxsound.errors import UserError
from jaxsound.features import shards, store
from jaxsound.features.frontend import FrontendConfig

CONFIG = FrontendConfig(sample_rate=8000, n_fft=256, hop_length=100, n_mels=8, n_mfcc=8)
BROKEN = ("c/c7.wav", "a/a1.wav", "b/b0.wav")
SIZE = 4  # clips of a piece


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of nine clips of uneven lengths and rates, of which three are broken."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for name in "abc":
        (folder / name).mkdir()
        for number in range(9):
            rate = (8000, 11025, 16000)[number % 3]
            noise = rng.integers(-9000, 9000, int(rng.integers(800, 9000))).astype(np.int16)
            soundfile.write(folder / name / f"{name}{number}.wav", noise, rate)
    for name in BROKEN:
        (folder / name).write_bytes(b"RIFF and nothing")
    return folder


@pytest.fixture
def data(recordings: Path, tmp_path: Path) -> Callable[..., Any]:
    def make(cache: str, **changes: Any) -> Any:
        keys = {
            "name": "audio_folder",
            "manual_dir": str(recordings),
            "cache_dir": str(tmp_path / cache),
            "subset": "",
            "partial": False,
            "on_bad": "skip",
            "make_folds": 3,
        }
        return types.SimpleNamespace(**keys | changes)

    return make


def local(data: Any) -> store.Store:
    prepared = dataset.prepare(data)
    return store.precompute(prepared, CONFIG, Path(data.cache_dir), progress=False)


def in_pieces(data: Any, folder: str, numbers: Callable[[int], Any] = range) -> store.Store:
    source = dataset.find(data)
    assert source.listing is not None
    count = shards.lay_out(folder, source.listing.clips, SIZE)
    for number in numbers(count):
        shards.make(folder, CONFIG, number)
    return shards.gather(folder, count, source, data.name, CONFIG, Path(data.cache_dir))


def assert_identical(one: Path, other: Path) -> None:
    names = sorted(os.listdir(one))
    assert one.name == other.name
    assert names == sorted(os.listdir(other))
    _, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    assert not different
    assert not unreadable


@pytest.mark.parametrize("place", ["path", "address"])
def test_every_file_is_the_same(data: Callable[..., Any], tmp_path: Path, place: str) -> None:
    folder = str(tmp_path / "work") if place == "path" else f"memory://{tmp_path.name}/work"
    backwards = in_pieces(data("pieces"), folder, lambda count: reversed(range(count)))
    whole = local(data("whole"))
    assert_identical(whole.path, backwards.path)
    assert len(whole) == 24
    assert [report["clip"] for report in whole.meta["left_out"]] == sorted(BROKEN)
    assert whole.path.parents[1] != backwards.path.parents[1]


def test_the_synthetic_set_is_the_same(data: Callable[..., Any], tmp_path: Path) -> None:
    """Its clips are computed and not read, and are of another kind."""
    source = dataset.find(data("pieces", name="synthetic", manual_dir=""))
    assert source.listing is not None
    clips = source.listing.clips[::80]
    folder = str(tmp_path / "work")
    count = shards.lay_out(folder, clips, 2)
    read = [clip for number in range(count) for clip in shards._clips(folder, number)]
    assert [index for index, *_ in read] == sorted(range(len(clips)), key=lambda i: clips[i].fold)
    assert all(clip == clips[index] for index, clip, _ in read)


def test_workers_fetch_recordings_from_an_address(
    data: Callable[..., Any], recordings: Path, tmp_path: Path
) -> None:
    """The copy here, of which the listing was made, is not there on other machines."""
    address = f"memory://{tmp_path.name}/recordings"
    for file in recordings.rglob("*.wav"):
        places.write(f"{address}/{file.relative_to(recordings).as_posix()}", file.read_bytes())
    far = data("pieces", manual_dir=address)
    source, folder = dataset.find(far), str(tmp_path / "work")
    root = places.local(address, Path(far.cache_dir))
    assert source.listing is not None
    count = shards.lay_out(folder, source.listing.clips, SIZE, root, address)
    root.rename(tmp_path / "elsewhere")
    for number in range(count):
        shards.make(folder, CONFIG, number)
    made = shards.gather(folder, count, source, far.name, CONFIG, Path(far.cache_dir))
    (tmp_path / "elsewhere").rename(root)
    assert_identical(local(data("whole", manual_dir=str(root))).path, made.path)


def test_what_is_made_is_not_made_again(
    data: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "work")
    source = dataset.find(data("pieces"))
    assert source.listing is not None
    shards.lay_out(folder, source.listing.clips, SIZE)
    for number in (0, 3):
        shards.make(folder, CONFIG, number)
    made = []
    transform = shards.transform

    def counted(frontend: FrontendConfig, record: Any) -> Any:
        made.append(record["clip_id"])
        return transform(frontend, record)

    monkeypatch.setattr(shards, "transform", counted)
    again = in_pieces(data("pieces"), folder)
    assert len(made) < len(again)
    assert not set(made) & {clip for number in (0, 3) for clip in lines_of(folder, number)}
    assert_identical(local(data("whole")).path, again.path)


def lines_of(folder: str, number: int) -> list[str]:
    return [line["clip_id"] for line in shards._part(folder, number)["lines"]]


def test_broken_recordings_stop_it_with_the_same_words(
    data: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as here:
        local(data("whole", on_bad="stop"))
    with pytest.raises(UserError) as there:
        in_pieces(data("pieces", on_bad="stop"), str(tmp_path / "work"))
    assert str(here.value) == str(there.value)
    assert "3 of 27 recordings are broken" in str(here.value)


def test_a_damaged_piece_is_named(data: Callable[..., Any], tmp_path: Path) -> None:
    folder = str(tmp_path / "work")

    def cut(count: int) -> Any:
        yield from range(count)
        part = Path(folder, "part-000002.frames")
        part.write_bytes(part.read_bytes()[:-1])

    with pytest.raises(UserError, match=r"part-000002\.frames is damaged: delete .*work"):
        in_pieces(data("pieces"), folder, cut)
    Path(folder, "part-000002.frames").unlink()
    Path(folder, "part-000002.json").unlink()
    assert_identical(local(data("whole")).path, in_pieces(data("pieces"), folder).path)


def beam(*args: str) -> subprocess.CompletedProcess[str]:
    root = Path(jaxsound.__file__).parents[1]
    config = f"--config={root / 'configs' / 'audio_folder_cnn.py'}"
    return subprocess.run(
        [sys.executable, "-m", "jaxsound.features.beam", config, *args],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def flags_of(data: Any) -> list[str]:
    small = ("sample_rate", "n_fft", "hop_length", "n_mels", "n_mfcc")
    return [
        *(f"--config.data.{key}={value}" for key, value in vars(data).items()),
        *(f"--config.frontend.{key}={getattr(CONFIG, key)}" for key in small),
        f"--config.frontend.fmax={CONFIG.fmax}",
    ]


# TFDS under protobuf 6, which Beam holds back.
@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_beam_makes_the_same_store(data: Callable[..., Any], tmp_path: Path, workers: int) -> None:
    if importlib.util.find_spec("apache_beam") is None:
        pytest.skip("Apache Beam is not installed: pip install 'jaxsound[beam]'")
    runner = ["--runner=DirectRunner", f"--direct_num_workers={workers}"]
    runner += ["--direct_running_mode=multi_processing"] if workers > 1 else []
    work = tmp_path / "work"
    made = data("beam")
    done = beam(*flags_of(made), f"--work={work}", f"--clips={SIZE}", "--", *runner)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("24 clips, 3 left out: ")
    whole = local(data("whole"))
    assert_identical(whole.path, Path(made.cache_dir) / "features" / whole.path.name)
    assert not list(work.iterdir())
    again = beam(*flags_of(made))
    assert again.stdout == done.stdout  # it is there: nothing runs


def test_beam_that_is_missing_is_one_line(data: Callable[..., Any]) -> None:
    if importlib.util.find_spec("apache_beam") is not None:
        pytest.skip("Apache Beam is installed")
    done = beam(*flags_of(data("beam")))
    assert done.returncode == 2
    assert done.stderr == "error: Apache Beam is not installed: pip install 'jaxsound[beam]'\n"


def test_recordings_to_be_downloaded_are_one_line(data: Callable[..., Any]) -> None:
    done = beam(*flags_of(data("beam", name="esc50", manual_dir="")))
    assert done.returncode == 2
    assert done.stderr.startswith("error: config.data.manual_dir='': Beam's workers read")


def test_places_of_unknown_kinds_are_one_line() -> None:
    with pytest.raises(UserError, match=r"nowhere:// is not known; there are gs:// and s3://"):
        places.exists("nowhere://bucket/x")
