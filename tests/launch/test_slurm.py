"""The Slurm scripts start what they should, requeue on 75 alone, and pass every status on.

No Slurm is at hand: `srun` runs its command here, and `scontrol` records what it is asked.
"""

import re
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH, Commands

SRUN = """
command = sys.argv[1:]
while command[0].startswith("-"):
    command.pop(0)
os.execv(command[0], command)
"""
FLAGS = ("--config.epochs=3", "--config.wandb=two words")


@pytest.fixture
def slurm(commands: Commands) -> Commands:
    commands.add("srun", SRUN)
    commands.add("scontrol")
    return commands


def python(slurm: Commands, status: int) -> None:
    slurm.add("python", f"sys.exit({status})", slurm.folder / ".venv" / "bin")


def environment(slurm: Commands) -> dict[str, str]:
    return {
        "SLURM_SUBMIT_DIR": str(slurm.folder),
        "SLURM_JOB_ID": "1234",
        "SLURM_ARRAY_JOB_ID": "1230",
        "SLURM_ARRAY_TASK_ID": "4",
    }


def test_a_job_of_several_nodes_runs_one_command(slurm: Commands) -> None:
    python(slurm, 0)
    done = slurm.run("slurm.sh", "configs/a.py", "/runs/a", *FLAGS, **environment(slurm))
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = slurm.calls("python")
    main = ["-m", "jaxsound.main", "--config=configs/a.py", "--workdir=/runs/a"]
    assert call["args"] == [*main, *FLAGS]
    assert "--kill-on-bad-exit=1" in slurm.calls("srun")[0]["args"]
    assert not slurm.calls("scontrol")


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        ("configs/a.py", "configs/a.py:fold=4"),
        ("configs/a.py:subset=esc10", "configs/a.py:subset=esc10,fold=4"),
    ],
)
def test_a_task_of_the_array_trains_its_fold(slurm: Commands, config: str, asked: str) -> None:
    python(slurm, 0)
    done = slurm.run("slurm_folds.sh", config, "/runs/a", *FLAGS, **environment(slurm))
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = slurm.calls("python")
    main = ["-m", "jaxsound.main", f"--config={asked}", "--workdir=/runs/a"]
    assert call["args"] == [*main, "--config.crossval=process", *FLAGS]


@pytest.mark.parametrize(("script", "job"), [("slurm.sh", "1234"), ("slurm_folds.sh", "1230_4")])
@pytest.mark.parametrize("status", [0, 2, 75, 130, 143])
def test_only_75_is_requeued(slurm: Commands, script: str, job: str, status: int) -> None:
    python(slurm, status)
    done = slurm.run(script, "configs/a.py", "/runs/a", **environment(slurm))
    assert done.returncode == status
    asked = [call["args"] for call in slurm.calls("scontrol")]
    assert asked == ([["requeue", job]] if status == 75 else [])


@pytest.mark.parametrize("script", ["slurm.sh", "slurm_folds.sh"])
@pytest.mark.parametrize("args", [(), ("configs/a.py",)])
def test_a_bad_call_starts_nothing(slurm: Commands, script: str, args: tuple[str, ...]) -> None:
    python(slurm, 0)
    done = slurm.run(script, *args, **environment(slurm))
    assert done.returncode != 0
    assert "usage: sbatch" in done.stderr
    assert not slurm.calls()


@pytest.mark.parametrize("script", ["slurm.sh", "slurm_folds.sh"])
def test_what_sbatch_is_asked_for(script: str) -> None:
    lines = Path(LAUNCH, script).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [line.split()[1] for line in lines[:first] if line.startswith("#SBATCH ")]
    assert not any(line.startswith("#SBATCH") for line in lines[first:])  # sbatch reads none there
    assert all(re.fullmatch(r"--[a-z-]+(=[^ ]+)?", option) for option in asked)
    # What resuming stands on: a signal ahead of the limit, the queue again, one log.
    assert {"--requeue", "--signal=TERM@120", "--open-mode=append"} <= set(asked)
