"""Reading a run's folder (``results/<study>/<run>``), the only input of tables, figures, report and MLflow mirror."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tood.config.base import PlainNumbers
from tood.config.messages import validate_written
from tood.config.method import recorded_inference
from tood.config.stored import stored_run
from tood.config.study import RunConfig, changed_fields
from tood.evaluation.threshold_file import NAME as THRESHOLDS_FILE
from tood.evaluation.threshold_file import StoredThresholds, read_thresholds
from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.files import remedied
from tood.io.read import read_json, read_yaml
from tood.reporting.curves import read_history, read_precision_recall

Model = TypeVar("Model", bound=BaseModel)
_GIB = 2**30
_MAX_CHANGES = 5


class _Record(PlainNumbers):
    """Written by another part of the program, perhaps an older one: unknown fields are no error."""

    model_config = ConfigDict(extra="ignore")


class TrainSummary(_Record):
    """``train.json``: cost and circumstances of the training."""

    fingerprint: str
    data: str | None = None
    """Digest of what it read."""
    code: dict[str, str] = Field(default_factory=dict)
    """Digests of the modules that trained it."""
    commit: str | None = None
    """Of the project's folder, where that is under git."""
    commit_changed: bool = False
    """Whether tracked files differed from it."""
    seconds: float
    attempts: int = 1
    peak_memory_bytes: int | None = None
    device: str = ""
    processes: int = 1
    precision: str = ""
    effective_batch: int | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    steps: int | None = None
    parameters: int | None = None
    gflops: float | None = None
    gflops_at: tuple[int, int] | None = None
    model: str | None = None
    """SHA-256 of ``model.pt``; earlier versions kept none."""
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def peak_memory_gib(self) -> float | None:
        return None if self.peak_memory_bytes is None else self.peak_memory_bytes / _GIB


class ClassMetrics(_Record):
    AP: float | None = None
    AP50: float | None = None


class Metrics(_Record):
    """``metrics.json``: fractions, None where undefined."""

    split: str
    checkpoint: str
    images: int
    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float | None = None
    AR10: float | None = None
    AR100: float | None = None
    ARs: float | None = None
    ARm: float | None = None
    ARl: float | None = None
    per_class: dict[str, ClassMetrics] = Field(default_factory=dict)
    images_per_second: float | None = None
    seconds: float | None = None
    fingerprint: str | None = None
    inference: dict[str, Any] | None = None
    data: dict[str, str] | None = None
    """Digests of the splits that it read; earlier versions recorded none."""


