"""launch/tpu.sh asks gcloud for what it should, and every host runs the very flags it was given.

No TPU is at hand: `gcloud` is a stand-in that runs what it is told to run on two hosts here.
"""

import tarfile
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH, Commands

NAMED = {"TPU_NAME": "esc50", "TPU_ZONE": "us-central1-a", "TPU_TYPE": "v5litepod-16"}
# Answers with the next of the states that are left; runs commands for hosts in their own homes.
GCLOUD = """
import pathlib, shutil, subprocess
here = pathlib.Path(sys.argv[0]).parents[1]
args = sys.argv[1:]
hosts = [here / "host0", here / "host1"]
if "describe" in args and "tpu-vm" in args:
    print("10.0.0.2;10.0.0.3")
elif "describe" in args:
    states = (here / "states").read_text().split()
    print(states[0])
    (here / "states").write_text(" ".join(states[1:] or states))
elif "scp" in args:
    for host in hosts:
        shutil.copy(args[args.index("scp") + 1], host)
elif "ssh" in args:
    (command,) = [arg.partition("=")[2] for arg in args if arg.startswith("--command=")]
    sys.exit(max(subprocess.call(["bash", "-c", command], cwd=host) for host in hosts))
"""


@pytest.fixture
def cloud(commands: Commands) -> Commands:
    commands.add("gcloud", GCLOUD)
    # The metadata server's answer is the host's number, which is in the name of its home here.
    commands.add("curl", "print(os.path.basename(os.path.dirname(os.getcwd()))[-1])")
    for host in ("host0", "host1"):
        commands.add("python", folder=commands.folder / host / "jaxsound" / ".venv" / "bin")
    return commands


def asked(cloud: Commands) -> list[str]:
    """gcloud's calls but the looks at the state, each as one line."""
    lines = [" ".join(call["args"]) for call in cloud.calls("gcloud")]
    return [line for line in lines if " describe " not in line]


def test_create_waits_until_it_is_there(cloud: Commands) -> None:
    (cloud.folder / "states").write_text("WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    done = cloud.run("tpu.sh", "create", **NAMED, TPU_POLL_SECONDS="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "esc50: ACTIVE"
    assert asked(cloud) == [
        "compute tpus queued-resources create esc50 --node-id=esc50 "
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --zone=us-central1-a"
    ]
    looks = [call["args"] for call in cloud.calls("gcloud") if "describe" in call["args"]]
    look = "compute tpus queued-resources describe esc50 --format=value(state.state)"
    assert looks == [[*look.split(), "--zone=us-central1-a"]] * 3


def test_spot_capacity_is_asked_for(cloud: Commands) -> None:
    (cloud.folder / "states").write_text("ACTIVE")
    assert cloud.run("tpu.sh", "create", **NAMED, TPU_SPOT="1").returncode == 0
    assert " --spot " in asked(cloud)[0]


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_create_gives_up_on_what_will_not_come(cloud: Commands, state: str) -> None:
    (cloud.folder / "states").write_text(f"WAITING_FOR_RESOURCES {state}")
    done = cloud.run("tpu.sh", "create", **NAMED, TPU_POLL_SECONDS="0")
    assert done.returncode == 1
    assert f"error: esc50 is {state}" in done.stderr


def test_install_puts_the_repository_on_every_host(cloud: Commands) -> None:
    if not (LAUNCH.parent / ".git").exists():
        pytest.skip("not a checkout: git has nothing to pack")
    cloud.add("python3")
    for host in ("host0", "host1"):
        cloud.add("pip", folder=cloud.folder / host / "jaxsound" / ".venv" / "bin")
    done = cloud.run("tpu.sh", "install", **NAMED)
    assert (done.returncode, done.stderr) == (0, "")
    for host in ("host0", "host1"):
        (archive,) = Path(cloud.folder, host).glob("*.tar")
        with tarfile.open(archive) as packed:
            assert {"jaxsound/pyproject.toml", "jaxsound/jaxsound/main.py"} <= {*packed.getnames()}
        assert Path(cloud.folder, host, "jaxsound", "jaxsound", "main.py").is_file()
    assert [call["args"] for call in cloud.calls("python3")] == [["-m", "venv", ".venv"]] * 2
    installed = ["install", "--quiet", "-c", "constraints.txt", "-e", ".[tpu]"]
    assert [call["args"] for call in cloud.calls("pip")] == [installed] * 2


def test_run_gives_every_host_the_same_flags(cloud: Commands) -> None:
    flags = ["--config=configs/a.py:fold=3", "--workdir=/mnt/a b", "--config.wandb=$HOME; it's"]
    done = cloud.run("tpu.sh", "run", *flags, **NAMED, JAXSOUND_CACHE="/mnt/the cache")
    assert (done.returncode, done.stderr) == (0, "")
    calls = cloud.calls("python")
    assert [call["args"] for call in calls] == [["-m", "jaxsound.main", *flags]] * 2
    environment = {
        "JAXSOUND_COORDINATOR": "10.0.0.2:8476",
        "JAXSOUND_NUM_PROCESSES": "2",
        "JAXSOUND_CACHE": "/mnt/the cache",
    }
    assert all(environment.items() <= call["env"].items() for call in calls)
    assert [call["env"]["JAXSOUND_PROCESS_ID"] for call in calls] == ["0", "1"]
    assert all("agent-worker-number" in call["args"][-1] for call in cloud.calls("curl"))
    (line,) = asked(cloud)
    assert line.startswith("compute tpus tpu-vm ssh esc50 --worker=all --command=")


def test_a_hosts_status_is_passed_on(cloud: Commands) -> None:
    cloud.add("python", "sys.exit(75)", cloud.folder / "host1" / "jaxsound" / ".venv" / "bin")
    assert cloud.run("tpu.sh", "run", "--config=a.py", **NAMED).returncode == 75


def test_delete_ends_the_costs(cloud: Commands) -> None:
    assert cloud.run("tpu.sh", "delete", **NAMED).returncode == 0
    deleted = "queued-resources delete esc50 --force --quiet --zone=us-central1-a"
    assert asked(cloud) == [f"compute tpus {deleted}"]


@pytest.mark.parametrize("args", [(), ("destroy",)])
def test_a_bad_call_asks_for_nothing(cloud: Commands, args: tuple[str, ...]) -> None:
    done = cloud.run("tpu.sh", *args, **NAMED)
    assert done.returncode != 0
    assert "create|install|run|delete" in done.stderr
    assert not cloud.calls()


@pytest.mark.parametrize("missing", ["TPU_NAME", "TPU_ZONE", "TPU_TYPE"])
def test_a_name_that_is_missing_is_told(cloud: Commands, missing: str) -> None:
    done = cloud.run("tpu.sh", "create", **{k: v for k, v in NAMED.items() if k != missing})
    assert done.returncode != 0
    assert "usage: TPU_NAME=" in done.stderr
    assert not cloud.calls()
