"""Kill `tood sync` at random moments, repeat it, and hold what MLflow then has against an undisturbed mirror.

    python benchmarks/sync_soak.py results/demo --kills 20

Works on copies of the study in a temporary folder. Half of the kills strike while everything is new, the database too,
and half while changed runs take the place of those that were mirrored. Prints a line for each kill, and fails if a
mirror differs, if a second repetition has anything left to do, or if what a killed process left is still there.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOOD = Path(sys.executable).parent / "tood"
RUN_FILES = ("config.yaml", "train.json", "metrics.json", "history.csv", "pr.csv", "alignment.json")


def copy_study(study: Path, project: Path) -> None:
    """The files that are mirrored."""
    target = project / "results" / study.name
    for run in (path.parent for path in study.glob("*/config.yaml")):
        for file in [*(run / name for name in RUN_FILES), *run.glob("samples/*.png")]:
            if file.is_file():
                (target / file.relative_to(study)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target / file.relative_to(study))
    for file in [*study.glob("*.*"), *study.glob("figures/*.png")]:
        if file.is_file():
            (target / file.relative_to(study)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(study))


def shorten_histories(project: Path) -> None:
    """Take the first rows away, which cannot be taken back from MLflow in place."""
    for path in project.glob("results/*/*/history.csv"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], *lines[3:]]) + "\n")


def start(project: Path) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [str(TOOD), "sync"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sync(project: Path) -> str:
    """What a whole mirroring says."""
    process = start(project)
    said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"sync fails: {said}")
    return said.strip()


def killed(project: Path, after: float) -> bool:
    """Whether a mirroring was killed so many seconds after its start, before its end."""
    process = start(project)
    try:
        process.wait(after)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    finally:
        assert process.stdout is not None
        process.stdout.close()


def mirror(project: Path) -> dict[str, Any]:
    """All that MLflow has of the study, but for the ids it made up."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    found: dict[str, Any] = {}
    for experiment in client.search_experiments():
        runs = client.search_runs([experiment.experiment_id])
        names = {run.info.run_id: run.info.run_name for run in runs}
        for run in runs:
            tags = dict(run.data.tags)
            tags["mlflow.parentRunId"] = names.get(tags.get("mlflow.parentRunId", ""), "")
            points = sorted(
                (point.key, point.step, point.timestamp, point.value)
                for key in run.data.metrics
                for point in client.get_metric_history(run.info.run_id, key)
            )
            root = Path(run.info.artifact_uri)
            files = {
                path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in root.rglob("*")
                if path.is_file()
            }
            times = (run.info.start_time, run.info.end_time)
            content = [tags, run.data.params, points, files, run.info.status, times]
            found.setdefault(f"{experiment.name}/{run.info.run_name}", []).append(content)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="a finished study, results/<study>")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        mirrored = Path(folder) / "first"
        copy_study(options.study.resolve(), mirrored)
        began = time.monotonic()
        sync(mirrored)
        whole = time.monotonic() - began
        reference = {"new": mirror(mirrored)}
        changed = Path(folder) / "changed"
        copy_study(options.study.resolve(), changed)
        shorten_histories(changed)
        sync(changed)
        reference["changed"] = mirror(changed)
        print(f"an undisturbed mirroring takes {whole:.1f} s", flush=True)
        strikes = misses = 0
        while strikes < options.kills:
            project = Path(folder) / f"project{strikes + misses}"  # MLflow keeps a database open by its name
            copy_study(options.study.resolve(), project)
            kind = "new" if strikes % 2 == 0 else "changed"
            if kind == "changed":
                sync(project)
                shorten_histories(project)
            after = rng.uniform(0.5, 1.1) * whole * (1.0 if kind == "new" else 0.6)
            if not killed(project, after):
                misses += 1
                continue
            strikes += 1
            left = [path.name for path in project.glob(".tood-*")]
            said = sync(project)
            exact = json.dumps(mirror(project), sort_keys=True) == json.dumps(reference[kind], sort_keys=True)
            again = sync(project)
            stale = [path.name for path in project.rglob(".tood-*")]
            print(
                f"{strikes:>3} {kind:<8} killed after {after:5.2f} s, left {len(left)}: {said}; exact {exact}",
                flush=True,
            )
            if not exact or "created" in again or "updated" in again or "replaced" in again or stale:
                raise SystemExit(f"not the mirror: {again} {stale}")
            shutil.rmtree(project)
        print(f"{strikes} kills, {misses} came too late; every mirror exact, nothing left to do the second time")


if __name__ == "__main__":
    main()
