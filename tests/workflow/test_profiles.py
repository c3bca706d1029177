"""The profiles of cluster engines: what a study asks an engine for, and a job that goes through one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import ROOT, Project

SUBMIT = ROOT / "profiles/kubernetes/submit.py"
KUBECTL = f"""#!{sys.executable}
# Stands in for kubectl: notes every call, and runs a Job at once, on this machine.
import json, os, subprocess, sys
from pathlib import Path
folder = Path(os.environ["CALLS"])
if sys.argv[1] == "create":
    job = json.load(sys.stdin)
    name = job["metadata"]["generateName"] + str(len(list(folder.iterdir())))
    container = job["spec"]["template"]["spec"]["containers"][0]
    done = subprocess.run(container["command"], cwd=container["workingDir"], stdout=2)
    job["status"] = "Complete" if done.returncode == 0 else "Failed"
    (folder / name).write_text(json.dumps(job))
    print(name)
elif sys.argv[1] == "get":
    print(sys.argv[3], json.loads((folder / sys.argv[3]).read_text())["status"])
"""


def requests(said: str) -> dict[str, dict[str, str]]:
    """Threads and resources by rule, from Snakemake's plan."""
    found = {}
    for rule, body in re.findall(r"^rule (\w+):\n((?:    .*\n)+)", said, re.MULTILINE):
        threads = re.findall(r"threads: (\d+)", body) or ["1"]
        resources = dict(re.findall(r"(\w+)=([^,\n]+)", re.findall(r"resources: (.*)", body)[0]))
        found[rule] = {**resources, "threads": threads[0]}
    return found


def plan(project: Project, engine: str, gpus: str) -> dict[str, dict[str, str]]:
    options = ("-n", "--quiet", "host", "--profile", f"profiles/{engine}")
    return requests(project.run("snakemake", *options, TOOD_GPUS=gpus, TOOD_IMAGE="i", TOOD_CLAIM="c"))


@pytest.mark.parametrize("engine", ["slurm", "kubernetes"])
def test_gpus_and_what_they_need_go_to_the_jobs_that_compute(fresh: Project, engine: str) -> None:
    asked = plan(fresh, engine, "4")
    assert {name: (asked[name]["gpu"], asked[name]["threads"]) for name in ("train", "evaluate", "analyse")} == {
        "train": ("4", "32"),
        "evaluate": ("1", "8"),
        "analyse": ("1", "8"),
    }
    assert asked["train"]["mem_mb"] == "128000"
    assert all("runtime" in resources for resources in asked.values())
    assert all(asked[name].get("gpu", "0") == "0" for name in ("prepare_data", "pretrain_backbone", "compare"))


@pytest.mark.long
def test_a_job_goes_through_kubernetes(fresh: Project, tmp_path: Path) -> None:
    """With a stand-in for kubectl: the manifest, the command that the pod would run, and its outcome."""
    tools, calls = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    calls.mkdir()
    (tools / "kubectl").write_text(KUBECTL)
    (tools / "kubectl").chmod(0o755)
    said = fresh.run(
        *("snakemake", "data/pretrained/light.pt", "--profile", "profiles/kubernetes"),
        *("--seconds-between-status-checks", "1", "--latency-wait", "1"),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{tools}{os.pathsep}{os.environ['PATH']}",
        CALLS=str(calls),
        TOOD_IMAGE="registry/tood:1",
        TOOD_CLAIM="study",
    )
    assert (fresh.folder / "data/pretrained/light.pt").is_file(), said
    (job,) = [json.loads(path.read_text()) for path in calls.iterdir()]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "registry/tood:1"
    assert container["workingDir"] == str(fresh.folder)
    assert container["resources"] == {
        "requests": {"cpu": "8", "memory": "16000M"},
        "limits": {"memory": "16000M"},
    }
    assert container["volumeMounts"][0] == {"name": "shared", "mountPath": str(fresh.folder.parent)}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "study"}


def test_an_image_and_a_volume_must_be_named() -> None:
    command = [str(SUBMIT), "--name=train", "--gpu=1", "--cpus=8", "--memory=1000", "--minutes=5", "script"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TOOD_")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "set TOOD_IMAGE and TOOD_CLAIM: the image and the volume claim that pods use (docs/scaling.md).\n"
    )
