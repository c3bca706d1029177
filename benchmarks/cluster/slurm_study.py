"""A study through the queue of a real Slurm, disturbed: ``benchmarks/cluster/slurm_localhost.sh``.

1. Four short runs go through ``profiles/slurm``. Ctrl-C ends Snakemake, and with it the jobs; the command is repeated.
   Then one training is killed by ``scancel``, one requeued as pre-emption does, the node of one fails, and one gets to
   its time limit. All continue from their checkpoints, and every number equals that of runs nobody disturbed, which
   read images in no other processes, where these have two each.
2. A training is submitted as it would be on two GPUs, to read from Slurm what it was asked for.

Prints what happened; exits with 1 when something is not as promised.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests/workflow"))
from tiny_project import ROOT, Project, build_project

RUNS = {
    "tood": {
        "method": "tood",
        "seed": 0,
        "overrides": {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}},
    },
    "atss": {"method": "atss"},
    "gfl": {"method": "gfl"},
    "paa": {"method": "paa", "overrides": {"schedule": {"epochs": 300, "evaluate_every": 300}}},  # for over a minute
}
SMALL = {  # laid over profiles/slurm: jobs of one thread, and room for one training on each node
    "slurm-init-seconds-before-status-checks": 2,
    "set-threads": dict.fromkeys(("pretrain_backbone", "train", "evaluate"), 1),
    "set-resources": {"train": {"gpu": 0, "mem_mb": 100_000, "runtime": 30}},
}
PROFILES = ("--profile", "profiles/slurm", "--profile", "small")
PATIENCE = 1200  # seconds for anything to happen
_MEASURED = ["time", "images_per_second"]  # columns of a history


def build(folder: Path, workers: int = 0) -> Project:
    """Whose trainings read images in so many processes each."""
    project = build_project(folder)
    (folder / "workflow").unlink()
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    rules = folder / "workflow/rules/runs.smk"
    rules.write_text(rules.read_text().replace("tood train --run", f"tood train --workers {workers} --run"))
    study = yaml.safe_load((folder / "params/studies/demo.yaml").read_text())
    project.edit("studies/demo", **{**study, "runs": RUNS, "analysis": []})
    project.edit("schedules/demo", epochs=40, milestones=[30], checkpoint_every=4, evaluate_every=40)
    (folder / "small").mkdir()
    (folder / "small/profile.yaml").write_text(yaml.safe_dump(SMALL))
    return project


def jobs() -> pd.DataFrame:
    """What Slurm knows of its jobs: id, state, comment (rule and wildcards), node, restarts."""
    form = "%A|%T|%k|%N|%r"
    said = subprocess.run(
        ["squeue", "--states=all", "--noheader", f"--format={form}"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split("|") for line in said.splitlines()]
    return (
        pd.DataFrame(rows, columns=["job", "state", "what", "node", "reason"]).astype({"job": int}).sort_values("job")
    )


def training(run: str) -> "pd.Series[Any] | None":
    """The job that trains ``run`` now."""
    found = jobs().query(f"what == 'rule_train_wildcards_{run}' and state == 'RUNNING'")
    return found.iloc[-1] if len(found) else None


def checkpoints(results: Path, run: str) -> set[str]:
    return {path.name for path in (results / run / "state").glob("*/step-*.pt")}


def same(run: str, left: Path, right: Path) -> list[str]:
    """What differs between two results of one run, measurements of time and memory aside."""
    ours, theirs = (torch.load(folder / run / "model.pt", weights_only=True) for folder in (left, right))
    wrong = [] if equal(ours, theirs) else ["weights"]
    histories = [pd.read_csv(folder / run / "history.csv").drop(columns=_MEASURED) for folder in (left, right)]
    if not histories[0].equals(histories[1]):
        wrong.append("history")
    if (left / run / "detections.json").read_bytes() != (right / run / "detections.json").read_bytes():
        wrong.append("detections")
    return wrong


def equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return one == other


@contextmanager
def snakemake(project: Project, log: Path, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Snakemake with the cluster's profile; what is still running of it at the end is interrupted."""
    with log.open("a") as handle:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "snakemake"), *arguments],
            cwd=project.folder,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=PATIENCE)


def active() -> "pd.DataFrame":
    return jobs().query("state in ('PENDING', 'RUNNING', 'COMPLETING', 'CONFIGURING')")