class Alignment(_Record):
    """``alignment.json``: how well scores and IoUs agree (``evaluation/alignment_files.py``)."""

    split: str
    checkpoint: str
    images: int
    objects: int
    pcc_top50: float | None
    objects_with_pcc: int
    iou_top10: float | None
    objects_with_iou: int
    detections: int
    correct: int
    redundant: int
    error: int
    on_crowd: int
    elsewhere: int
    definitions: dict[str, str]
    fingerprint: str
    inference: dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """``results/<study>/<run>``. Files are read when asked for; UserError names what is missing or broken.

    ``wanted`` is the run as a study composes it now, where the folder is read on behalf of a study.
    """

    path: Path
    wanted: RunConfig | None = None
    called: str | None = None
    """Its name where that is not the folder's."""

    @property
    def name(self) -> str:
        return self.called or self.path.name

    def config(self) -> dict[str, Any]:
        """The resolved configuration, as written by training."""
        path, remedy = self.path / "config.yaml", self._anew("config.yaml", "train")
        with remedied(remedy):
            content = read_yaml(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: must hold a mapping of fields, found {type(content).__name__}; {remedy}.")
        return content

    def resolved(self) -> RunConfig:
        """The same, validated."""
        return stored_run(self.config(), str(self.path / "config.yaml"), self._anew("config.yaml", "train"))

    def training(self) -> TrainSummary:
        return self._parse(TrainSummary, "train.json", "train")

    def check_settings(self) -> None:
        """Raise UserError, saying what differs, unless the run was trained and evaluated as the study has it now."""
        if self.wanted is None:
            return
        self.training()
        changes = changed_fields(self.resolved().science(), self.wanted.science())
        if not changes:
            self._check_evaluation(self.wanted)
            return
        what = "; ".join(changes[:_MAX_CHANGES]) + ("; and more" if len(changes) > _MAX_CHANGES else "")
        raise UserError(
            f"{self.path}: run '{self.name}' was trained with other settings than the study has now "
            f"({what}); train it again with: tood train --run {self.path}"
        )

    def _check_evaluation(self, wanted: RunConfig) -> None:
        measured = self.metrics()
        changes = self._changes_since(wanted, measured.fingerprint, measured.inference)
        if changes:
            raise UserError(
                f"{self.path}: run '{self.name}' was evaluated with other settings than the study has now "
                f"({'; '.join(changes)}); evaluate it again with: tood evaluate --run {self.path}"
            )

    def alignment(self) -> Alignment:
        """The run's alignment analysis; UserError where the study has other settings now than it was made with."""
        found = self._parse(Alignment, "alignment.json", "analyse")
        changes = [] if self.wanted is None else self._changes_since(self.wanted, found.fingerprint, found.inference)
        if changes:
            raise UserError(
                f"{self.path / 'alignment.json'}: was made with other settings than the study has now "
                f"({'; '.join(changes)}); make it with: tood analyse --run {self.path}"
            )
        return found

    def metrics(self) -> Metrics:
        return self._parse(Metrics, "metrics.json", "evaluate")

    def detections(self) -> list[dict[str, Any]]:
        path, remedy = self.path / "detections.json", self._anew("detections.json", "evaluate")
        with remedied(remedy):
            content = read_json(path)
        if not isinstance(content, list):
            raise UserError(f"{path}: must hold a list of detections, found {type(content).__name__}; {remedy}.")
        return content

    def history(self) -> pd.DataFrame:
        """One row for each logging interval; columns as in ``history.csv``. None yet where training has just begun."""
        path, remedy = self.path / "history.csv", self._anew("history.csv", "train")
        history = read_history(path, remedy)
        # The first checkpoint may come before the first row; when a training has ended it has one for its end.
        begins = any(self.path.glob("state/*/step-*.pt"))
        if history.empty and not begins and (self.path / "train.json").is_file():
            raise UserError(f"{path}: has no rows although the run is trained; {remedy}.")
        return history

    def thresholds(self) -> StoredThresholds | None:
        """The run's score thresholds; None where its evaluation is older than they are."""
        return read_thresholds(self.path / THRESHOLDS_FILE)

    def precision_recall(self) -> pd.DataFrame:
        """Columns class, iou, recall, precision, for the classes that have an AP in ``metrics.json``."""
        path, remedy = self.path / "pr.csv", self._anew("pr.csv", "evaluate")
        curves = read_precision_recall(path, remedy)
        per_class = self.metrics().per_class
        measured = {name for name, metrics in per_class.items() if metrics.AP50 is not None}
        other = sorted(measured ^ set(curves["class"])) if per_class else []
        if other:
            name = escape(other[0], most=100)
            raise UserError(f"{path}: does not have the classes of metrics.json (see '{name}'); {remedy}.")
        return curves

    def _parse(self, model: type[Model], name: str, verb: str) -> Model:
        path, remedy = self.path / name, self._anew(name, verb)
        with remedied(remedy):
            content = read_json(path)
        found: Model = validate_written(model, content, str(path), remedy)
        return found

    def _anew(self, name: str, verb: str) -> str:
        """What to do to make a file of this folder anew: ``tood <verb>``, after removing what would prevent that.

        A folder cannot be overwritten by a file, and ``tood train`` skips a run that has its model and summary.
        """
        command = f"tood {verb} --run {self.path}"
        model = self.path / "model.pt"
        removed = ["it"] if os.path.lexists(self.path / name) else []
        if verb == "train" and name != "train.json" and os.path.lexists(model):
            removed.append(str(model))
        what = f"make it with: {command}" if verb == "analyse" else f"{verb} the run again with: {command}"
        return f"remove {' and '.join(removed)}, then {what}" if removed else what

    def _changes_since(self, wanted: RunConfig, fingerprint: str | None, inference: dict[str, Any] | None) -> list[str]:
        """The differences of a measurement of the run to one that would be made now."""
        changes = []
        if inference is not None:
            changes = changed_fields(recorded_inference(inference), wanted.method.inference.model_dump(mode="json"))
        if fingerprint not in (None, self.training().fingerprint):
            changes.append("its model has been trained again since")
        return changes
