"""A run's folder as its files describe it: the only input that tables, figures, report and tracking have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from tood.config.study import RunConfig, changed_fields
from tood.documents import read_json, read_yaml
from tood.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
_GIB = 2**30
_MAX_CHANGES = 5


class _Record(BaseModel):
    """Written by another part of the program, perhaps an older one: unknown fields are no error."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class TrainSummary(_Record):
    """``train.json``: what training took."""

    fingerprint: str
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
    per_class: dict[str, ClassMetrics] = {}
    images_per_second: float | None = None
    seconds: float | None = None
    fingerprint: str | None = None
    inference: dict[str, Any] | None = None


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

    @property
    def name(self) -> str:
        return self.path.name

    def config(self) -> dict[str, Any]:
        """The resolved configuration, as written by training."""
        content = read_yaml(self.path / "config.yaml")
        if not isinstance(content, dict):
            raise UserError(f"{self.path / 'config.yaml'}: must hold a mapping; train the run again.")
        return content

    def resolved(self) -> RunConfig:
        """The same, validated."""
        return _validated(RunConfig, self.config(), self.path / "config.yaml", "train the run again")

    def training(self) -> TrainSummary:
        return _parse(TrainSummary, self.path / "train.json", "train the run again")

    def check_settings(self) -> None:
        """Raise UserError, saying what differs, unless the run was trained and evaluated as the study has it now."""
        if self.wanted is None:
            return
        if self.training().fingerprint == self.wanted.fingerprint:
            self._check_evaluation(self.wanted)
            return
        changes = changed_fields(self.resolved().science(), self.wanted.science())
        what = "; ".join(changes[:_MAX_CHANGES]) + ("; and more" if len(changes) > _MAX_CHANGES else "")
        raise UserError(
            f"{self.path}: run '{self.name}' was trained with other settings than the study has now "
            f"({what or 'a training with the new ones has not finished'}); train it again with: "
            f"tood train --run {self.path}"
        )

    def _check_evaluation(self, wanted: RunConfig) -> None:
        measured = self.metrics()
        changes = _changes_since(wanted, measured.fingerprint, measured.inference)
        if changes:
            raise UserError(
                f"{self.path}: run '{self.name}' was evaluated with other settings than the study has now "
                f"({'; '.join(changes)}); evaluate it again with: tood evaluate --run {self.path}"
            )

    def alignment(self) -> Alignment:
        """The run's alignment analysis; UserError where the study has other settings now than it was made with."""
        path, remedy = self.path / "alignment.json", f"make it with: tood analyse --run {self.path}"
        if not path.is_file():
            raise UserError(f"{path}: no such file; {remedy}")
        found = _parse(Alignment, path, remedy)
        changes = [] if self.wanted is None else _changes_since(self.wanted, found.fingerprint, found.inference)
        if changes:
            raise UserError(
                f"{path}: was made with other settings than the study has now ({'; '.join(changes)}); {remedy}"
            )
        return found

    def metrics(self) -> Metrics:
        return _parse(Metrics, self.path / "metrics.json", "evaluate the run again")

    def detections(self) -> list[dict[str, Any]]:
        path = self.path / "detections.json"
        content = read_json(path)
        if not isinstance(content, list):
            raise UserError(f"{path}: must hold a list of detections; evaluate the run again.")
        return content

    def history(self) -> pd.DataFrame:
        """One row for each logging interval; columns as in ``history.csv``."""
        return _read_csv(self.path / "history.csv", ("step", "epoch", "time"), "train the run again")

    def precision_recall(self) -> pd.DataFrame:
        """Columns class, iou, recall, precision."""
        needed = ("class", "iou", "recall", "precision")
        return _read_csv(self.path / "pr.csv", needed, "evaluate the run again")


def _changes_since(wanted: RunConfig, fingerprint: str | None, inference: dict[str, Any] | None) -> list[str]:
    """In what a measurement of a run differs from one that would be made now."""
    changes = []
    if inference is not None:
        changes = changed_fields(inference, wanted.method.inference.model_dump(mode="json"))
    if fingerprint not in (None, wanted.fingerprint):
        changes.append("its model has been trained again since")
    return changes


def _parse(model: type[Model], path: Path, remedy: str) -> Model:
    return _validated(model, read_json(path), path, remedy)


def _validated(model: type[Model], content: Any, path: Path, remedy: str) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "content"
        raise UserError(f"{path}: field '{field}': {problem['msg'].lower()}; {remedy}.") from error


def _read_csv(path: Path, needed: tuple[str, ...], remedy: str) -> pd.DataFrame:
    try:
        # A class may be called "null" or "NA"; only a file of numbers has blanks and nan.
        frame = pd.read_csv(path, dtype={"class": str}, keep_default_na="class" not in needed)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {remedy}.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid CSV ({error}); {remedy}.") from error
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: has no column '{missing[0]}'; {remedy}.")
    return frame