def interrupted_study(project: Project, log: Path) -> None:
    results = project.folder / "results/demo"
    with snakemake(project, log, *PROFILES) as process:
        wait_for(lambda: any(checkpoints(results, run) for run in RUNS), PATIENCE)
        process.send_signal(signal.SIGINT)
        status, began = process.wait(timeout=PATIENCE), time.monotonic()
    wait_for(lambda: not jobs()["state"].isin(["PENDING", "RUNNING", "COMPLETING"]).any(), PATIENCE)
    print(f"Ctrl-C: Snakemake ended with {status}, the last of its jobs {time.monotonic() - began:.0f} s later")


def disturbed_study(project: Project, log: Path) -> None:
    """Disturb each training once, after a checkpoint that this study wrote."""
    results = project.folder / "results/demo"
    before = {run: checkpoints(results, run) for run in RUNS}
    disturbances = {
        "tood": "scancel {job}",
        "atss": "scontrol requeue {job}",
        "gfl": "scontrol update NodeName={node} State=DOWN Reason=trial",  # returns by itself (ReturnToService)
        "paa": "scontrol update JobId={job} TimeLimit=1",
    }
    deadline = time.monotonic() + PATIENCE
    with snakemake(project, log, *PROFILES) as process:
        while disturbances and process.poll() is None and time.monotonic() < deadline:
            for run in [one for one in disturbances if checkpoints(results, one) - before[one]]:
                job = training(run)
                if job is None:
                    continue
                words = disturbances.pop(run).format(job=job["job"], node=job["node"])
                print(f"{run}: {words}", flush=True)
                subprocess.run(words.split(), check=True)
            time.sleep(0.2)
        status = process.wait(timeout=PATIENCE)
    if status or disturbances:
        raise SystemExit(f"snakemake ended with {status}, left {list(disturbances)}:\n{log.read_text()[-6000:]}")


def request_for_gpus(project: Project, log: Path) -> str:
    """What Slurm was asked for by the profile as it is, for a training on two GPUs."""
    shutil.rmtree(project.folder / "results/demo/gfl")
    wanted = ("results/demo/gfl/model.pt", "--profile", "profiles/slurm")
    with snakemake(project, log, *wanted, TOOD_GPUS="2"):
        wait_for(lambda: training("gfl") is not None, PATIENCE)
        job = training("gfl")
        assert job is not None
        words = ["scontrol", "show", "job", str(job["job"])]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def wait_for(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing happened in {seconds:.0f} s; jobs:\n{jobs()}")
        time.sleep(0.2)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a background shell all would ignore Ctrl-C
    folder = Path(tempfile.mkdtemp(prefix="tood-slurm-study-"))
    queued, alone = build(folder / "queued", workers=2), build(folder / "alone")
    wrong = []
    began = time.monotonic()
    log = folder / "snakemake.log"
    interrupted_study(queued, log)
    disturbed_study(queued, log)
    print(f"the study took {time.monotonic() - began:.0f} s; jobs:")
    print(jobs().to_string(index=False))
    wrong += [] if "TIMEOUT" in set(jobs()["state"]) else ["no job got to its time limit"]
    said = "".join(path.read_text() for path in (queued.folder / "results/logs/demo").glob("train-*.log"))
    continued = dict(re.findall(r" (\w+) +continues after step (\d+)", said))
    print("continued:", ", ".join(f"{run} after step {step}" for run, step in continued.items()))
    wrong += [f"{run} did not continue" for run in RUNS if run not in continued]

    targets = [f"results/demo/{run}/metrics.json" for run in RUNS]
    one = ("pretrain_backbone=1", "evaluate=1")  # as in the queue: another number of threads rounds otherwise
    alone.snakemake(*targets, "--config", "gpu=0", "threads=1", "--set-threads", *one)
    for run in RUNS:
        differences = same(run, queued.folder / "results/demo", alone.folder / "results/demo")
        print(f"{run}: {'differs in ' + ', '.join(differences) if differences else 'equal, bit for bit'}")
        wrong += differences

    asked = request_for_gpus(queued, log)
    wanted = ("TresPerJob=gres:gpu:2", "NumNodes=1", "CPUs/Task=16", "MinMemoryNode=62.50G", "TimeLimit=1-00:00:00")
    print("on two GPUs Slurm is asked for:", *(one for one in wanted if one in asked))
    wrong += [f"{one} was not asked for" for one in wanted if one not in asked]
    shutil.rmtree(folder)
    if wrong:
        raise SystemExit("not as promised: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
