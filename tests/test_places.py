"""Recordings, runs and models at addresses: the same numbers as on a disk, or one line.

No bucket is at hand. fsspec's own memory:// stands for one within a process, and file:// between
processes; gs:// and s3:// go through the same calls.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import jaxsound
from jaxsound import places
from jaxsound.cache import cache_root
from jaxsound.errors import UserError
from jaxsound.job import mirror

ROOT = Path(jaxsound.__file__).parents[1]


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}/folder"


@pytest.mark.parametrize("kind", ["memory", "file", "path"])
def test_what_is_written_is_read(tmp_path: Path, kind: str) -> None:
    prefix = {"memory": "memory://", "file": "file://", "path": ""}[kind]
    place = f"{prefix}{tmp_path}/a/b.bin"
    assert not places.exists(place)
    places.write(place, b"one")
    places.write(place, b"two")
    assert places.exists(place)
    assert places.read(place) == b"two"
    places.remove(place.rpartition("/")[0])
    assert not places.exists(place)
    places.remove(place.rpartition("/")[0])


def test_who_is_reading_a_file_is_not_disturbed_by_its_next_version(tmp_path: Path) -> None:
    place = tmp_path / "crossval.json"
    places.write(place, b"one")
    with place.open("rb") as reader:
        places.write(place, b"two, and longer")
        assert reader.read() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["crossval.json"]


def test_a_copy_is_brought_up_to_date(address: str, tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/2.wav", "b/1.wav"):
        places.write(f"{address}/{name}", name.encode())
    copy = places.local(address, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.wav")}
    assert {path.relative_to(copy).as_posix() for path in before} == {
        "a/1.wav",
        "a/2.wav",
        "b/1.wav",
    }
    (copy / "a/1.wav").write_bytes(b"ours")  # what has not changed there is not copied again
    places.write(f"{address}/a/2.wav", b"longer than it was")
    places.remove(f"{address}/b/1.wav")
    places.write(f"{address}/c/é ü.wav", b"new")
    assert places.local(address, tmp_path) == copy
    texts = {p.relative_to(copy).as_posix(): p.read_bytes() for p in copy.rglob("*.wav")}
    assert texts == {"a/1.wav": b"ours", "a/2.wav": b"longer than it was", "c/é ü.wav": b"new"}


def test_two_copies_have_the_same_times(address: str, tmp_path: Path) -> None:
    """So that what one machine has prepared is found by another."""
    places.write(f"{address}/1.wav", b"x")
    one, other = (places.local(address, tmp_path / name) for name in ("one", "other"))
    assert one != other
    assert (one / "1.wav").stat().st_mtime_ns == (other / "1.wav").stat().st_mtime_ns


def test_a_file_has_its_own_name(address: str, tmp_path: Path) -> None:
    places.write(f"{address}/table.csv", b"x")
    copy = places.local(f"{address}/table.csv", tmp_path)
    assert (copy.name, copy.read_bytes()) == ("table.csv", b"x")


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("memory://nowhere/at/all", "memory://nowhere/at/all: nothing is there"),
        ("gopher://host/x", "gopher:// is not known; there are gs:// and s3://"),
        ("gs://bucket/x", "gs:// needs a package that is missing: pip install gcsfs"),
        ("s3://bucket/x", "s3:// needs a package that is missing: pip install s3fs"),
    ],
)
def test_what_cannot_be_had_is_one_line(place: str, line: str, tmp_path: Path) -> None:
    for package, scheme in (("gcsfs", "gs"), ("s3fs", "s3")):
        if place.startswith(scheme) and __import__("importlib.util").util.find_spec(package):
            pytest.skip(f"{package} is installed")
    with pytest.raises(UserError) as error:
        places.local(place, tmp_path)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_the_cache_is_on_a_disk() -> None:
    with pytest.raises(UserError, match=r"data\.cache_dir=gs://x/y: .*memory maps"):
        cache_root("gs://x/y")


def test_a_run_is_at_its_address_when_it_ends(address: str, tmp_path: Path) -> None:
    with mirror.at(address, tmp_path) as folder:
        (folder / "fold_1").mkdir()
        (folder / "fold_1" / "metrics.jsonl").write_text("1\n")
        (folder / ".lock").write_text("")
        (folder / "old").write_text("")
    assert not places.exists(f"{address}/.lock")
    with mirror.at(f"{address}/", tmp_path) as again:
        assert (again / "fold_1" / "metrics.jsonl").read_text() == "1\n"
        (again / "old").unlink()
        (again / "fold_1" / "metrics.jsonl").write_text("1\n2\n")
        places.write(f"{address}/another's", b"")
    assert places.read(f"{address}/fold_1/metrics.jsonl") == b"1\n2\n"
    assert not places.exists(f"{address}/old")
    assert places.exists(f"{address}/another's")


def test_a_run_that_fails_is_at_its_address_too(address: str, tmp_path: Path) -> None:

    def stopped() -> None:
        with mirror.at(address, tmp_path) as folder:
            (folder / "saved").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert places.read(f"{address}/saved") == b"x"


def test_while_it_runs_what_is_new_is_brought(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SECONDS", 0.01)
    with mirror.at(address, tmp_path) as folder:
        (folder / "saved").write_text("x")
        for _ in range(500):
            if places.exists(f"{address}/saved"):
                break
            mirror.threading.Event().wait(0.01)
        else:
            pytest.fail("nothing came")


def test_every_moment_is_a_good_one_to_be_lost(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves are never behind a checkpoint, nor a manifest ahead of it, nor a result of either."""
    names = [
        "crossval.json",
        "fold_1.json",
        ".saved/fold_1",
        "fold_1/checkpoints/8/manifest.json",
        "fold_1/checkpoints/8/state/data",
        "fold_1/metrics.jsonl",
    ]
    filesystem, _ = places.filesystem(address)
    order: list[str] = []
    with mirror.at(address, tmp_path) as folder:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        (folder / "fold_1/checkpoints/9.orbax-checkpoint-tmp").mkdir()
        (folder / "fold_1/checkpoints/9.orbax-checkpoint-tmp/data").write_text("x")
        pipe = type(filesystem).pipe_file

        def seen(self: object, path: str, value: bytes, *args: object, **more: object) -> None:
            order.append(path.partition("/folder/")[2])
            pipe(self, path, value, *args, **more)

        monkeypatch.setattr(type(filesystem), "pipe_file", seen)
    assert order == list(reversed(names))
    removed: list[str] = []
    with mirror.at(address, tmp_path) as folder:
        (folder / "fold_1/checkpoints/8/manifest.json").unlink()
        (folder / "fold_1/checkpoints/8/state/data").unlink()
        remove = type(filesystem).rm_file
        monkeypatch.setattr(
            type(filesystem),
            "rm_file",
            lambda self, path: (removed.append(path.rpartition("/")[2]), remove(self, path)),
        )
    assert removed == ["manifest.json", "data"]


