"""The main job through its entry point: end to end, killed and resumed, all ways of folding."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]
# Five steps an epoch, over two folds of the synthetic set.
SMALL = [
    "--config=configs/quickstart.py",
    "--config.epochs=2",
    "--config.batch_size=64",
    "--config.folds=(1,2)",
    "--config.data.crop_seconds=1.0",
    "--config.model.width=16",
    "--config.model.depth=1",
    "--config.model.stem_channels=(4,8,8)",
    "--config.checkpoint_every=1",
    "--config.eval_every=1",
    "--config.log_every=1",
    "--config.augment.mixup=0.3",
    "--config.augment.time_masks=1",
    "--config.optimizer.ema=0.9",
]

# Runs jaxsound.main and kills it with SIGKILL in step 7, once the checkpoint of step 5 is whole.
KILLED = """
import os, signal, sys, time
from pathlib import Path
from jaxsound import main, train
stepped = train.Progress.stepped
def kill_at_seven(self, step, metrics, count):
    stepped(self, step, metrics, count)
    if step == 7:
        directory = Path(sys.argv[-1].partition("=")[2])
        while not list(directory.glob("fold_*/checkpoints/5")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
train.Progress.stepped = kill_at_seven
main.main(sys.argv)
"""


@pytest.fixture(scope="session")
def environment(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For subprocesses: data and compiled programs are kept from one to the next."""
    compiled = tmp_path_factory.mktemp("compiled")
    return os.environ | {
        "JAXSOUND_CACHE": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }


def jaxsound(
    environment: dict[str, str], workdir: Path, *flags: str, program: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    program = program or ("-m", "jaxsound.main")
    return subprocess.run(
        [sys.executable, *program, *flags, f"--workdir={workdir}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def digests(workdir: Path, fold: int, step: int) -> dict[str, str]:
    """SHA-256 of every array of a fold's checkpoint, by its path."""
    with ocp.CheckpointManager(workdir / f"fold_{fold}" / "checkpoints") as manager:
        tree = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
    flat = ocp.tree.to_flat_dict(tree["state"], sep="/")
    return {path: hashlib.sha256(np.asarray(x).tobytes()).hexdigest() for path, x in flat.items()}


@pytest.fixture(scope="session")
def whole(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = jaxsound(environment, workdir, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert str(workdir / "report.html") in done.stdout
    assert f"tensorboard --logdir {workdir}" in done.stdout
    noise = [line for line in done.stderr.splitlines() if "arning" in line or "TF" in line]
    assert not noise
    return workdir


def test_a_run_leaves_a_result_that_agrees_with_itself(whole: Path) -> None:
    result = json.loads((whole / "crossval.json").read_text())
    with (whole / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 160
    for fold in result["folds"]:
        mine = [row for row in rows if row["fold"] == str(fold["fold"])]
        right = np.mean([row["truth"] == row["prediction"] for row in mine])
        np.testing.assert_allclose(fold["accuracy"], right)
    accuracies = [fold["accuracy"] for fold in result["folds"]]
    np.testing.assert_allclose(result["accuracy_mean"], np.mean(accuracies))
    np.testing.assert_allclose(result["accuracy_std"], np.std(accuracies, ddof=1))
    assert result["ci95"][0] <= result["accuracy_pooled"] <= result["ci95"][1]
    assert "<html" in (whole / "report.html").read_text()


def test_tensorboard_shows_the_run(whole: Path) -> None:
    events = EventAccumulator(str(whole / "fold_1"), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"]) | set(events.Tags()["images"])
    assert {
        *(f"train/{x}" for x in ("loss", "accuracy", "learning_rate", "gradient_norm")),
        "train/clips_per_second",
        "validation/accuracy",
        "test/accuracy",
        "test/confusion",
        "train/clips",
        "config",
    } <= tags
    assert [event.step for event in events.Tensors("train/loss")] == list(range(1, 11))
    pooled = EventAccumulator(str(whole / "crossval")).Reload().Tags()["tensors"]
    assert {"crossval/accuracy_mean", "crossval/accuracy_std", "crossval/confusion"} <= set(pooled)


def test_the_same_command_again_says_so_and_changes_nothing(
    environment: dict[str, str], whole: Path
) -> None:
    before = (whole / "crossval.json").read_bytes()
    again = jaxsound(environment, whole, *SMALL)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    assert (whole / "crossval.json").read_bytes() == before


def test_one_fold_of_a_finished_run_keeps_the_others(
    environment: dict[str, str], whole: Path
) -> None:
    before = (whole / "crossval.json").read_bytes()
    again = jaxsound(environment, whole, *SMALL, "--config.folds=(2,)")
    assert again.returncode == 0
    assert "finished before" in again.stdout
    assert (whole / "crossval.json").read_bytes() == before


def test_another_experiment_in_the_same_directory_is_refused(
    environment: dict[str, str], whole: Path
) -> None:
    other = jaxsound(environment, whole, *SMALL, "--config.optimizer.peak_lr=0.5")
    assert other.returncode == 2
    assert "optimizer.peak_lr" in other.stderr
    assert other.stderr.count("\n") == 1


@pytest.mark.parametrize("feed", ["resident", "stream"])
def test_five_steps_a_kill_and_five_more_equal_ten(
    environment: dict[str, str], whole: Path, tmp_path: Path, feed: str
) -> None:
    workdir = tmp_path / "killed"
    flags = [*SMALL, f"--config.data.feed={feed}"]
    killed = jaxsound(environment, workdir, *flags, program=("-c", KILLED))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (workdir / "fold_1.json").exists()
    resumed = jaxsound(environment, workdir, *flags)
    assert resumed.returncode == 0, resumed.stderr
    assert "step 5/10" in resumed.stderr
    for fold in (1, 2):
        assert digests(workdir, fold, 10) == digests(whole, fold, 10)
    assert (workdir / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    for name in ("whole", "killed"):
        lines = ((whole if name == "whole" else workdir) / "fold_1/metrics.jsonl").read_text()
        steps = [json.loads(line)["step"] for line in lines.splitlines() if "train/loss" in line]
        assert steps == list(range(1, 11)), name


def test_folds_side_by_side_give_the_same_result_and_checkpoints(
    environment: dict[str, str], whole: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "vmap"
    done = jaxsound(environment, workdir, *SMALL, "--config.crossval=vmap")
    assert done.returncode == 0, done.stderr
    for fold in (1, 2):
        assert digests(workdir, fold, 10).keys() == digests(whole, fold, 10).keys()
    ours, theirs = (_probabilities(path) for path in (workdir, whole))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_folds_in_processes_of_their_own_give_the_same_result(
    environment: dict[str, str], whole: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "process"
    command = [sys.executable, "-m", "jaxsound.main", *SMALL, "--config.crossval=process"]
    done = subprocess.run(
        [sys.executable, "launch/local.py", "2", "--", *command, f"--workdir={workdir}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workdir / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_two_hosts_that_train_together_give_the_same_result(
    environment: dict[str, str], whole: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "hosts"
    command = [sys.executable, "-m", "jaxsound.main", *SMALL, f"--workdir={workdir}"]
    done = subprocess.run(
        [sys.executable, "launch/local.py", "2", "--", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    np.testing.assert_allclose(_probabilities(workdir), _probabilities(whole), atol=2e-3)


def _probabilities(workdir: Path) -> np.ndarray:
    with (workdir / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(v) for k, v in row.items() if k.startswith("p_")] for row in rows])
