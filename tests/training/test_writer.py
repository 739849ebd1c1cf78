"""What is written can be read back; a resumed run leaves one value a step."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clu import asynclib

from jaxsound.training import writer


def read_lines(logdir: Path) -> list[dict]:
    text = (logdir / writer.METRICS_FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_events(logdir: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logdir), size_guidance={"tensors": 0})
    events.Reload()
    return events


def values(logdir: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.util import tensor_util

    tensors = read_events(logdir).Tensors(tag)
    return [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in tensors]


def test_scalars_images_and_texts_reach_tensorboard_and_scalars_the_lines(tmp_path: Path) -> None:
    out = writer.make_writer(tmp_path / "fold_1")
    out.write_texts(0, {"config": "seed = 0"})
    out.write_scalars(1, {"train/loss": np.float32(2.5), "train/accuracy": np.array(0.25)})
    out.write_scalars(2, {"train/loss": 1.5})
    out.write_images(2, {"confusion": np.zeros((1, 6, 5, 3), np.uint8)})
    out.write_images(2, {"drawn": lambda: np.full((1, 4, 3, 3), 7, np.uint8)})
    out.close()
    assert values(tmp_path / "fold_1", "train/loss") == [(1, 2.5), (2, 1.5)]
    assert {"config", "confusion", "drawn"} <= set(
        read_events(tmp_path / "fold_1").Tags()["tensors"]
    )
    first, second = read_lines(tmp_path / "fold_1")
    assert first.pop("time") <= second.pop("time")
    assert first == {"step": 1, "train/loss": 2.5, "train/accuracy": 0.25}
    assert second == {"step": 2, "train/loss": 1.5}


def test_resuming_leaves_one_value_a_step(tmp_path: Path) -> None:
    out = writer.make_writer(tmp_path)
    for step in range(1, 9):
        out.write_scalars(step, {"loss": step})
    out.close()
    with (tmp_path / writer.METRICS_FILE).open("a") as file:
        file.write('{"step": 4, "ti')  # torn by a kill
    for path in tmp_path.glob("events.*"):
        raw = path.read_bytes()
        path.write_bytes(raw + raw[:30])
    out = writer.make_writer(tmp_path, resume_step=5)
    for step in range(6, 8):
        out.write_scalars(step, {"loss": 100 + step})
    out.close()
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 106.0), (7, 107.0)]
    assert [(line["step"], line["loss"]) for line in read_lines(tmp_path)] == expected
    assert values(tmp_path, "loss") == expected


def test_without_a_step_to_resume_from_everything_stays(tmp_path: Path) -> None:
    for start in (1, 3):
        out = writer.JsonlWriter(tmp_path / writer.METRICS_FILE)
        out.write_scalars(start, {"loss": 1.0})
        out.write_scalars(start + 1, {"loss": 1.0})
        out.close()
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 2, 3, 4]


def test_a_value_that_is_not_finite_is_null_so_that_every_json_reader_can_read_it(
    tmp_path: Path,
) -> None:
    out = writer.JsonlWriter(tmp_path / writer.METRICS_FILE)
    out.write_scalars(3, {"loss": np.nan, "norm": np.inf, "rate": 0.5})
    out.close()
    (line,) = read_lines(tmp_path)
    assert (line["loss"], line["norm"], line["rate"]) == (None, None, 0.5)


def test_what_goes_wrong_in_the_thread_is_raised_by_the_next_call(tmp_path: Path) -> None:
    out = writer.make_writer(tmp_path)
    for surface in (out.flush, out.close):
        out.write_scalars(1, {"loss": np.zeros(2)})
        with pytest.raises(asynclib.AsyncError):
            surface()


def test_what_goes_wrong_in_drawing_or_opening_is_raised_too(tmp_path: Path) -> None:
    out = writer.make_writer(tmp_path / "drawing")
    out.write_images(1, {"picture": lambda: 1 / 0})
    with pytest.raises(asynclib.AsyncError, match="division"):
        out.flush()
    out.close()
    (tmp_path / "opening" / writer.METRICS_FILE).mkdir(parents=True)
    out = writer.make_writer(tmp_path / "opening")

    def write() -> None:
        out.write_scalars(1, {"loss": 1.0})  # raises already where opening has failed by now
        out.flush()

    with pytest.raises(asynclib.AsyncError, match="directory"):
        write()


def test_a_writer_that_is_off_writes_nothing_and_imports_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from jaxsound.training import writer\n"
        f"out = writer.make_writer({str(tmp_path / 'x')!r}, enabled=False)\n"
        "out.write_scalars(1, {'loss': 1.0}); out.write_texts(0, {'a': 'b'})\n"
        "out.write_images(1, {}); out.flush(); out.close()\n"
        "assert 'tensorflow' not in sys.modules and 'clu' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not (tmp_path / "x").exists()


def test_nothing_appears_on_the_terminal(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from jaxsound.training import writer\n"
        f"out = writer.make_writer({str(tmp_path)!r})\n"
        "out.write_scalars(1, {'loss': 1.0})\n"
        "out.write_images(1, {'image': np.zeros((1, 4, 4, 3), np.uint8)})\n"
        "out.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
