"""A run directory belongs to one experiment on one set of clips."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxsound.config import default_config
from jaxsound.errors import UserError
from jaxsound.features.store import Store
from jaxsound.job import workdir


def test_a_directory_is_claimed_once_and_found_again(tiny_store: Store, tmp_path: Path) -> None:
    config = default_config("cnn")
    directory = tmp_path / "new" / "run"
    workdir.check(directory, config)
    workdir.claim(directory, config, tiny_store)
    assert [path.name for path in directory.iterdir()] == ["config.json"]
    config.log_every = 5
    config.folds = (2,)
    workdir.check(directory, config)
    workdir.claim(directory, config, tiny_store)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 1), ("optimizer.peak_lr", 0.5), ("data.subset", "esc10")]
)
def test_another_experiment_is_refused_by_key_and_both_values(
    tiny_store: Store, tmp_path: Path, key: str, value: float | str
) -> None:
    config = default_config("cnn")
    workdir.claim(tmp_path, config, tiny_store)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=rf"config\.{key}=.* there and {value!r} now"):
        workdir.check(tmp_path, config)


@pytest.mark.parametrize("model", ["transformer", "cp_resnet", "stack"])
def test_a_run_of_a_version_with_fewer_keys_goes_on(
    tiny_store: Store, tmp_path: Path, model: str
) -> None:
    config = default_config(model)
    workdir.claim(tmp_path, config, tiny_store)
    path = tmp_path / "config.json"
    whole = json.loads(path.read_text())
    sections = [whole["config"][name] for name in ("data", "loss", "model", "pretrained")]
    for section in (whole["config"], *sections):
        for key in [key for key, value in section.items() if not isinstance(value, dict)]:
            if key != "name":
                kept = section.pop(key)
                path.write_text(json.dumps(whole))
                workdir.check(tmp_path, config)
                section[key] = kept


def test_a_run_of_before_there_was_a_choice_of_ends_goes_on(
    tiny_store: Store, tmp_path: Path
) -> None:
    config = default_config("cnn")
    workdir.claim(tmp_path, config, tiny_store)
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["frontend"]["ends"]
    path.write_text(json.dumps(record))
    workdir.check(tmp_path, config)
    config.frontend.ends = "reflect"
    with pytest.raises(UserError, match=r"config\.frontend\.ends='zero' there"):
        workdir.check(tmp_path, config)


def test_other_clips_are_refused_and_copies_are_not(tiny_store: Store, tmp_path: Path) -> None:
    config = default_config("cnn")
    workdir.claim(tmp_path, config, tiny_store)
    workdir.claim(tmp_path, config, dataclasses.replace(tiny_store, path=tmp_path / "copy"))
    labels = np.roll(tiny_store.labels, 1)
    with pytest.raises(UserError, match="other clips"):
        workdir.claim(tmp_path, config, dataclasses.replace(tiny_store, labels=labels))


def test_a_torn_record_and_a_file_in_the_way_are_one_line(
    tiny_store: Store, tmp_path: Path
) -> None:
    config = default_config("cnn")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir="):
        workdir.claim(tmp_path / "file" / "run", config, tiny_store)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        workdir.check(tmp_path, config)


def test_how_often_validation_is_looked_at_matters_where_training_follows_it(
    tiny_store: Store, tmp_path: Path
) -> None:
    for select, harmless in (("last", True), ("best", False)):
        config = default_config("cnn")
        config.select = select
        workdir.claim(tmp_path / select, config, tiny_store)
        config.watch_test = True
        workdir.check(tmp_path / select, config)
        config.eval_every = 3
        if harmless:
            workdir.check(tmp_path / select, config)
        else:
            with pytest.raises(UserError, match="eval_every"):
                workdir.check(tmp_path / select, config)


def test_harmless_changes_are_listed_and_keys_that_came_later_are_at_their_defaults(
    tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = default_config("cnn")
    workdir.claim(tmp_path, config, tiny_store)
    workdir.check(tmp_path, config)
    assert capsys.readouterr().err == ""
    record = json.loads((tmp_path / "config.json").read_text())
    del record["config"]["nonfinite"], record["config"]["augment"]["copies"]
    record["code"] = "another"
    (tmp_path / "config.json").write_text(json.dumps(record))
    config.log_every = 3
    workdir.check(tmp_path, config)
    said = capsys.readouterr().err
    assert "config.log_every=10 there and 3 now" in said
    assert "jaxsound's own files are others" in said
    assert "copies" not in said
    config.augment.copies = 2
    with pytest.raises(UserError, match=r"config\.augment\.copies=0 there and 2 now"):
        workdir.check(tmp_path, config)


def test_epochs_are_added_where_no_learning_rate_depends_on_them(
    tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = default_config("cnn")
    config.optimizer.warmup_fraction = 0.0
    for schedule, before, now, why in (
        ("constant", 10, 20, ""),
        ("step", 10, 11, ""),
        ("cosine", 10, 20, "lays its learning rates over all epochs"),
        ("one_cycle", 10, 20, "lays its learning rates over all epochs"),
        ("constant", 20, 10, "can be added and not taken away"),
        ("plateau", 15, 20, "eval_every does not divide"),
    ):
        place = tmp_path / f"{schedule}_{before}"
        config.optimizer.schedule, config.epochs = schedule, before
        workdir.claim(place, config, tiny_store)
        for name in ("fold_1.json", "crossval.json"):
            (place / name).write_text("{}")
        config.epochs = now
        if why:
            with pytest.raises(UserError, match=rf"config\.epochs={before} there.*{why}"):
                workdir.check(place, config)
            continue
        workdir.check(place, config)
        assert f"config.epochs={before} there and {now} now" in capsys.readouterr().err
        assert workdir.extended(place, config)
        workdir.claim(place, config, tiny_store)
        assert not workdir.extended(place, config)
        assert workdir.unfinished(place, [1]) == [1]
        assert (place / f"fold_1.{before}_epochs").exists()
    config.optimizer.schedule, config.epochs = "constant", 10
    config.optimizer.warmup_fraction = 0.1
    workdir.claim(tmp_path / "warm", config, tiny_store)
    config.epochs = 20
    with pytest.raises(UserError, match="warmup_fraction is a share of all epochs"):
        workdir.check(tmp_path / "warm", config)


LOCKED = """
import sys
from pathlib import Path
from jaxsound.job import workdir
with workdir.lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_second_run_in_a_directory_stops_and_a_killed_one_leaves_no_lock(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", LOCKED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        for shared in (False, True):
            with (
                pytest.raises(UserError, match="is in use by another run"),
                workdir.lock(tmp_path, shared=shared),
            ):
                pass
        other.kill()
    with workdir.lock(tmp_path, shared=True), workdir.lock(tmp_path, shared=True):
        pass
    with workdir.lock(tmp_path):
        pass


def test_a_failing_disk_is_one_line(tmp_path: Path) -> None:
    def fail() -> None:
        try:
            raise OSError(28, "No space left on device", "metrics.jsonl")
        except OSError as error:
            raise RuntimeError("the writer failed") from error

    with pytest.raises(UserError, match="No space left") as caught, workdir.storage(tmp_path):
        fail()
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="a mistake"), workdir.storage(tmp_path):
        raise ValueError("a mistake")
