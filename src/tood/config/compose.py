"""How a run is put together: ``block file <- common.overrides <- run.overrides``, or the stand-ins of a scale."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tood.config.backbone import BackboneConfig, address_digest, load_backbone
from tood.config.base import Config
from tood.config.blocks import read_block
from tood.config.datasets import DatasetConfig, split_names
from tood.config.messages import nearest, validate
from tood.config.method import MethodConfig
from tood.config.scale import ScaleConfig
from tood.config.schedule import ScheduleConfig
from tood.io.errors import UserError

_BLOCKS = {"method": MethodConfig, "backbone": BackboneConfig, "schedule": ScheduleConfig}
_BACKBONE_FIELDS = ("weights", "kind", "deformable", "first_stage_width", "pretraining")


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


def compose_run(
    name: str, entry: RunEntry, common: Common, where: str, params: Path, scale: ScaleConfig | None = None
) -> dict[str, Any]:
    """The run's method, backbone and schedule as mappings, each valid by itself. UserError names file and field."""
    blocks: dict[str, Any] = {}
    for block, model in _BLOCKS.items():
        chosen = getattr(entry, block) or getattr(common, block)
        if chosen is None:
            raise UserError(f"{where}: run '{name}' has no {block}; give it there or under 'common'.")
        value = read_block(params, f"{block}s", chosen, model, f"{where}: field 'runs.{name}.{block}'")
        for place, overrides in (("common", common.overrides), (f"runs.{name}", entry.overrides)):
            changes = getattr(overrides, block)
            if "name" in changes:
                raise UserError(
                    f"{where}: field '{place}.overrides.{block}.name' is not to be given; "
                    f"choose another file by '{place}.{block}'."
                )
            if changes and scale is not None and block != "method":
                raise UserError(
                    f"{where}: field '{place}.overrides.{block}' belongs to '{chosen}', which scale '{scale.name}' "
                    f"replaces; put the changes into a {block} file of its own and name that one in "
                    f"{params}/scales/{scale.name}.yaml."
                )
            if changes:
                value = merge(value, changes)
                validate(model, value, where, f"{place}.overrides.{block}")
        blocks[block] = value
    return blocks if scale is None else _shrink(blocks, scale, f"run '{name}' of {where}", params)


def _shrink(blocks: dict[str, Any], scale: ScaleConfig, used_by: str, params: Path) -> dict[str, Any]:
    """The scale's backbone and schedule instead of the run's; what the criterion counts in epochs keeps its share."""
    epochs = ScheduleConfig.model_validate(blocks["schedule"]).epochs
    small = {
        block: read_block(
            params,
            f"{block}s",
            scale.stand_in(block, blocks[block]["name"], used_by, params),
            _BLOCKS[block],
            f"{params}/scales/{scale.name}.yaml: field '{block}s.{blocks[block]['name']}'",
        )
        for block in ("backbone", "schedule")
    }
    criterion = MethodConfig.model_validate(blocks["method"]).criterion.for_schedule(epochs)
    method = {**blocks["method"], "criterion": criterion.model_dump(mode="json")}
    return {"method": method, **small}


def check_splits(dataset: DatasetConfig, split: str, where: str, params: Path) -> None:
    """Refuse a data set without the splits train and val, and a ``split`` that it lacks or trains on."""
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


def check_weights(run: str, backbone: BackboneConfig, where: str, params: Path) -> None:
    """Refuse starting weights that cannot be had, or that would be made for another backbone than the run's."""
    file = f"{params}/backbones/{backbone.name}.yaml"
    if backbone.weights == "generated":
        written = load_backbone(backbone.name, params)
        for field in _BACKBONE_FIELDS:
            if getattr(backbone, field) != getattr(written, field):
                raise UserError(
                    f"{where}: run '{run}' overrides backbone.{field}, but generated weights are made for {file} "
                    "as it stands; make a backbone file of its own for it."
                )
    elif backbone.weights == "imagenet":
        if backbone.kind == "light":
            raise UserError(
                f"{file}: field 'weights' is 'imagenet' in run '{run}' of {where}, but there are no ImageNet "
                "weights for the light backbone; use 'generated', 'none' or a file."
            )
        if backbone.kind == "resnext101_32x4d":
            raise UserError(
                f"{file}: field 'weights' is 'imagenet' in run '{run}' of {where}, but torchvision has no weights of "
                "ResNeXt-101 32x4d; give the address or the path of a file."
            )
    elif "://" in backbone.weights:
        if address_digest(backbone.weights) is None:
            raise UserError(
                f"{file}: field 'weights' is '{backbone.weights}' in run '{run}' of {where}; the file behind an "
                "address is checked, so its name must end with the first 8 or more digits of its SHA-256, as in "
                "https://example.org/name-0123abcd.pth."
            )
    elif backbone.weights != "none" and not os.path.isfile(params.parent / backbone.weights):
        hint = nearest(backbone.weights, ("imagenet", "generated", "none"))
        raise UserError(
            f"{file}: field 'weights' is '{backbone.weights}' in run '{run}' of {where}, which is neither a file "
            f"below the project's folder nor a valid name{hint}"
        )
