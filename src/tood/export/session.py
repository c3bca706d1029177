"""Running an exported detector with onnxruntime."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tood.config.datasets import TileConfig
from tood.config.images import ImagesConfig
from tood.config.method import InferenceConfig
from tood.data.decode import Decoded
from tood.detection.postprocess import Detections
from tood.export.extra import TO_RUN, require
from tood.export.metadata import ExportMetadata, read_metadata
from tood.io.errors import UserError
from tood.io.escape import escape

_INPUT = "image"
_OUTPUTS = ("boxes", "labels", "scores")


@dataclass
class Clock:
    """Seconds that were computed for."""

    seconds: float = 0.0


@dataclass(frozen=True)
class ExportedDetector:
    """A session of onnxruntime and what the file says of itself."""

    metadata: ExportMetadata
    session: Any
    clock: Clock = field(default_factory=Clock)

    @property
    def method(self) -> str:
        return self.metadata.method

    @property
    def classes(self) -> tuple[str, ...]:
        return self.metadata.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        return self.metadata.category_ids

    @property
    def tile(self) -> TileConfig | None:
        return self.metadata.tile

    @property
    def inference(self) -> InferenceConfig:
        return self.metadata.inference

    @property
    def images(self) -> ImagesConfig:
        return self.metadata.images

    @property
    def threshold(self) -> float:
        return self.metadata.threshold

    def run(self, image: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """Boxes, labels and scores of an RGB image (H,W,3)."""
        started = time.perf_counter()
        found: list[NDArray[Any]] = self.session.run(list(_OUTPUTS), {_INPUT: image})
        self.clock.seconds += time.perf_counter() - started
        return tuple(found)

    def find(self, pictures: Sequence[Decoded]) -> list[Detections]:
        """What is in each picture."""
        return [self._find(picture) for picture in pictures]

    def _find(self, picture: Decoded) -> Detections:
        """In px of the whole picture, also where it was decoded at a part of its size."""
        image = np.ascontiguousarray(picture.pixels.permute(1, 2, 0).numpy())
        boxes, labels, scores = (torch.from_numpy(value) for value in self.run(image))
        enlarged = picture.size[0] / picture.pixels.shape[2]
        return Detections(boxes if enlarged == 1 else boxes * enlarged, scores, labels)


def open_export(path: Path, threads: int, option: str = "--export") -> ExportedDetector:
    """The detector in a file that ``tood export`` wrote, on CPU ``threads`` (0: all).

    UserError where there is no such file, it is damaged, foreign, too new for the installed onnxruntime or ``raw``,
    or onnxruntime is not installed.
    """
    require(TO_RUN, f"{option} {path}")
    import onnxruntime

    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with: tood export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each status
        raise UserError(_refusal(path, error, onnxruntime.__version__)) from error
    metadata = read_metadata(session.get_modelmeta().custom_metadata_map, path)
    if metadata.outputs == "raw":
        raise UserError(f"{path}: has raw outputs (exported with --raw); export it again without, to detect with it.")
    if [one.name for one in session.get_inputs()] != [_INPUT] or {one.name for one in session.get_outputs()} != set(
        _OUTPUTS
    ):
        raise UserError(f"{path}: has other inputs or outputs than an exported detector; export it again.")
    return ExportedDetector(metadata, session)


def _refusal(path: Path, error: Exception, version: str) -> str:
    reason = " ".join(str(error).split())
    if "opset" in reason.lower() or "ir version" in reason.lower():
        return (
            f"{path}: is written in a version of ONNX that the installed onnxruntime {version} does not know; update "
            "onnxruntime, or export the detector again."
        )
    if "Protobuf parsing failed" in reason or "INVALID_PROTOBUF" in reason:
        return f"{path}: is damaged or no ONNX file; export the detector again with: tood export"
    return (
        f"{path}: is refused by onnxruntime ({escape(reason, most=300)}); export the detector again with: tood export"
    )
