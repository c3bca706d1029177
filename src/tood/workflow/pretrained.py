"""Record of the settings and code that a backbone was pretrained with, kept beside the weights."""

from collections.abc import Mapping
from pathlib import Path

from tood.config.backbone import BackboneConfig
from tood.config.study import digest
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import write_json
from tood.workflow.code_digest import changed_modules
from tood.workflow.standing import MISSING, Standing

_DECISIVE = {"kind", "deformable", "first_stage_width", "pretraining"}


def settings_digest(backbone: BackboneConfig) -> str:
    """16 hex digits over the settings that pretraining depends on."""
    return digest(backbone.model_dump(mode="json", include=_DECISIVE))


def record_file(weights: Path) -> Path:
    return weights.with_suffix(".json")


def write_record(weights: Path, backbone: BackboneConfig, code: Mapping[str, str]) -> None:
    write_json(record_file(weights), {"settings": settings_digest(backbone), "code": dict(code)})


def is_made_with(weights: Path, backbone: BackboneConfig) -> bool:
    """Whether pretrained weights are there, and their record says that they were made with the backbone's settings."""
    if not weights.is_file():
        return False
    try:
        kept = read_json(record_file(weights))
    except UserError:
        return False
    return isinstance(kept, dict) and kept.get("settings") == settings_digest(backbone)


def pretrained_standing(weights: Path, backbone: BackboneConfig, code: Mapping[str, str]) -> Standing:
    """Whether pretrained weights are up to date with settings and code; without a record they are accepted."""
    if not weights.is_file():
        return MISSING
    try:
        kept = read_json(record_file(weights))
    except UserError:
        return Standing("current")
    if not isinstance(kept, dict) or not isinstance(kept.get("code"), dict):
        return Standing("current")
    reasons = () if kept.get("settings") == settings_digest(backbone) else ("its pretraining has other settings",)
    changed = tuple(changed_modules(kept["code"], code))
    return Standing("outdated" if reasons or changed else "current", reasons, changed)
