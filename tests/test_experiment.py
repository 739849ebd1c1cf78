"""How an experiment is laid out where the configuration leaves it open."""

from pathlib import Path

import jax
import pytest

from jaxsound.config import default_config
from jaxsound.experiment import side_by_side
from jaxsound.job import workdir


@pytest.mark.parametrize(
    ("model", "backend", "changes", "begun", "expected"),
    [
        ("transformer", "gpu", {}, None, True),
        ("transformer", "cpu", {}, None, False),
        ("transformer", "gpu", {"model.width": 384}, None, False),
        ("cnn", "gpu", {}, None, False),
        ("transformer", "gpu", {"early_stopping": 3}, None, False),
        ("transformer", "gpu", {"crossval": "sequential"}, True, False),
        ("cnn", "cpu", {"crossval": "vmap"}, False, True),
        ("cnn", "cpu", {}, True, True),
        ("transformer", "gpu", {}, False, False),
    ],
)
def test_folds_go_side_by_side_where_that_should_be_faster(
    model: str,
    backend: str,
    changes: dict[str, object],
    begun: bool | None,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = default_config(model)
    config.update_from_flattened_dict(changes)
    assert side_by_side(config, begun) is expected


def test_a_run_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    assert workdir.side_by_side(tmp_path) is None
    workdir.checkpoints(tmp_path, [1]).mkdir(parents=True)
    assert workdir.side_by_side(tmp_path) is False
    workdir.checkpoints(tmp_path, [1, 2]).mkdir(parents=True)
    assert workdir.side_by_side(tmp_path) is True
