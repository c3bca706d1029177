"""Studies: a data set, the runs to compare, and how building blocks compose into a run.

A study file ``params/studies/<name>.yaml`` names building blocks by file name below ``params/``; composition
is ``block file <- common.overrides <- run.overrides``, validated once, here.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from tood.config.backbone import BackboneConfig, load_backbone
from tood.config.base import Config
from tood.config.blocks import block_file, read_block
from tood.config.dataset import DatasetConfig, load_dataset, split_names
from tood.config.messages import nearest, validate
from tood.config.method import MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.errors import UserError
from tood.files import read_yaml

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # no dots: DVC takes them for steps down
_STUDY_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_RESERVED = {"comparison", "figures", "logs", "report", "tracked"}
_NOT_SCIENCE: dict[str, bool | set[str]] = {
    "study": True,
    "run": True,
    "row": True,
    "dataset": {"source", "root"},
    "method": {"inference"},
    "schedule": {"evaluate_every", "checkpoint_every"},
}
_TRUNK_FIELDS = ("weights", "kind", "trunk_width", "pretraining")


class Overrides(Config):
    """Changes to the building blocks, by block."""

    method: dict[str, Any] = Field(default_factory=dict)
    backbone: dict[str, Any] = Field(default_factory=dict)
    schedule: dict[str, Any] = Field(default_factory=dict)


class Common(Config):
    """What every run of the study shares unless it says otherwise."""

    method: str | None = None
    backbone: str | None = None
    schedule: str | None = None
    seed: int = Field(0, ge=0)
    overrides: Overrides = Overrides()


class RunEntry(Config):
    """One run of a study file."""

    method: str | None = None
    backbone: str | None = None
    schedule: str | None = None
    seed: int | None = Field(None, ge=0)
    row: str | None = Field(None, description="Row of the table; runs that differ only in seed share one.")
    overrides: Overrides = Overrides()


class StudyFile(Config):
    """A study as written in its YAML file."""

    title: str
    description: str = ""
    dataset: str
    baseline: str = Field(description="Row that the others are compared with.")
    split: str = Field("val", description="Split that the runs are evaluated and compared on.")
    common: Common = Common()
    runs: dict[str, RunEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> "StudyFile":
        for name in self.runs:
            if not _RUN_NAME.fullmatch(name):
                raise ValueError(
                    f"run name '{name}' must be of letters, digits, '_' and '-' and begin with a letter or digit"
                )
            if name.lower() in _RESERVED:
                raise ValueError(f"run name '{name}' is reserved for what a study writes beside its runs")
        return self


class RunConfig(Config):
    """Everything that decides what a run computes."""

    study: str
    run: str
    row: str
    dataset: DatasetConfig
    method: MethodConfig
    backbone: BackboneConfig
    schedule: ScheduleConfig
    seed: int

    def science(self) -> dict[str, Any]:
        """The part that the trained weights depend on.

        Not the names of study, run and row, not where the data set comes from (its name, layout, splits and
        classes are what it is), not inference, nor how often training is evaluated and checkpointed.
        """
        return self.model_dump(mode="json", exclude=_NOT_SCIENCE)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over ``science()``."""
        return digest(self.science())


@dataclass(frozen=True)
class Study:
    """A composed study; ``name`` is ``<file>`` or ``<file>@<dataset>``."""

    name: str
    file: Path
    title: str
    description: str
    baseline: str
    dataset: DatasetConfig
    split: str
    """The split to evaluate and compare on."""
    runs: Mapping[str, RunConfig]

    def row_names(self) -> list[str]:
        return list(dict.fromkeys(run.row for run in self.runs.values()))

    def run(self, name: str) -> RunConfig:
        """The run of that name; UserError names the nearest one."""
        if name not in self.runs:
            raise UserError(f"study '{self.name}': there is no run '{name}'{nearest(name, self.runs)}")
        return self.runs[name]


