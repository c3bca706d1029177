"""Study configuration: a data set and the runs to compare on it.

A study file ``params/studies/<name>.yaml`` names building blocks by file name below ``params/``.
``tood.config.compose`` puts them together; the result is validated once, here.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import Field

from tood.config.backbone import BackboneConfig, PixelsConfig
from tood.config.base import Config, PositiveInt
from tood.config.blocks import block_file, why_missing
from tood.config.compose import Blocks, check_splits, check_weights, compose_run, fit_schedule
from tood.config.datasets import (
    DatasetConfig,
    ImagesDataset,
    drops_empty,
    load_dataset,
    split_names,
    training_splits,
)
from tood.config.images import ImagesConfig
from tood.config.messages import nearest, validate
from tood.config.method import MethodConfig
from tood.config.published_table import PublishedTable, load_published
from tood.config.scale import ScaleConfig, is_scale, load_scale
from tood.config.schedule import ScheduleConfig
from tood.config.study_file import Analysis, Selection, StudyFile, select
from tood.io.errors import Problems, UserError
from tood.io.read import read_yaml

_STUDY_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_AS_WRITTEN = Selection()
_SMALL = "A small form of the study, to see that everything works; its numbers say nothing about the full one."
_NOT_SCIENCE: dict[str, bool | set[str] | dict[str, bool | set[str]]] = {
    "study": True,
    "run": True,
    "row": True,
    # what drop_empty decides is in the schedule, what those after it decide in the data set's content
    "dataset": {
        **dict.fromkeys(("source", "root", "drop_empty", "duplicates", "rename", "accept", "rows", "unreadable"), True),
        **dict.fromkeys(("missing", "leave_out", "without_folders", "labels"), True),
        "draw": {"out_of", "together"},
    },
    "method": {"inference"},
    "schedule": {"evaluate_every", "evaluations", "checkpoint_every"},
    "fitted": True,  # which follows from schedule and data
}
_LATER: dict[tuple[str, ...], dict[str, object]] = {
    ("dataset",): {"tile": None},
    ("backbone",): {"model": None, "pixels": PixelsConfig().model_dump(mode="json")},
    ("schedule",): {"steps": None, "milestone_shares": [], "ema": None, "repeat": None, "group": None},
    ("method", "criterion"): {"normalise_over": "step", "ties": "first"},
    ("schedule", "warmup"): {"share": None},
    ("schedule", "images"): {
        "fit": None,
        "scale_jitter": None,
        "crop": None,
        "photometric": 0.0,
        "resize": "exact",
        "padded_sizes": None,
    },
}
"""Fields that came after fingerprints were recorded: at these values they are no part of one."""


class FittedConfig(Config):
    """A schedule on its data: what was left to follow from them."""

    steps: PositiveInt
    images: ImagesConfig


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
    fitted: FittedConfig | None = Field(None, description="What the schedule came to on the data.")

    @property
    def images(self) -> ImagesConfig:
        """The network's input, whose size may have followed from the data."""
        return self.schedule.images if self.fitted is None else self.fitted.images

    def science(self) -> dict[str, Any]:
        """The fields that the trained weights depend on.

        Left out are the names of study, run and row, where the data set's files are and come from (its name, format,
        classes and the splits that a training reads are kept), inference, and how often training is evaluated and
        checkpointed.
        """
        kept = self.model_dump(mode="json", exclude=_NOT_SCIENCE)
        for unread in set(self.dataset.splits or ()) - training_splits(self.dataset):
            del kept["dataset"]["splits"][unread]
        for place, defaults in _LATER.items():
            part = reduce(lambda inner, name: inner[name], place, kept)
            for name, default in defaults.items():
                if name in part and part[name] == default:
                    del part[name]
        return kept

    @property
    def fingerprint(self) -> str:
        """16 hex digits over ``science()``."""
        return digest(self.science())


@dataclass(frozen=True)
class Study:
    """A composed study; ``name`` is ``<file>``, ``<file>@<dataset>`` or ``<file>@<scale>``."""

    name: str
    file: Path
    title: str
    description: str
    baseline: str
    dataset: DatasetConfig
    split: str
    """The split to evaluate and compare on."""
    runs: Mapping[str, RunConfig]
    repeats_seeds: bool = False
    """Whether seeds and methods can be chosen."""
    published: PublishedTable | None = None
    analysis: tuple[Analysis, ...] = ()
    """Analyses of every run besides its evaluation."""
    submission: ImagesDataset | None = None
    """Images without annotations whose detections are written for an evaluation server."""
    keeping_background: frozenset[str] = frozenset()
    """Runs whose data set keeps images without objects that the schedule, as written, leaves out."""

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


