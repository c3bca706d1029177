"""Kill a study again and again, at random moments and in every way, then compare it with one that was left alone.

    python benchmarks/soak.py --kills 30                      through Snakemake: trainers, Snakemake itself, all of it
    python benchmarks/soak.py --kills 30 --processes 2        one training in two processes: launcher, torchrun, ranks

Nothing is cleaned up between two lives: each begins by repeating the same command. A study that gets to its end
before all kills are spent is compared and begun once more. Weights, history, detections and metrics have to be equal
bit for bit, columns that measure time or memory aside. The exit status says whether they were.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/training"))
from tiny_run import BACKBONE, DATASET, ROOT, SCHEDULE

TIMES = {"time", "images_per_second", "seconds", "attempts", "peak_memory_bytes"}
RUNS = ("tood", "noisy_anchor")  # phases of training; running divisors
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT / "src"),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
LONG = 1200  # seconds after which a life without a kill counts as hung


def make_project(folder: Path, epochs: int) -> Path:
    folder.mkdir(parents=True)
    for name in ("Snakefile", "workflow", "profiles", "src", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params")
    blocks = {
        "studies/soak": {
            "title": "Soak",
            "dataset": "soak",
            "baseline": RUNS[0],
            "common": {"backbone": "soak", "schedule": "soak"},
            "runs": {
                "tood": {
                    "method": "tood",
                    "overrides": {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}},
                },
                "noisy_anchor": {
                    "method": "noisy_anchor",
                    "overrides": {"method": {"head": {"norm": "group"}}},
                },
            },
        },
        "datasets/soak": {
            **DATASET,
            "splits": {"train": {"images": 64, "seed": 1}, "val": {"images": 16, "seed": 2}},
        },
        "backbones/soak": BACKBONE,
        "schedules/soak": {
            **SCHEDULE,
            "epochs": epochs,
            "milestones": [epochs * 2 // 3],
            "batch": 8,
            "lr_batch": 8,
            "warmup": {"iterations": 20, "ratio": 0.1},
            "evaluate_every": 5,
            "checkpoint_every": 3,
        },
    }
    for block, content in blocks.items():
        (folder / "params" / f"{block}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


class Life:
    """One start of the command, with all processes that come of it."""

    def __init__(self, project: Path, command: list[str]) -> None:
        self.said = (project / "said.log").open("a")
        self.process = subprocess.Popen(
            command, cwd=project, stdout=self.said, stderr=self.said, env=ENVIRONMENT, start_new_session=True
        )

    def kill(self, project: Path, target: str, number: signal.Signals) -> str | None:
        """Signal the processes of a kind; None if there are none at this moment."""
        if target == "everything":
            os.killpg(self.process.pid, number)
            for pid in processes_in(project):
                send(pid, number)
        elif target == "main":
            self.process.send_signal(number)
        else:
            found = [pid for pid, words in processes_in(project).items() if matches(target, pid, words)]
            if not found:
                return None
            send(random.choice(found), number)
        return f"{number.name} to {target}"


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def processes_in(folder: Path) -> dict[int, list[str]]:
    """Processes that work in the project, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").resolve() == folder:
                    found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
    return found


def matches(target: str, pid: int, words: list[str]) -> bool:
    if target == "torchrun":
        return "torch.distributed.run" in words
    try:
        environment = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return False
    ranked = any(word.startswith("RANK=") for word in environment)
    return "train" in words and (ranked if target == "rank" else not ranked)


def results_of(project: Path) -> dict[str, object]:
    """Everything that has to be equal, by file."""
    found: dict[str, object] = {}
    for folder in sorted((project / "results/soak").iterdir()):
        if not (folder / "model.pt").exists():
            continue
        weights = torch.load(folder / "model.pt", weights_only=True)["detector"]
        found[f"{folder.name}/model.pt"] = {name: value.numpy().tobytes() for name, value in weights.items()}
        with (folder / "history.csv").open() as handle:
            rows = [{key: row[key] for key in row if key not in TIMES} for row in csv.DictReader(handle)]
        found[f"{folder.name}/history.csv"] = rows
        for name in ("detections.json", "metrics.json", "train.json"):
            if (folder / name).exists():
                content = json.loads((folder / name).read_text())
                if isinstance(content, dict):
                    content = {key: value for key, value in content.items() if key not in TIMES}
                found[f"{folder.name}/{name}"] = content
    return found


