"""Contents of MLflow runs (parameters, metrics, tags, artifacts), computed from a study's files.

Every point has the time at which it was logged, from ``history.csv``, so that mirroring the same files again
gives the same points.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tood.evaluation.coco_metrics import STATS
from tood.io.digests import file_digest
from tood.io.escape import escape
from tood.io.shared_constants import SYSTEM_FILE
from tood.io.write import visible
from tood.mlflow_mirror.data_inputs import DataInput, data_inputs
from tood.mlflow_mirror.pyfunc_model import ModelEntry, model_entry
from tood.reporting.flat_settings import MISSING, with_same_keys
from tood.reporting.run_folder import RunFolder
from tood.reporting.system_file import read_system
from tood.workflow.code_digest import combined
from tood.workflow.standing import changed_since

FINISHED, RUNNING = "FINISHED", "RUNNING"
_RUN_FILES = ("config.yaml", "train.json", "metrics.json", "history.csv", "pr.csv", "thresholds.json", "alignment.json")
_STUDY_FILES = (
    "comparison.csv",
    "details.csv",
    "comparison.md",
    "comparison.tex",
    "report.html",
    "alignment.csv",
    "alignment.md",
)
_ALIGNMENT = ("pcc_top50", "iou_top10", "correct", "redundant", "error")
_NOT_CURVES = ("step", "epoch", "time")
_MAX_NOTE = 5000
_NOT_IN_KEYS = re.compile(r"[^\w. :-]", re.ASCII)  # MLflow takes slashes too, but only where they make a tidy path
_MAX_KEY = 240  # of MLflow's 250 characters


@dataclass(frozen=True, order=True)
class Point:
    """One value of a metric; ``time`` in milliseconds since 1970."""

    key: str
    step: int
    value: float
    time: int


@dataclass(frozen=True)
class Artifact:
    """A file and the folder it belongs in below a run's artifacts."""

    path: Path
    folder: str = ""


@dataclass(frozen=True)
class Mirrored:
    """The wanted content of one MLflow run. ``identity`` holds the tags by which it is found again."""

    name: str
    identity: Mapping[str, str]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...]
    artifacts: tuple[Artifact, ...]
    status: str
    start: int
    end: int
    inputs: tuple[DataInput, ...] = ()
    model: ModelEntry | None = None
    """Has a digest of its own, for it is logged apart."""

    def artifact_paths(self) -> set[str]:
        """Where the artifacts lie below the run's folder of artifacts."""
        return {f"{one.folder}/{one.path.name}" if one.folder else one.path.name for one in self.artifacts}

    def digest(self) -> str:
        """Changes whenever anything that is mirrored does, the model apart."""
        content: list[Any] = [self.name, dict(self.identity), dict(self.tags), dict(self.params), self.status]
        content += [self.start, self.end, [[one.name, one.digest, one.context] for one in self.inputs]]
        content += [[point.key, point.step, point.value, point.time] for point in self.points]
        content += [[one.folder, one.path.name, file_digest(one.path)] for one in self.artifacts]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def run_folders(folder: Path) -> list[RunFolder]:
    """Runs of a study, by name: the subfolders that have a configuration.

    A training under way has its files there, or below ``state/`` while results of another configuration stay in place;
    it is one as soon as its history has a row, by which its beginning is known.
    """
    found = [RunFolder(path.parent) for path in sorted(folder.glob("*/config.yaml"))]
    return [
        run for one in found for run in (one, *_retrainings(one)) if (run.path / "train.json").is_file() or _begun(run)
    ]


def _retrainings(run: RunFolder) -> list[RunFolder]:
    """Trainings of a finished run with another configuration than that of its results."""
    if not (run.path / "train.json").is_file():
        return []
    others = sorted(path.parent for path in run.path.glob("state/*/config.yaml"))
    return [RunFolder(path, called=run.name) for path in others if path.name != run.training().fingerprint]


def _begun(run: RunFolder) -> bool:
    try:
        with (run.path / "history.csv").open("rb") as file:
            return len(file.readlines(1 << 16)) > 1
    except FileNotFoundError:
        return False


def find_studies(results: Path) -> list[str]:
    """Names of all studies below ``results`` that have at least one run."""
    found = {path.parent.parent.relative_to(results).as_posix() for path in results.glob("**/config.yaml")}
    return sorted(found - {"."})


def mirrored_runs(study: str, runs: list[RunFolder]) -> list[Mirrored]:
    """The runs of a study, with the same parameter keys for all. Raises UserError for broken files."""
    params = [_as_params(flat) for flat in with_same_keys([run.config() for run in runs])]
    return [_run(study, run, flat) for run, flat in zip(runs, params, strict=True)]


def mirrored_study(study: str, folder: Path, runs: list[Mirrored]) -> Mirrored:
    """The parent run of a study: its table, figures and report."""
    files = [Artifact(folder / name) for name in _STUDY_FILES]
    files += [Artifact(path, "figures") for path in visible(folder.glob("figures/*.png"))]
    table = folder / "comparison.md"
    note = {"mlflow.note.content": table.read_text("utf-8")[:_MAX_NOTE]} if table.is_file() else {}
    return Mirrored(
        name=study,
        identity={"tood.study": study, "tood.kind": "study"},
        tags=note,
        params={},
        points=(),
        artifacts=tuple(one for one in files if one.path.is_file()),
        status=FINISHED if table.is_file() else RUNNING,
        start=min((run.start for run in runs), default=0),
        end=max((run.end for run in runs), default=0),
    )


