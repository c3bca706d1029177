"""A study through the queue of a real Slurm, with one job killed: ``benchmarks/cluster/slurm_localhost.sh``.

1. Three short runs go through ``profiles/slurm``; one training is killed by ``scancel`` and another one requeued, as
   pre-emption does. Both continue from their checkpoints, and every number equals that of runs nobody disturbed.
2. A training is submitted as it would be on two GPUs, to read from Slurm what it was asked for.

Prints what happened; exits with 1 when something is not as promised.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/workflow"))
from tiny_project import Project, build_project

RUNS = {
    "tood": {
        "method": "tood",
        "seed": 0,
        "overrides": {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}},
    },
    "atss": {"method": "atss"},
    "gfl": {"method": "gfl"},
}
SMALL = {  # laid over profiles/slurm: jobs of one thread, and room for one training on each node
    "slurm-init-seconds-before-status-checks": 2,
    "set-threads": dict.fromkeys(("pretrain_trunk", "train", "evaluate"), 1),
    "set-resources": {"train": {"gpu": 0, "mem_mb": 100_000, "runtime": 30}},
}
PATIENCE = 1200  # seconds for anything to happen
_MEASURED = ["time", "images_per_second"]  # columns of a history


def build(folder: Path) -> Project:
    project = build_project(folder)
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
    return pd.DataFrame(rows, columns=["job", "state", "what", "node", "reason"]).sort_values("job")


def running_job(run: str, state: Path, snakemake: "subprocess.Popen[bytes]") -> str:
    """The job that trains ``run``, once it has written a checkpoint."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and snakemake.poll() is None:
        found = jobs().query(f"what == 'rule_train_wildcards_{run}' and state == 'RUNNING'")
        if len(found) and list(state.glob("*/step-*.pt")):
            return str(found["job"].iloc[-1])
        time.sleep(0.2)
    raise SystemExit(f"{run}: no job of it wrote a checkpoint")


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


def disturbed_study(project: Project, log: Path) -> None:
    profiles = ["--profile", "profiles/slurm", "--profile", "small"]
    snakemake = [str(Path(sys.executable).parent / "snakemake"), *profiles]
    with log.open("w") as handle:
        process = subprocess.Popen(snakemake, cwd=project.folder, stdout=handle, stderr=subprocess.STDOUT)
        results = project.folder / "results/demo"
        try:
            for run, command in (("tood", ["scancel"]), ("atss", ["scontrol", "requeue"])):
                job = running_job(run, results / run / "state", process)
                print(f"{' '.join(command)} {job}: the training of {run}", flush=True)
                subprocess.run([*command, job], check=True)
            status = process.wait(timeout=PATIENCE)
        finally:
            process.terminate()
    if status:
        raise SystemExit(f"snakemake ended with status {status}:\n{log.read_text()[-6000:]}")


def request_for_gpus(project: Project) -> str:
    """What Slurm was asked for by the profile as it is, for a training on two GPUs."""
    shutil.rmtree(project.folder / "results/demo/gfl")
    project.run(
        *("snakemake", "results/demo/gfl/model.pt", "--profile", "profiles/slurm"),
        *("--slurm-init-seconds-before-status-checks", "2"),
        status=None,
        TOOD_GPUS="2",
    )
    job = jobs().query("what == 'rule_train_wildcards_gfl'")["job"].iloc[-1]
    return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tood-slurm-study-"))
    queued, alone = build(folder / "queued"), build(folder / "alone")
    wrong = []
    began = time.monotonic()
    disturbed_study(queued, folder / "snakemake.log")
    print(f"the study took {time.monotonic() - began:.0f} s; jobs:")
    print(jobs().to_string(index=False))
    said = "".join(path.read_text() for path in (queued.folder / "results/logs/demo").glob("train-*.log"))
    continued = dict(re.findall(r" (\w+) +continues after step (\d+)", said))
    print("continued:", ", ".join(f"{run} after step {step}" for run, step in continued.items()))
    wrong += [f"{run} did not continue" for run in ("tood", "atss") if run not in continued]

    targets = [f"results/demo/{run}/metrics.json" for run in RUNS]
    alone.snakemake(*targets, "--config", "gpu=0", "threads=1", "--set-threads", "evaluate=1")
    for run in RUNS:
        differences = same(run, queued.folder / "results/demo", alone.folder / "results/demo")
        print(f"{run}: {'differs in ' + ', '.join(differences) if differences else 'equal, bit for bit'}")
        wrong += differences

    asked = request_for_gpus(queued)
    wanted = ("TresPerJob=gres:gpu:2", "NumNodes=1", "CPUs/Task=16", "MinMemoryNode=62.50G", "TimeLimit=1-00:00:00")
    print("on two GPUs Slurm is asked for:", *(one for one in wanted if one in asked))
    wrong += [f"{one} was not asked for" for one in wanted if one not in asked]
    shutil.rmtree(folder)
    if wrong:
        raise SystemExit("not as promised: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
