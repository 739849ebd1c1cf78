"""A checkpoint is what was written or is named; no run begins again from nothing in silence."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsound.errors import UserError
from jaxsound.job import integrity
from jaxsound.training.checkpoint import Checkpoints
from jaxsound.training.state import TrainState


def state_of(step: int) -> TrainState:
    weights = {"kernel": jnp.arange(600.0).reshape(20, 30) + step}
    one = jnp.ones(3)
    return TrainState(jnp.int32(step), weights, {}, (), None, one, one, one)


def batches() -> grain.DatasetIterator:
    options = grain.ReadOptions(num_threads=0)
    return iter(grain.MapDataset.source(range(100)).to_iter_dataset(options))


def save(directory: Path, *steps: int) -> None:
    iterator = batches()
    with Checkpoints(directory) as checkpoints:
        for step in steps:
            next(iterator)
            checkpoints.save(step, state_of(step), {1: iterator}, {"about": 1}, float(step))


def restore(directory: Path) -> tuple[TrainState, int, Any]:
    iterator = batches()
    with Checkpoints(directory) as checkpoints:
        state, step, _ = checkpoints.restore(state_of(0), {1: iterator})
    return state, step, next(iterator)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "run" / "fold_1" / "checkpoints"
    save(directory, 10, 20)
    return directory


def files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def test_every_file_that_is_read_is_in_the_manifest(place: Path) -> None:
    assert integrity.fault(place / "20") == ""
    for path in files(place / "20"):
        name = path.relative_to(place / "20").as_posix()
        if name == "commit_success.txt":  # says that it was renamed
            continue
        content = path.read_bytes()
        at = len(content) // 3
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]):
            path.write_bytes(damaged)
            assert integrity.fault(place / "20"), name
        path.unlink()
        assert integrity.fault(place / "20"), name
        path.write_bytes(content)
    assert integrity.fault(place / "20") == ""


def test_the_newest_whole_checkpoint_is_used_and_the_damaged_one_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = next((place / "20" / "state" / "d").iterdir())
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    state, step, batch = restore(place)
    assert step == 10
    assert batch == 1  # the second: the iterator went back with the state
    np.testing.assert_array_equal(state.params["kernel"], state_of(10).params["kernel"])
    said = capsys.readouterr().err
    assert f"step 20: state/d/{data.name} is not what was written" in said
    assert "going on from step 10" in said
    assert (place.parent / "damaged_20").is_dir()
    save(place, 20)
    assert restore(place)[1] == 20


def test_no_whole_checkpoint_is_one_line_and_changes_nothing(place: Path) -> None:
    for step in ("10", "20"):
        (place / step / "state" / "manifest.ocdbt").unlink()
    before = list(files(place))
    with pytest.raises(UserError, match=r"no checkpoint is whole \(step 20: .* missing; step 10"):
        restore(place)
    assert list(files(place)) == before


@pytest.mark.parametrize("gone", ["20", "10 20", "."])
def test_what_was_saved_and_is_gone_is_missed(
    place: Path, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in gone.split():
        shutil.rmtree(place / name)
    if gone == "20":
        assert restore(place)[1] == 10
        assert "step 20 was saved here and is gone" in capsys.readouterr().err
    else:
        with pytest.raises(UserError, match="step 20 was saved here and is gone"):
            restore(place)


def test_a_directory_without_a_past_begins_from_nothing(tmp_path: Path) -> None:
    assert restore(tmp_path / "run" / "fold_1" / "checkpoints")[1:] == (0, 0)


def test_another_state_is_one_line(place: Path) -> None:
    other = state_of(0)
    other.params = {"kernel": jnp.zeros((20, 31))}
    with (
        Checkpoints(place) as checkpoints,
        pytest.raises(UserError, match=r"fit .*params/kernel is \(20, 30\) there") as caught,
    ):
        checkpoints.restore(other, {1: batches()})
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_keeps_what_is_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(integrity, "write", full)
    with pytest.raises(UserError, match=r"not saved \(No space left on device\)"):
        save(place, 30)
    assert restore(place)[1] == 20


def test_a_directory_that_vanishes_is_one_line(place: Path) -> None:
    with Checkpoints(place) as checkpoints:
        shutil.rmtree(place)
        with pytest.raises(UserError, match="the directory has vanished"):
            checkpoints.save(30, state_of(30), {1: batches()}, {}, 0.0)
