"""launch/jobset.py writes what Kubernetes would take, and pods that find each other.

No cluster is at hand. The Job is compared with Kubernetes' own schema of batch/v1, from the package
`kubernetes-validate`. JobSet's has no package: what is used of it is written down here by hand,
from its API reference.
"""

import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.launch.conftest import LAUNCH

FLAGS = ["--config=configs/a.py:fold=3,subset=esc10", "--workdir=/runs/a: b", "--config.epochs=3"]
CALLS = {
    "one host": ["esc50", "--image=r/x:1"],
    "hosts": ["esc50", "--image=r/x:1", "--hosts=3", "--gpus=8", "--claim=runs"],
    "namespace": ["esc50", "--image=r/x:1", "--hosts=2", "--claim=runs", "--namespace=sound"],
}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """A schema of an object with these fields and no others."""
    return {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


LABEL = {"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63}
JOBSET = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=closed(["name"], name=LABEL, namespace=LABEL),
    spec=closed(
        ["replicatedJobs"],
        network=closed([], enableDNSHostnames={"type": "boolean"}, subdomain=LABEL),
        failurePolicy=closed(
            [],
            maxRestarts={"type": "integer", "minimum": 0},
            rules={
                "type": "array",
                "items": closed(
                    ["action"],
                    action={"enum": ["FailJobSet", "RestartJobSet"]},
                    onJobFailureReasons={"type": "array", "items": {"const": "PodFailurePolicy"}},
                ),
            },
        ),
        replicatedJobs={
            "type": "array",
            "minItems": 1,
            "items": closed(
                ["name", "template"],
                name=LABEL,
                replicas={"type": "integer", "minimum": 0},
                template=closed(["spec"], spec={"type": "object"}),
            ),
        },
    ),
)


def launch(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LAUNCH / "jobset.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module", params=CALLS)
def manifest(request: pytest.FixtureRequest) -> dict[str, Any]:
    done = launch(*CALLS[request.param], "--", *FLAGS)
    assert (done.returncode, done.stderr) == (0, "")
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


def job_of(manifest: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    spec: dict[str, Any] = replicated["template"]["spec"]
    return spec


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    (container,) = job_of(manifest)["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_it_is_a_jobset(manifest: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="pip install kubernetes-validate")
    jsonschema.validate(manifest, JOBSET)


def test_kubernetes_takes_the_job(manifest: dict[str, Any]) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install it")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "esc50"},
        "spec": job_of(manifest),
    }
    kubernetes.validate(job, kubernetes.latest_version(), strict=True)
    job["spec"]["backofLimit"] = 0
    with pytest.raises(kubernetes.ValidationError):  # strict means that a slip is seen
        kubernetes.validate(job, kubernetes.latest_version(), strict=True)
    del job["spec"]["backofLimit"]


def test_every_pod_has_its_place(manifest: dict[str, Any]) -> None:
    job, container = job_of(manifest), container_of(manifest)
    (replicated,) = manifest["spec"]["replicatedJobs"]
    env = {item["name"]: item for item in container["env"]}
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"]
    assert env["JAXSOUND_NUM_PROCESSES"]["value"] == str(job["parallelism"])
    host, _, port = env["JAXSOUND_COORDINATOR"]["value"].partition(":")
    # JobSet: NAME-REPLICATED-JOB-POD.SUBDOMAIN; job and pod are the first.
    first = f"{manifest['metadata']['name']}-{replicated['name']}-0-0"
    assert host == f"{first}.{manifest['spec']['network']['subdomain']}"
    assert [int(port)] == [item["containerPort"] for item in container["ports"]]
    source = env["JAXSOUND_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert source == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["args"] == FLAGS


def outcome(manifest: dict[str, Any], status: int, *conditions: str) -> str:
    """What becomes of a pod that ended so, by Kubernetes' rules: the first that matches."""
    job = job_of(manifest)
    for rule in job["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {"values": []})["values"]
        wanted = {item["type"] for item in rule.get("onPodConditions", [])}
        if status in codes or wanted & set(conditions):
            if rule["action"] == "Ignore":
                return "replaced"
            (ends,) = manifest["spec"]["failurePolicy"]["rules"]
            assert ends["onJobFailureReasons"] == ["PodFailurePolicy"]
            return str(ends["action"])
    assert job["backoffLimit"] == 0  # so the Job fails at once
    return f"all restart, {manifest['spec']['failurePolicy']['maxRestarts']} times"


def test_what_becomes_of_a_pod_that_ends(manifest: dict[str, Any]) -> None:
    assert outcome(manifest, 75) == "replaced"
    assert outcome(manifest, 2) == "FailJobSet"
    assert outcome(manifest, 1) == outcome(manifest, 137) == "all restart, 5 times"
    assert outcome(manifest, 137, "DisruptionTarget") == "replaced"
    pod = job_of(manifest)["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # or Kubernetes refuses the policy
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_gpus_and_the_volume_are_asked_for() -> None:
    made = yaml.safe_load(launch(*CALLS["hosts"], "--", *FLAGS).stdout)
    container = container_of(made)
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    (volume,) = job_of(made)["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "runs"}
    (mount,) = container["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/runs"}
    env = {item["name"]: item.get("value", "") for item in container["env"]}
    assert env["JAXSOUND_CACHE"].startswith(mount["mountPath"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["esc50", "--", *FLAGS], "--image"),
        (["ESC_50", "--image=x", "--", *FLAGS], "NAME must be"),
        (["esc50", "--image=x", "--hosts=0", "--", *FLAGS], "N must be 1 or more"),
        (["esc50", "--image=x", "--hosts=2", "--", *FLAGS], "several hosts need a --claim"),
        (["esc50", "--image=x", "--", "--config=a.py"], "write --workdir=... after --"),
        (["esc50", "--image=x"], "write --config=... after --"),
    ],
)
def test_a_bad_call_says_what_is_wrong(args: list[str], message: str) -> None:
    done = launch(*args)
    assert done.returncode == 2
    assert message in done.stderr
    assert (done.stdout, "Traceback" in done.stderr) == ("", False)
