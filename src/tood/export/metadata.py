"""What an exported file says of itself, in its ONNX metadata: how to use it, and where it comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from tood.config.backbone import PixelsConfig
from tood.config.base import PlainNumbers, Share
from tood.config.datasets import TileConfig
from tood.config.images import ImagesConfig
from tood.config.messages import validate_written
from tood.config.method import InferenceConfig
from tood.io.errors import UserError

FORMAT = "tood-export-1"
NumberKind = Literal["float32", "half", "int8"]


class ExportMetadata(PlainNumbers):
    """Each field is one entry of the file's metadata, as JSON."""

    model_config = ConfigDict(extra="ignore")
    format: Literal["tood-export-1"] = "tood-export-1"
    version: str = Field(description="Of the program that wrote the file.")
    made_from: str = Field(description="The run, or the name of the file of weights.")
    method: str
    classes: tuple[str, ...] = Field(min_length=1)
    category_ids: tuple[int, ...]
    threshold: Share = Field(description="Score of best F1 where evaluation found it; for what is shown to people.")
    outputs: Literal["detections", "raw"]
    numbers: NumberKind = "float32"
    images: ImagesConfig = Field(description="How an image is resized, inside the graph.")
    pixels: PixelsConfig = Field(description="How it is normalised, inside the graph.")
    inference: InferenceConfig
    tile: TileConfig | None = Field(description="Tiles that larger pictures are cut into before; none for null.")

    def entries(self) -> dict[str, str]:
        content = self.model_dump(mode="json")
        return {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}


def read_metadata(entries: Mapping[str, str], path: Path) -> ExportMetadata:
    """The metadata of the file at ``path``; UserError where they are not an export's of this version."""
    again = "export the detector again with: tood export"
    try:
        found = {name: json.loads(value) for name, value in entries.items() if name in ExportMetadata.model_fields}
    except (ValueError, RecursionError):
        found = {}
    if not str(found.get("format")).startswith("tood-export-"):
        raise UserError(f"{path}: is an ONNX file, but not a detector that tood export wrote; {again}")
    if found["format"] != FORMAT:
        raise UserError(f"{path}: was exported by another version of the program ({found['format']}); {again}")
    metadata: ExportMetadata = validate_written(ExportMetadata, found, str(path), again)
    if len(metadata.classes) != len(metadata.category_ids):
        raise UserError(f"{path}: names {len(metadata.classes)} classes and {len(metadata.category_ids)} ids; {again}")
    return metadata