def test_a_second_run_at_the_same_address_is_refused(address: str, tmp_path: Path) -> None:
    with (
        mirror.at(address, tmp_path) as folder,
        pytest.raises(UserError, match="is in use by another run of this machine"),
        mirror.at(address, tmp_path),
    ):
        pass
    assert not folder.name.startswith(".")


def test_several_processes_are_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSOUND_COORDINATOR", "here:1")
    monkeypatch.setenv("JAXSOUND_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAXSOUND_PROCESS_ID", "1")
    with (
        pytest.raises(UserError, match="need a disk that all of them see"),
        mirror.at(address, tmp_path),
    ):
        pass


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("low", "high")):
        (folder / name).mkdir()
        for number in range(8):
            tone = np.sin(np.arange(4000) * (0.1 + 0.9 * label)) + rng.normal(0, 0.1, 4000)
            soundfile.write(folder / name / f"{number}.wav", tone / 4, 8000)
    return folder


def run(module: str, *args: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAXSOUND_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_train_resume_and_predict_at_addresses(recordings: Path, tmp_path: Path) -> None:
    """The command line's ends: recordings read, the run kept, its checkpoint heard."""
    flags = [
        f"--config={ROOT / 'configs' / 'audio_folder_cnn.py'}:fold=1",
        f"--config.data.manual_dir=file://{recordings}",
        "--config.data.make_folds=2",
        "--config.data.validation=0.0",
        "--config.eval_every=0",
        "--config.frontend.sample_rate=8000",
        "--config.frontend.fmax=0.0",
        "--config.model.channels=(8,16)",
        "--config.model.convs=1",
        "--config.optimizer.warmup_fraction=0.0",
        "--config.optimizer.schedule=constant",
        "--config.batch_size=4",
        "--config.data.pad_seconds=0.5",
        "--config.data.crop_seconds=0.5",
    ]
    place = f"file://{tmp_path / 'bucket' / 'run'}"
    first = run(
        "jaxsound.main", *flags, "--config.epochs=1", f"--workdir={place}", cache=tmp_path / "one"
    )
    assert first.returncode == 0, first.stderr
    assert f"report  {place}/report.html" in first.stdout
    bucket = tmp_path / "bucket" / "run"
    assert (bucket / "report.html").is_file()
    steps = json.loads((bucket / "fold_1.json").read_text())["steps"]
    # Another machine, with a cache of its own, goes on from there.
    more = run(
        "jaxsound.main", *flags, "--config.epochs=2", f"--workdir={place}", cache=tmp_path / "two"
    )
    assert more.returncode == 0, more.stderr
    assert json.loads((bucket / "fold_1.json").read_text())["steps"] == 2 * steps
    lines = (bucket / "fold_1" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["step"] for line in lines} >= {2 * steps}
    heard = run(
        "jaxsound.predict",
        f"{place}/fold_1",
        str(recordings / "low" / "0.wav"),
        "--format=json",
        cache=tmp_path / "three",
    )
    assert heard.returncode == 0, heard.stderr
    on_disk = run(
        "jaxsound.predict",
        str(bucket / "fold_1"),
        str(recordings / "low" / "0.wav"),
        "--format=json",
        cache=tmp_path / "three",
    )
    assert heard.stdout == on_disk.stdout
