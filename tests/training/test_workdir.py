"""A run directory belongs to one experiment on one set of clips."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxsound.config import default_config
from jaxsound.errors import UserError
from jaxsound.features.store import Store
from jaxsound.training import workdir


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