def finish(project: Path, command: list[str]) -> None:
    life = Life(project, command)
    if life.process.wait(timeout=LONG) != 0:
        sys.exit(f"the study failed by itself; see {project / 'said.log'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="loader processes, with --processes")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds between two kills, at most")
    parser.add_argument("--keep", action="store_true", help="leave the project folders for inspection")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a background shell all would ignore Ctrl-C
    random.seed(arguments.seed)
    place = Path(tempfile.mkdtemp(prefix="soak-")).resolve()
    if arguments.processes == 1:
        command = ["snakemake", "--cores", "2", "--config", "study=soak", "threads=1", "gpu=0"]
        kinds = [("trainer", n) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)]
        kinds += [("main", n) for n in (signal.SIGKILL, signal.SIGTERM)]
        kinds += [("everything", n) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)]
    else:
        command = ["tood", "train", "--run", f"results/soak/{RUNS[0]}", "--gpu", "0", "--threads", "2"]
        command += ["--processes", str(arguments.processes), "--workers", str(arguments.workers)]
        kinds = [("rank", n) for n in (signal.SIGKILL, signal.SIGTERM)]
        kinds += [("main", n) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)]
        kinds += [("torchrun", signal.SIGKILL), ("everything", signal.SIGKILL), ("everything", signal.SIGTERM)]
    quiet, beaten = (make_project(place / name, arguments.epochs) for name in ("quiet", "beaten"))
    for project in (quiet, beaten):
        prepare = [sys.executable, "-m", "tood.cli.main", "data", "prepare", "soak"]
        subprocess.run(prepare, cwd=project, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    finish(quiet, command)
    expected = results_of(quiet)
    print(f"left alone: {time.monotonic() - started:.0f} s, {len(expected)} files to compare", flush=True)

    done: Counter[str] = Counter()
    starts, rounds, differing = 0, 0, []
    life: Life | None = None

    def compare_round() -> None:
        nonlocal rounds
        rounds += 1
        found = results_of(beaten)
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        differing.extend(wrong)
        print(f"round {rounds}: {sum(done.values())} kills, {starts} starts, differing files: {wrong}", flush=True)
        shutil.rmtree(beaten / "results")

    started = time.monotonic()
    while sum(done.values()) < arguments.kills:
        if life is None or life.process.poll() is not None:
            if life is not None and life.process.returncode == 0:
                compare_round()
            life = Life(beaten, command)
            starts += 1
        try:
            life.process.wait(timeout=random.uniform(0.5, arguments.longest))
            continue
        except subprocess.TimeoutExpired:
            target, number = random.choice(kinds)
        kind = life.kill(beaten, target, number)
        if kind is not None:
            done[kind] += 1
        if target in ("main", "everything"):
            life.process.wait(timeout=LONG)
    if life is not None and life.process.poll() is None:
        life.process.wait(timeout=LONG)
    if life is not None and life.process.returncode != 0:
        starts += 1
        finish(beaten, command)
    compare_round()
    print(
        f"{sum(done.values())} kills in {time.monotonic() - started:.0f} s, {starts} starts, {rounds} studies finished"
    )
    for kind, count in sorted(done.items()):
        print(f"  {count:3d} x {kind}")
    left = processes_in(beaten)
    print(f"processes left behind: {len(left)}; files that differ: {len(differing)}")
    if arguments.keep:
        print(f"kept: {place}")
    else:
        shutil.rmtree(place)
    return 1 if differing or left else 0


if __name__ == "__main__":
    sys.exit(main())