def load_study(
    reference: str,
    params: Path = Path("params"),
    on: DatasetConfig | None = None,
    selection: Selection = _AS_WRITTEN,
) -> Study:
    """Compose a study from its file.

    ``reference`` is a path below ``params/studies`` without suffix, optionally followed by ``@<dataset>`` to
    run the same study on another data set, or by ``@<scale>`` to run it in a small form; ``on`` is a data set in place
    of the one that follows from that, ``selection`` what to run of a study with ``seeds``. Raises UserError with a
    sentence for each problem, naming file, field, value and the nearest valid name.
    """
    if not (params / "studies").is_dir():
        raise UserError(f"{params}/studies: no such folder; run this in the project's folder.")
    name, at, other = reference.partition("@")
    if not _STUDY_NAME.fullmatch(name):
        why = why_missing(params, ["studies"], name)
        raise UserError(
            f"study '{reference}': a study's name is its path below {params}/studies without .yaml, and there is no "
            f"{params}/studies/{name}.yaml{why}"
        )
    if name.split("/")[0] == "logs":
        raise UserError(f"study '{reference}': results/logs holds the logs; call the study something else than 'logs'.")
    if at and (not other or "@" in other):
        raise UserError(
            f"study '{reference}': must be <study> or <study>@<data set or scale>, with one name after the '@'."
        )
    path = block_file(params, "studies", name, f"study '{reference}'")
    where = str(path)
    written: StudyFile = validate(StudyFile, read_yaml(path), where)
    study = select(written, selection, where, params)
    scale = load_scale(other, params) if at and is_scale(other, params) else None
    problems = Problems()
    with problems.gather():
        dataset = on or _dataset(study, name, where, other, scale, params)
        split = _split(study, dataset)
        check_splits(dataset, split, where, params)
    blocks = _compose_runs(study, path, name, scale, params, problems)
    with problems.gather():
        published = _published(study, where, params)
    with problems.gather():
        submission = None if at else _submission(study, where, params)
    _check_rows(study, blocks, where, problems)
    problems.raise_all()  # raises unless all of the above exists
    return Study(
        name=reference,
        file=path,
        title=f"{study.title}, on {dataset.name}"
        + ("" if scale is None else f" (at scale {scale.name}: {scale.label})"),
        description=study.description if scale is None else f"{_SMALL} {study.description}",
        baseline=study.baseline,
        dataset=dataset,
        split=split,
        runs={
            run: RunConfig(
                study=reference,
                run=run,
                row=study.row_of(run),
                dataset=dataset,
                method=own.method,
                backbone=own.backbone,
                schedule=fit_schedule(own.schedule, dataset),
                seed=study.seed_of(run),
            )
            for run, own in blocks.items()
        },
        repeats_seeds=study.seeds is not None,
        published=published,
        analysis=tuple(dict.fromkeys(study.analysis)),
        submission=submission,
        keeping_background=frozenset(
            run for run, own in blocks.items() if own.schedule.drop_empty and drops_empty(dataset) is False
        ),
    )


def _compose_runs(
    study: StudyFile, path: Path, name: str, scale: ScaleConfig | None, params: Path, problems: Problems
) -> dict[str, Blocks]:
    """The building blocks of every run that can be composed; the problems of the others go to ``problems``."""
    where = str(path)
    blocks: dict[str, Blocks] = {}
    users: dict[BackboneConfig, list[str]] = {}
    for run, entry in study.runs.items():
        with problems.gather():
            blocks[run] = compose_run(run, entry, study.common, where, params, scale)
            users.setdefault(blocks[run].backbone, []).append(run)
        if os.path.isfile(path.with_suffix("") / f"{run}.yaml"):
            problems.add(
                f"{where}: run '{run}' and the study '{name}/{run}' would write into the same folder; rename one."
            )
    for backbone, runs in users.items():
        with problems.gather():
            check_weights(runs, backbone, where, params)
    return blocks


def _split(study: StudyFile, dataset: DatasetConfig) -> str:
    """The split to evaluate on: of several the first that the data set has."""
    if isinstance(study.split, str):
        return study.split
    return next((one for one in study.split if one in split_names(dataset)), study.split[-1])


def _dataset(
    study: StudyFile, name: str, where: str, other: str, scale: ScaleConfig | None, params: Path
) -> DatasetConfig:
    """The study's data set, or the one named after its ``@``."""
    if scale is not None:
        return load_dataset(scale.dataset, params, f"{params}/scales/{scale.name}.yaml: field 'dataset'")
    if other:
        return load_dataset(other, params, f"dataset '{other}' (given on the command line)")
    if study.dataset is None:
        raise UserError(
            f"study '{name}': is for a data set that you name, as in --config study={name} dataset=NAME, where "
            f"{params}/datasets/NAME.yaml describes it (tood init writes that file)."
        )
    return load_dataset(study.dataset, params, f"{where}: field 'dataset'")


def _published(study: StudyFile, where: str, params: Path) -> PublishedTable | None:
    if study.published is None:
        return None
    return load_published(study.published, params, f"{where}: field 'published'")


def _submission(study: StudyFile, where: str, params: Path) -> ImagesDataset | None:
    """The data set for which the study's detections are to be submitted to an evaluation server."""
    if study.submission is None:
        return None
    dataset = load_dataset(study.submission, params, f"{where}: field 'submission'")
    if not isinstance(dataset, ImagesDataset) or len(dataset.splits) != 1:
        raise UserError(
            f"{where}: field 'submission' is '{study.submission}', which is no data set of format 'images' with one "
            "split; evaluate on others."
        )
    return dataset


def _check_rows(study: StudyFile, blocks: Mapping[str, Blocks], where: str, problems: Problems) -> None:
    rows = [study.row_of(run) for run in study.runs]
    if study.baseline not in rows:
        hint = nearest(study.baseline, rows)
        problems.add(f"{where}: field 'baseline' is '{study.baseline}', which is not a row{hint}")
    first: dict[str, str] = {}
    seeds: set[tuple[str, int]] = set()
    for run, own in blocks.items():
        row, seed = study.row_of(run), study.seed_of(run)
        other = first.setdefault(row, run)
        if own != blocks[other] or (row, seed) in seeds:
            problems.add(f"{where}: runs '{other}' and '{run}' share the row '{row}' and must differ in seed only.")
        seeds.add((row, seed))


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
