#!/usr/bin/env python3
"""Make a Kubernetes Job of a job script of Snakemake's and print its name.

The pod sees what Snakemake sees: the same image (TOOD_IMAGE) and the same folder, on the volume of the claim TOOD_CLAIM
mounted at TOOD_MOUNT (by default the folder above the project's). TOOD_NAMESPACE names the namespace.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

# Process 1 of a container is not ended by SIGTERM, and its children never hear of it: pass it on, so that a training
# saves its state when the pod is evicted. The shells in between ignore it and so live until the training has ended.
RUN = """
trap 'kill -TERM -1' TERM
(trap '' TERM; exec sh "$0") & child=$!
wait $child; status=$?
while kill -0 $child 2> /dev/null; do wait $child; status=$?; done
exit $status
"""
GRACE = 60  # seconds from SIGTERM to SIGKILL; saving takes up to 30


def manifest(options: argparse.Namespace, image: str, claim: str, mount: str) -> dict[str, object]:
    """The Job; memory and GPUs are limits as well as requests, CPUs are requests only."""
    asked = {"cpu": str(options.cpus), "memory": f"{options.memory}M"}
    limits = {"memory": f"{options.memory}M"}
    if options.gpu:
        limits["nvidia.com/gpu"] = str(options.gpu)
    container = {
        "name": "snakemake",
        "image": image,
        "command": ["sh", "-c", RUN, str(Path(options.script).resolve())],
        "workingDir": str(Path.cwd()),
        "resources": {"requests": asked, "limits": limits},
        "volumeMounts": [{"name": "shared", "mountPath": mount}, {"name": "memory", "mountPath": "/dev/shm"}],
    }
    pod = {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},  # NCCL's, between GPUs of a pod
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"tood-{options.name.replace('_', '-')}-", "labels": {"app": "tood"}},
        "spec": {
            "backoffLimit": 0,  # Snakemake repeats
            "activeDeadlineSeconds": 60 * options.minutes,
            "ttlSecondsAfterFinished": 7 * 24 * 3600,
            "template": {"metadata": {"labels": {"app": "tood"}}, "spec": pod},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    for number in ("gpu", "cpus", "memory", "minutes"):
        parser.add_argument(f"--{number}", type=int, required=True)
    parser.add_argument("script")
    options = parser.parse_args()
    missing = [key for key in ("TOOD_IMAGE", "TOOD_CLAIM") if not os.environ.get(key)]
    if missing:
        sys.exit(f"set {' and '.join(missing)}: the image and the volume claim that pods use (docs/scaling.md).")
    mount = os.environ.get("TOOD_MOUNT") or str(Path.cwd().parent)
    job = manifest(options, os.environ["TOOD_IMAGE"], os.environ["TOOD_CLAIM"], mount)
    command = ["kubectl", "create", "--filename", "-", "--output", "jsonpath={.metadata.name}"]
    if os.environ.get("TOOD_NAMESPACE"):
        command += ["--namespace", os.environ["TOOD_NAMESPACE"]]
    done = subprocess.run(command, input=json.dumps(job), text=True, stdout=subprocess.PIPE, check=False)
    print(done.stdout.strip())
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