def _as_params(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings under keys that MLflow takes: one may end in the name of a file, with any characters."""
    params: dict[str, str] = {}
    for setting, value in settings.items():
        key = plain = _NOT_IN_KEYS.sub("_", setting)[:_MAX_KEY]
        number = 1
        while key in params:
            number += 1
            key = f"{plain} {number}"
        params[key] = escape(value)
    return params


def _run(study: str, run: RunFolder, params: Mapping[str, str]) -> Mirrored:
    history = run.history() if (run.path / "history.csv").is_file() else pd.DataFrame(columns=list(_NOT_CURVES))
    times = history["time"].dropna()
    start, end = (_milliseconds(times.min()), _milliseconds(times.max())) if len(times) else (0, 0)
    last = (int(history["step"].max()), int(history["epoch"].max())) if len(history) else (0, 0)
    points = [*_curves(history), *_load(run), *_final(run, last[1], end)]
    files = [Artifact(run.path / name) for name in _RUN_FILES]
    files += [Artifact(path, "samples") for path in visible(run.path.glob("samples/*.png"))]
    done = (run.path / "train.json").is_file() and (run.path / "metrics.json").is_file()
    return Mirrored(
        name=run.name,
        identity={
            "tood.study": study,
            "tood.kind": "run",
            "tood.run": run.name,
            "tood.fingerprint": _fingerprint(run),
        },
        tags={
            "tood.method": params.get("method.name", MISSING),
            "tood.row": params.get("row", run.name),
            **(_origin(run) if done else {}),
        },
        params=params,
        points=tuple(sorted(set(points))),
        artifacts=tuple(one for one in files if one.path.is_file()),
        status=FINISHED if done else RUNNING,
        start=start,
        end=end,
        inputs=data_inputs(run, params.get("dataset.name", MISSING)) if done else (),
        model=model_entry(run) if done else None,
    )


def _origin(run: RunFolder) -> dict[str, str]:
    """Tags that say by what code the run was trained, as far as its results record it."""
    kept = run.training()
    code = {"tood.code": combined(kept.code)} if kept.code else {}
    commit = {"mlflow.source.git.commit": kept.commit} if kept.commit else {}
    uncommitted = {"tood.uncommitted": "true"} if kept.commit and kept.commit_changed else {}
    return {**code, **commit, **uncommitted, **_changed_code(run)}


def _changed_code(run: RunFolder) -> dict[str, str]:
    """A tag that names the modules that changed since the run was trained, where there are any."""
    changed = changed_since(run.path)
    return {"tood.changed_code": ", ".join(changed)} if changed else {}


def _fingerprint(run: RunFolder) -> str:
    """From training where it is done, otherwise from the configuration."""
    if (run.path / "train.json").is_file():
        return run.training().fingerprint
    return run.resolved().fingerprint


def _curves(history: pd.DataFrame) -> Iterator[Point]:
    """Losses, rate and speed by step, AP by epoch."""
    for column in history.columns:
        if column in _NOT_CURVES:
            continue
        key, axis = _curve_name(column)
        for value, step, time in zip(history[column], history[axis], history["time"], strict=True):
            if math.isfinite(value) and math.isfinite(time):
                yield Point(key, int(step), float(value), _milliseconds(time))


def _load(run: RunFolder) -> Iterator[Point]:
    """The load of the machine, where it was asked for, as MLflow shows it apart from other curves."""
    for number, row in enumerate(read_system(run.path / SYSTEM_FILE)):
        for name, value in row.items():
            if name != "time":
                yield Point(f"system/{_NOT_IN_KEYS.sub('_', name)}", number, value, _milliseconds(row["time"]))


def _curve_name(column: str) -> tuple[str, str]:
    name = _NOT_IN_KEYS.sub("_", column)
    if name.startswith("val_"):
        return f"val/{name.removeprefix('val_')}", "epoch"
    return (name if name == "lr" else f"train/{name}"), "step"


def _final(run: RunFolder, epoch: int, time: int) -> Iterator[Point]:
    """The COCO numbers, costs and alignment, which MLflow's table shows as columns."""
    values: dict[str, float | None] = {}
    if (run.path / "metrics.json").is_file():
        metrics = run.metrics()
        values |= {name: getattr(metrics, name) for name in STATS}
        values["images_per_second"] = metrics.images_per_second
    if (run.path / "train.json").is_file():
        took = run.training()
        values |= {
            "parameters": took.parameters,
            "gflops": took.gflops,
            "training_seconds": took.seconds,
            "peak_memory_gib": took.peak_memory_gib,
        }
    if (run.path / "alignment.json").is_file() and (alignment := run.alignment()).fingerprint == _fingerprint(run):
        values |= {f"alignment/{name}": getattr(alignment, name) for name in _ALIGNMENT}
    for key, value in values.items():
        if value is not None and math.isfinite(value):
            yield Point(key, epoch, float(value), time)


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