def digest(value: Any) -> str:
    """16 hex digits that identify a JSON-like value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge; a mapping whose ``kind`` changes is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same_kind = "kind" not in value or value["kind"] == old.get("kind")
            merged[key] = merge(old, value) if same_kind else dict(value)
        else:
            merged[key] = value
    return merged


def _compose_run(name: str, entry: RunEntry, study: StudyFile, where: str, params: Path) -> dict[str, Any]:
    blocks: dict[str, Any] = {}
    for block, folder, model in (
        ("method", "methods", MethodConfig),
        ("backbone", "backbones", BackboneConfig),
        ("schedule", "schedules", ScheduleConfig),
    ):
        chosen = getattr(entry, block) or getattr(study.common, block)
        if chosen is None:
            raise UserError(f"{where}: run '{name}' has no {block}; give it there or under 'common'.")
        value = read_block(params, folder, chosen, model, f"{where}: field 'runs.{name}.{block}'")
        for place, overrides in (("common", study.common.overrides), (f"runs.{name}", entry.overrides)):
            changes = getattr(overrides, block)
            if "name" in changes:
                raise UserError(
                    f"{where}: field '{place}.overrides.{block}.name' is not to be given; "
                    f"choose another file by '{place}.{block}'."
                )
            if changes:
                value = merge(value, changes)
                validate(model, value, where, f"{place}.overrides.{block}")
        blocks[block] = value
    return blocks


def load_study(reference: str, params: Path = Path("params")) -> Study:
    """Compose a study from its file.

    ``reference`` is a path below ``params/studies`` without suffix, optionally followed by ``@<dataset>`` to
    run the same study on another data set. Raises UserError, one sentence naming file, field, value and the
    nearest valid name.
    """
    if not (params / "studies").is_dir():
        raise UserError(f"{params}/studies: no such folder; run this in the project's folder.")
    name, at, dataset_name = reference.partition("@")
    if not _STUDY_NAME.fullmatch(name):
        raise UserError(f"study '{reference}': a study's name is its path below {params}/studies without .yaml.")
    if name.split("/")[0] == "logs":
        raise UserError(f"study '{reference}': results/logs holds the logs; call the study something else than 'logs'.")
    if at and (not dataset_name or "@" in dataset_name):
        raise UserError(f"study '{reference}': must be <study> or <study>@<data set>, with one data set after the '@'.")
    path = block_file(params, "studies", name, f"study '{reference}'")
    where = str(path)
    study: StudyFile = validate(StudyFile, read_yaml(path), where)
    if dataset_name:
        dataset = load_dataset(dataset_name, params, f"dataset '{dataset_name}' (given on the command line)")
    else:
        dataset = load_dataset(study.dataset, params, f"{where}: field 'dataset'")
    _check_splits(dataset, study.split, where, params)
    runs: dict[str, RunConfig] = {}
    for run, entry in study.runs.items():
        value = {
            "study": reference,
            "run": run,
            "row": entry.row or run,
            "dataset": dataset.model_dump(mode="json"),
            "seed": study.common.seed if entry.seed is None else entry.seed,
            **_compose_run(run, entry, study, where, params),
        }
        runs[run] = validate(RunConfig, value, where, f"runs.{run}")
        _check_weights(runs[run], where, params)
        if (path.with_suffix("") / f"{run}.yaml").is_file():
            raise UserError(
                f"{where}: run '{run}' and the study '{name}/{run}' would write into the same folder; rename one."
            )
    composed = Study(reference, path, study.title, study.description, study.baseline, dataset, study.split, runs)
    _check_rows(composed, where)
    return composed


def _check_splits(dataset: DatasetConfig, split: str, where: str, params: Path) -> None:
    names = split_names(dataset)
    file = f"{params}/datasets/{dataset.name}.yaml"
    for needed in ("train", "val"):
        if needed in names:
            continue
        if dataset.splits is None:
            raise UserError(f"{file}: field 'draw.val' is 0, but a study needs a val split; give it a share.")
        raise UserError(f"{file}: field 'splits' has no '{needed}', but a study needs the splits train and val.")
    others = [name for name in names if name != "train"]
    if split not in others:
        raise UserError(
            f"{where}: field 'split' is '{split}', which is no split of data set '{dataset.name}' to evaluate on"
            f"{nearest(split, others)}"
        )


def _check_weights(run: RunConfig, where: str, params: Path) -> None:
    """Refuse starting weights that cannot be had, or that would be made for another trunk than the run's."""
    backbone = run.backbone
    file = f"{params}/backbones/{backbone.name}.yaml"
    if backbone.weights == "generated":
        written = load_backbone(backbone.name, params)
        for field in _TRUNK_FIELDS:
            if getattr(backbone, field) != getattr(written, field):
                raise UserError(
                    f"{where}: run '{run.run}' overrides backbone.{field}, but generated weights are made for {file} "
                    "as it stands; make a backbone file of its own for it."
                )
    elif backbone.weights == "imagenet":
        if backbone.kind == "light":
            raise UserError(
                f"{file}: field 'weights' is 'imagenet' in run '{run.run}' of {where}, but there are no ImageNet "
                "weights for the light trunk; use 'generated', 'none' or a file."
            )
    elif backbone.weights != "none" and not (params.parent / backbone.weights).is_file():
        hint = nearest(backbone.weights, ("imagenet", "generated", "none"))
        raise UserError(
            f"{file}: field 'weights' is '{backbone.weights}' in run '{run.run}' of {where}, which is neither a file "
            f"below the project's folder nor a valid name{hint}"
        )


def _check_rows(study: Study, where: str) -> None:
    if study.baseline not in study.row_names():
        hint = nearest(study.baseline, study.row_names())
        raise UserError(f"{where}: field 'baseline' is '{study.baseline}', which is not a row{hint}")
    first: dict[str, RunConfig] = {}
    seeds: set[tuple[str, int]] = set()
    for run in study.runs.values():
        other = first.setdefault(run.row, run)
        names = {"study", "run", "row", "seed"}
        same = run.model_dump(exclude=names) == other.model_dump(exclude=names)
        if not same or (run.row, run.seed) in seeds:
            raise UserError(
                f"{where}: runs '{other.run}' and '{run.run}' share the row '{run.row}' and must differ in seed only."
            )
        seeds.add((run.row, run.seed))


def changed_fields(old: Any, new: Any, prefix: str = "") -> list[str]:
    """``field: old -> new`` for every leaf that differs between two nested mappings."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [
            line
            for key in keys
            for line in changed_fields(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    return [] if old == new else [f"{prefix}: {old} -> {new}"]
