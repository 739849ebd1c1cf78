"""The Dockerfiles' steps, run in a plain directory: no engine is needed, and none is replaced."""

import http.server
import json
import os
import re
import shlex
import shutil
import site
import socket
import subprocess
import sys
import threading
import tomllib
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCKER = REPOSITORY / "launch" / "docker"
# What would change the machine, or asks a network, does its part within $ROOT.
STAND_INS = {
    "pip": 'echo "$*" >>"$ROOT/installed"; [ -z "${DRY-}" ] || exit 0; '
    'exec "$PYTHON" -m pip --python "$VENV/bin/python" "$1" --quiet --no-deps '
    '--no-build-isolation --no-index --no-cache-dir "${@:2}"',
    "useradd": 'echo "${@: -1}" >>"$ROOT/users"',
    "install": 'exec /usr/bin/install "${@/#\\//$ROOT/}"',
}
Step = tuple[str, str]


def steps(name: str) -> list[Step]:
    """Instructions and their arguments, lines joined, comments left out."""
    lines = (DOCKER / name).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found = (line.split(None, 1) for line in text.replace("\\\n", " ").splitlines() if line)
    return [(instruction, rest.strip()) for instruction, rest in found]


def last(found: list[Step], instruction: str) -> str:
    return [rest for name, rest in found if name == instruction][-1]


class Plain:
    """A directory in which an image's steps are run."""

    def __init__(self, root: Path, **arguments: str):
        self.root, self.cwd = root / "root", root / "root"
        shims = root / "shims"
        for folder in (self.root, shims):
            folder.mkdir()
        for name, text in STAND_INS.items():
            (shims / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (shims / name).chmod(0o755)
        venv.create(root / "venv", with_pip=False, symlinks=True)
        (packages,) = (root / "venv").glob("lib/python*/site-packages")
        self.packages = packages
        # The packages of the present environment, but for jaxsound itself where that is editable.
        (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
        self.arguments = arguments
        self.environment = {
            "PATH": f"{shims}:{root / 'venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(root),
            "ROOT": str(self.root),
            "VENV": str(root / "venv"),
            "PYTHON": sys.executable,
            "JAX_PLATFORMS": "cpu",
        }

    def inside(self, path: str) -> Path:
        return self.root / path[1:] if path.startswith("/") else self.cwd / path

    def build(self, found: list[Step]) -> None:
        for instruction, rest in found:
            if instruction == "ARG":
                name, _, value = rest.partition("=")
                self.environment[name] = self.arguments.get(name, value)
            elif instruction == "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(rest))
                self.environment |= {key: str(self.inside(value)) for key, _, value in pairs}
            elif instruction == "WORKDIR":
                self.cwd = self.inside(rest)
                self.cwd.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self.copy(REPOSITORY / source, self.inside(target))
            elif instruction == "RUN":
                self.run(["bash", "-euc", re.sub(r"^(--\S+\s+)*", "", rest)])

    def copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.cwd, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.mark.parametrize("name", ["serve.Dockerfile", "train.Dockerfile"])
def test_an_image_s_steps_install_what_it_starts(name: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="pip builds the package with hatchling")
    found = steps(name)
    plain = Plain(tmp_path)
    plain.build(found)
    assert (plain.root / "users").read_text().split() == [last(found, "USER")]
    for file in ("models/cnn.py", "serving/web/index.html", "serving/web/main.js"):
        assert (plain.packages / "jaxsound" / file).is_file()
    entry, given = (json.loads(last(found, part)) for part in ("ENTRYPOINT", "CMD"))
    said = plain.run([*entry[:3], "--help"])
    for argument in [*entry, *given]:
        option, _, value = argument.partition("=")
        assert not option.startswith("--") or option in said
        assert option != "--config" or (plain.cwd / value).is_file()


@pytest.mark.parametrize(
    ("name", "device", "extra"),
    [
        ("serve.Dockerfile", "", "serve"),
        ("train.Dockerfile", "", ""),
        ("train.Dockerfile", "cpu", ""),
        ("train.Dockerfile", "cuda", "cuda"),
    ],
)
def test_each_image_has_its_extra(name: str, device: str, extra: str, tmp_path: Path) -> None:
    plain = Plain(tmp_path, **({"DEVICE": device} if device else {}))
    plain.environment["DRY"] = "1"
    plain.build(steps(name))
    wanted = f".[{extra}]" if extra else "."
    assert (plain.root / "installed").read_text() == f"install -c constraints.txt {wanted}\n"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert not extra or extra in project["optional-dependencies"]


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="DEVICE=abacus: cpu or cuda"):
        Plain(tmp_path, DEVICE="abacus").build(steps("train.Dockerfile"))


@pytest.mark.parametrize("name", ["serve.Dockerfile", "train.Dockerfile"])
def test_versions_are_pinned_and_nothing_runs_as_root(name: str) -> None:
    found = steps(name)
    installs = [rest for instruction, rest in found if instruction == "RUN" and "pip" in rest]
    assert installs
    assert all("pip install -c constraints.txt" in rest for rest in installs)
    order = [instruction for instruction, _ in found]
    assert last(found, "USER") not in ("root", "0")
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert "RUN" not in order[order.index("USER") :]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_server_is_healthy_while_it_takes_requests(status: int | None, healthy: bool) -> None:
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 0)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    found = steps("serve.Dockerfile")
    command = json.loads(last(found, "HEALTHCHECK").partition("CMD")[2])
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        port = server.server_port
        assert f"127.0.0.1:{last(found, 'EXPOSE')}/" in command[-1]
        command[-1] = command[-1].replace(last(found, "EXPOSE"), str(port))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        if status is None:
            server.shutdown()
            server.server_close()
        done = subprocess.run([sys.executable, *command[1:]], capture_output=True)
        if status:
            server.shutdown()
    assert (done.returncode == 0) is healthy
    assert asked == (["/readyz"] if status else [])


def test_compose_publishes_to_this_machine_alone() -> None:
    yaml = pytest.importorskip("yaml", reason="compose.yaml is read with PyYAML")
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert set(services) == {"serve", "tensorboard", "train"}
    for service in services.values():
        build = service["build"]
        assert (DOCKER / build["context"]).resolve() == REPOSITORY.resolve()
        assert (REPOSITORY / build["dockerfile"]).is_file()
        for port in service.get("ports", []):
            assert socket.gethostbyname(port.split(":")[0]).startswith("127.")
    exposed = last(steps("serve.Dockerfile"), "EXPOSE")
    assert services["serve"]["ports"] == [f"127.0.0.1:{exposed}:{exposed}"]
    commands = Path(sys.executable).parent  # where pip puts them, on the PATH or not
    assert shutil.which(services["tensorboard"]["entrypoint"][0], path=commands)
    assert all(v.endswith(":ro") for v in services["tensorboard"]["volumes"])
