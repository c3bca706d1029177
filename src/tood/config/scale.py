"""Scales: small versions of a study, with other data set, backbones and schedules but the same methods and runs.

A scale is ``params/scales/<name>.yaml``; the reference ``<study>@<scale>`` runs the study in it.
"""

from pathlib import Path

from pydantic import Field

from tood.config.base import Config
from tood.config.blocks import block_names, load_block, why_missing
from tood.io.errors import UserError


class ScaleConfig(Config):
    """The replacements of the building blocks that studies name."""

    name: str
    label: str = Field(description="What is small about it, for the title of everything that is made at this scale.")
    dataset: str = Field(description="Instead of the study's data set.")
    backbones: dict[str, str] = Field(min_length=1, description="Block that a study names: block used instead.")
    schedules: dict[str, str] = Field(min_length=1, description="Block that a study names: block used instead.")

    def stand_in(self, block: str, name: str, used_by: str, params: Path) -> str:
        """The file that replaces the backbone or schedule ``name``; UserError if the scale names none."""
        known = self.backbones if block == "backbone" else self.schedules
        if name not in known:
            raise UserError(
                f"{params}/scales/{self.name}.yaml: field '{block}s' names nothing instead of '{name}', which "
                f"{used_by} uses; add it there."
            )
        return known[name]


def load_scale(name: str, params: Path) -> ScaleConfig:
    """The scale of ``params/scales/<name>.yaml``."""
    scale: ScaleConfig = load_block(params, "scales", name, ScaleConfig, f"scale '{name}'")
    return scale


def is_scale(name: str, params: Path) -> bool:
    """Whether ``name``, which follows the ``@`` of a study, is a scale and not a data set.

    Raises UserError for a name that is both, or neither.
    """
    scales, datasets = (block_names(params, folder) for folder in ("scales", "datasets"))
    if name in scales and name in datasets:
        raise UserError(f"{params}/scales/{name}.yaml: is a data set's name too; rename one of them.")
    if name not in [*scales, *datasets]:
        raise UserError(
            f"'{name}' (given on the command line): there is neither {params}/datasets/{name}.yaml nor "
            f"{params}/scales/{name}.yaml{why_missing(params, ['datasets', 'scales'], name)}"
        )
    return name in scales
