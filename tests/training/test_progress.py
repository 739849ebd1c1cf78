"""The line that is shown while training."""

import time

import numpy as np
import pytest

from jaxsound.training.progress import Progress

COMPILING = 2.0  # seconds, as the first step of a run takes them


def test_what_is_left_is_not_reckoned_from_the_step_that_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxsound.bars._SECONDS_IN_LOGS", 0.0)
    left = 1000
    with Progress(
        tmp_path,
        [1],
        start=0,
        total=left,
        seconds=0.0,
        batch_size=1,
        log_every=left,
        learning_rate=np.zeros(left, np.float32),
        enabled=True,
    ) as progress:
        time.sleep(COMPILING)
        for step in range(1, 4):  # each shows the one before
            progress.stepped(step, {"loss": np.zeros(1)})
            time.sleep(0.005)
        shown = progress.bar.format_dict
    assert shown["n"] == 2
    assert shown["elapsed"] >= COMPILING
    assert shown["rate"] > 10 / COMPILING


@pytest.mark.parametrize("start", [0, 700])
@pytest.mark.parametrize("count", [1, 3])
def test_the_bar_is_one_call_behind_and_ends_where_training_does(tmp_path, start, count):
    total = start + 4 * count
    with Progress(
        tmp_path,
        [1],
        start=start,
        total=total,
        seconds=0.0,
        batch_size=1,
        log_every=100,
        learning_rate=np.zeros(total, np.float32),
        enabled=True,
    ) as progress:
        for step in range(start + count, total + 1, count):
            loss = np.zeros((1, count)) if count > 1 else np.zeros(1)
            progress.stepped(step, {"loss": loss}, count)
            assert progress.bar.n == (step if step == total else step - count)
