r"""Write the manifest of a training on N hosts of a Kubernetes cluster that has JobSet.

    python launch/jobset.py esc50 --image=REGISTRY/jaxsound-train --hosts=2 --gpus=8 --claim=runs \
        -- --config=configs/esc50_transformer.py --workdir=/runs/esc50 | kubectl apply -f -

A host is one pod with one process, which sees all of its GPUs. The claim is a volume that every
pod can write (ReadWriteMany); it is mounted at /runs, and prepared data and features are kept in
/runs/cache. One host needs no claim where --workdir is a gs:// or s3:// address.

Pods that were told to stop leave with status 75 once they have saved, and so do those that have
lost another. They are replaced, and the job goes on from its checkpoint. Status 2 is an error that
a restart would not mend, and ends the JobSet. After any other failure it starts all pods again, a
few times.
"""

import argparse
import re
import sys
from typing import Any

import yaml

PORT = 8476  # of the coordinator, as JAX has it elsewhere
REQUEUE = 75  # of a process that was told to stop and has saved, or that has lost another
WRONG = 2  # of a process that has said what is wrong: a restart would not mend it
EVICTED = (
    "DisruptionTarget"  # a pod that Kubernetes itself has ended, for another or a drained node
)
RESTARTS = 5  # of all pods, after failures that a restart may mend: a host that was lost, say
GRACE_SECONDS = 60  # between SIGTERM and SIGKILL; saving takes 30 at most
USER = 1000  # of the image, launch/docker/train.Dockerfile
WORKERS = "workers"
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This script's own options, and jaxsound.main's: everything after `--`."""
    parser = argparse.ArgumentParser(
        usage="python launch/jobset.py NAME --image=IMAGE [--hosts=N] [--gpus=G] [--claim=CLAIM] "
        "[--namespace=SPACE] -- --config=CONFIG --workdir=DIR [FLAG ...]"
    )
    add = parser.add_argument
    add("name", help="of the JobSet; its pods are NAME-workers-0-K")
    add("--image", required=True, help="made from launch/docker/train.Dockerfile")
    add("--hosts", type=int, default=1, metavar="N", help="pods, each on a host of its own (1)")
    add("--gpus", type=int, default=0, metavar="G", help="GPUs of each host (0)")
    add("--claim", default="", help="volume claim that is mounted at /runs")
    add("--namespace", default="", help="of the JobSet")
    cut = argv.index("--") if "--" in argv else len(argv)
    options, flags = parser.parse_args(argv[:cut]), argv[cut + 1 :]
    # Pods are hosts in DNS, and JobSet adds to the name.
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", options.name):
        parser.error("NAME must be at most 40 of a-z, 0-9 and -, and begin with a letter")
    if options.hosts < 1 or options.gpus < 0:
        parser.error("N must be 1 or more, and G not negative")
    for flag in ("--config", "--workdir"):
        if not any(given.startswith(f"{flag}=") for given in flags):
            parser.error(f"write {flag}=... after --")
    if options.hosts > 1 and not options.claim:
        parser.error("several hosts need a --claim: a work directory that all of them write to")
    return options, flags


def manifest(options: argparse.Namespace, flags: list[str]) -> dict[str, Any]:
    """The JobSet (jobset.x-k8s.io/v1alpha2) as Kubernetes reads it."""
    place = {"namespace": options.namespace} if options.namespace else {}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": options.name} | place,
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": options.name},
            "failurePolicy": {
                "maxRestarts": RESTARTS,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [
                {"name": WORKERS, "replicas": 1, "template": {"spec": job(options, flags)}}
            ],
        },
    }


def job(options: argparse.Namespace, flags: list[str]) -> dict[str, Any]:
    """The spec of the one Job in it, of batch/v1: a pod for each host."""
    return {
        "parallelism": options.hosts,
        "completions": options.hosts,
        "completionMode": "Indexed",
        # One pod that fails ends the Job, and JobSet starts them all: none goes on without another.
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [REQUEUE]}},
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [WRONG]}},
                {"action": "Ignore", "onPodConditions": [{"type": EVICTED, "status": "True"}]},
            ]
        },
        "template": {"spec": pod(options, flags)},
    }


def pod(options: argparse.Namespace, flags: list[str]) -> dict[str, Any]:
    """The spec of one host's pod."""
    container: dict[str, Any] = {
        "name": "train",
        "image": options.image,
        "args": flags,
        "env": environment(options),
        "ports": [{"containerPort": PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",  # what a policy for failures needs
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER},
        "containers": [container],
    }
    if options.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": options.gpus}}
    if options.claim:
        container["volumeMounts"] = [{"name": "runs", "mountPath": "/runs"}]
        claim = {"claimName": options.claim}
        spec["volumes"] = [{"name": "runs", "persistentVolumeClaim": claim}]
    return spec


def environment(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What jaxsound.main reads of a pod's place; pod 0 is the coordinator, by its name in DNS."""
    coordinator = f"{options.name}-{WORKERS}-0-0.{options.name}:{PORT}"
    env: list[dict[str, Any]] = [
        {"name": "JAXSOUND_COORDINATOR", "value": coordinator},
        {"name": "JAXSOUND_NUM_PROCESSES", "value": str(options.hosts)},
        {"name": "JAXSOUND_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
    ]
    if options.claim:
        env.append({"name": "JAXSOUND_CACHE", "value": "/runs/cache"})
    return env


def main(argv: list[str]) -> int:
    options, flags = parse(argv)
    yaml.safe_dump(manifest(options, flags), sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
