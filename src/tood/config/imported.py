"""Configuration of imported weights: what is known about a detector that another code base trained."""

from typing import Literal

from pydantic import Field

from tood.config.backbone import BackboneConfig
from tood.config.base import Channels, Config
from tood.config.images import ImagesConfig
from tood.config.method import MethodConfig

Dialect = Literal["mmdet", "authors"]
"""Whose conventions a checkpoint follows: MMDetection's, or those of the TOOD authors' release."""


class ImportedSource(Config):
    """The file that weights were imported from."""

    file: str = Field(description="Its name, without folders.")
    sha256: str
    dialect: Dialect
    version: str | None = Field(None, description="Of the toolbox, where the file says it.")
    notes: tuple[str, ...] = Field((), description="What the file does not say and was taken to be so.")


class ImportedConfig(Config):
    """How an imported detector is built and used: the reference's own options, not this project's defaults."""

    source: ImportedSource
    method: MethodConfig
    backbone: BackboneConfig
    head_width: Channels = Field(description="Channels of the head, which may differ from the neck's.")
    images: ImagesConfig
