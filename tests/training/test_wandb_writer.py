"""Weights & Biases gets what the files get, and can fail without a training failing with it."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxsound.errors import UserError
from jaxsound.training import wandb_writer
from jaxsound.training.writer import METRICS_FILE, make_writer

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """W&B without a network or anybody's login; its service ends with the test."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb_cache"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield tmp_path
    wandb.teardown()


def records(logdir: Path) -> list:
    """What the offline runs of a fold hold, in the order of their starts.

    The file is a LevelDB log: after 7 bytes, blocks of 32 KiB of (checksum 4, length 2, kind 1)
    and a part of a record; kinds 1 and 4 end one.
    """
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # a finished run may still be on its way to the disk
    found = []
    for path in sorted(logdir.glob("wandb/offline-run-*/*.wandb")):  # by their time
        raw, at, parts = path.read_bytes(), 7, b""
        while at + 7 <= len(raw):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
            length, kind = struct.unpack("<HB", raw[at + 4 : at + 7])
            parts += raw[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                found.append(wandb_internal_pb2.Record.FromString(parts))
                parts = b""
    return found


def history(logdir: Path) -> list[dict]:
    """Rows by step, without what W&B adds; a picture's and a text's fields are apart."""
    rows = []
    for record in records(logdir):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {"/".join(i.nested_key): json.loads(i.value_json) for i in items}
            row["step"] = row["_step"]
            rows.append({k: v for k, v in row.items() if not k.startswith("_")})
    return rows


def runs(logdir: Path) -> list:
    return [r.run for r in records(logdir) if r.WhichOneof("record_type") == "run"]


def test_a_run_for_each_fold_holds_what_was_written(tmp_path: Path) -> None:
    folds = [tmp_path / "my_run" / f"fold_{k}" for k in (1, 2)]
    config = {"epochs": 3, "model": {"channels": (8, 16)}}
    side_by_side = [make_writer(f, resume_step=0, wandb="proj", config=config) for f in folds]
    for k, out in enumerate(side_by_side, 1):
        out.write_texts(0, {"config": "a < b"})
        out.write_images(0, {"confusion": np.zeros((1, 6, 5, 3), np.uint8)})
        out.write_scalars(1, {"train/loss": np.float32(k), "train/rate": np.array(0.25)})
        out.write_scalars(2, {"train/loss": 0.5})
        out.write_scalars(2, {"validation/accuracy": 0.75})
    for out in side_by_side:
        out.flush()
        out.close()
    for k, fold in enumerate(folds, 1):
        first, *scalars = history(fold)
        assert scalars == [
            {"step": 1, "train/loss": k, "train/rate": 0.25},
            {"step": 2, "train/loss": 0.5, "validation/accuracy": 0.75},
        ]
        assert first["step"] == 0
        files = next(fold.glob("wandb/offline-run-*/files"))
        assert (files / first["config/path"]).read_text() == "<pre>a &lt; b</pre>"
        assert (first["confusion/width"], first["confusion/height"]) == (5, 6)
        assert (files / first["confusion/filenames"][0]).is_file()
        (run,) = runs(fold)
        assert (run.project, run.run_group) == ("proj", "my_run")
        assert run.display_name == f"my_run/fold_{k}"
        kept = {i.key: json.loads(i.value_json) for i in run.config.update if i.key[0] != "_"}
        assert kept == {"epochs": 3, "model": {"channels": [8, 16]}}
        assert len((fold / METRICS_FILE).read_text().splitlines()) == 3
        assert list(fold.glob("events.out.tfevents.*"))
    assert runs(folds[0])[0].run_id != runs(folds[1])[0].run_id


def test_a_resumed_fold_goes_on_in_its_run_with_steps_that_increase(tmp_path: Path) -> None:
    for start, end in ((0, 8), (5, 10)):  # killed after 8 steps, the checkpoint was of step 5
        out = make_writer(tmp_path, resume_step=start, wandb="proj")
        for step in range(start + 1, end + 1):
            out.write_scalars(step, {"loss": step})
        out.close()
    first, second = runs(tmp_path)
    assert first.run_id == second.run_id == (tmp_path / wandb_writer.ID_FILE).read_text().strip()
    assert (first.resumed, second.resumed) == (False, False)  # offline, W&B cannot know
    assert [row["step"] for row in history(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10]
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 11))


def test_an_absent_package_and_an_absent_login_stop_before_anything_is_prepared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    wandb_writer.check("")
    wandb_writer.check("proj")  # offline needs no login
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    with pytest.raises(UserError, match=r"config.wandb='proj': nobody is logged in .*wandb login"):
        wandb_writer.check("proj")
    monkeypatch.setitem(sys.modules, "wandb", None)
    wandb_writer.check("")
    with pytest.raises(UserError) as error:
        wandb_writer.check("proj")
    assert str(error.value) == (
        "config.wandb='proj': Weights & Biases is not installed: pip install 'jaxsound[wandb]'"
    )
    assert capsys.readouterr() == ("", "")


def test_a_server_that_cannot_be_reached_is_one_line_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_writer, "INIT_SECONDS", 1)
    wandb.teardown()
    out = wandb_writer.WandbWriter("proj", tmp_path)
    out.write_scalars(1, {"loss": 2.5})
    out.close()
    assert history(tmp_path) == [{"step": 1, "loss": 2.5}]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Weights & Biases: going on offline")
    assert len(printed.err.splitlines()) == 1


def test_a_failure_on_the_way_is_one_line_and_the_files_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = wandb_writer.WandbWriter("proj", tmp_path)
    out.write_scalars(1, {"loss": 1.0})
    wandb.teardown()  # its service is gone
    for step in (2, 3):
        out.write_scalars(step, {"loss": 1.0})
    out.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("Weights & Biases: nothing more is sent") for line in lines] == [True]
