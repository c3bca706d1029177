"""Trained detectors in a program of one's own: ``tood.load``, and what it gives."""

import os
from pathlib import Path
from typing import Any, Self, TypedDict, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tood.config.datasets import TileConfig
from tood.data.decode import Decoded, rgb_planes
from tood.detection.postprocess import Detections
from tood.evaluation.picture_detections import Finder, ModelFinder, detect_in_file, detect_in_picture
from tood.export.session import open_export
from tood.io.console import thread_count
from tood.io.errors import UserError
from tood.mlflow_mirror.registered_model import is_reference, registered_model
from tood.verbs.chosen_threshold import chosen_threshold
from tood.verbs.model_source import EXPORT_SUFFIX, model_of
from tood.weights.model_file import load_detection_model

Picture = str | os.PathLike[str] | NDArray[np.uint8] | Tensor | Image.Image


class Found(TypedDict):
    """The detections in one picture, best first, as torchvision's detectors give them; on the CPU."""

    boxes: Tensor
    """(n, 4) float32 xyxy px of the picture."""
    labels: Tensor
    """(n,) int64, positions in ``classes``."""
    scores: Tensor
    """(n,) float32."""


class LoadedDetector:
    """A trained detector; called with pictures it gives what ``tood predict`` finds in them.

    ``threshold`` is the lowest score that is given; it begins as that of ``tood predict`` and can be set, 0 for all
    that the detector keeps.
    """

    def __init__(self, finder: Finder, threshold: float) -> None:
        self._finder = finder
        self.threshold = threshold

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label."""
        return self._finder.classes

    @property
    def device(self) -> torch.device:
        return self._finder.device if isinstance(self._finder, ModelFinder) else torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; itself. UserError for an export, which is computed on the CPU."""
        if not isinstance(self._finder, ModelFinder):
            raise UserError(f"to({str(device)!r}): an exported detector is computed on the CPU; load its model.pt.")
        self._finder = ModelFinder.on(torch.device(device), self._finder.model)
        return self

    @overload
    def __call__(self, pictures: Picture, *, tile: int | None = None) -> Found: ...
    @overload
    def __call__(self, pictures: list[Picture] | tuple[Picture, ...], *, tile: int | None = None) -> list[Found]: ...
    def __call__(
        self, pictures: Picture | list[Picture] | tuple[Picture, ...], *, tile: int | None = None
    ) -> Found | list[Found]:
        """The detections in one picture, or in each of several.

        A picture is a path, an RGB array (H, W, 3) or gray (H, W) of uint8, a tensor (3, H, W) of uint8, or one of
        Pillow's. It is cut into the tiles that the detector was trained on, or of ``tile`` px. Raises UserError
        for a picture that cannot be read, or of another form.
        """
        if isinstance(pictures, list | tuple):
            return [self._find(one, tile) for one in pictures]
        return self._find(pictures, tile)

    def _find(self, picture: Picture, tile: int | None) -> Found:
        tiles = self._finder.tile if tile is None else TileConfig(size=tile)
        if isinstance(picture, str | os.PathLike):
            path = Path(picture)
            found = detect_in_file(self._finder, path, tiles)
        else:
            pixels = _pixels(picture)
            size = (pixels.shape[2], pixels.shape[1])
            found = detect_in_picture(self._finder, Decoded(pixels, size), tiles)
        return self._above(found)

    def _above(self, found: Detections) -> Found:
        kept = found.scores >= self.threshold
        return {"boxes": found.boxes[kept], "labels": found.labels[kept], "scores": found.scores[kept]}

    def to_supervision(self, found: Found) -> Any:
        """The detections as the library supervision has them; UserError where it is not installed."""
        try:
            import supervision  # type: ignore[import-not-found]
        except ImportError as error:
            raise UserError("to_supervision: needs the package 'supervision'; install it with pip.") from error
        return supervision.Detections(
            xyxy=found["boxes"].numpy(),
            class_id=found["labels"].numpy(),
            confidence=found["scores"].numpy(),
            data={"class_name": np.array([self.classes[label] for label in found["labels"].tolist()])},
        )

    def __repr__(self) -> str:
        method, count = self._finder.method, len(self.classes)
        return f"<LoadedDetector {method}, {count} classes, threshold {self.threshold:g}, on {self.device}>"


def load(source: str | os.PathLike[str], *, threshold: float | str | None = None) -> LoadedDetector:
    """The trained detector of a run's folder, of a ``model.pt`` or of a file of ``tood export``, on the CPU.

    Also one of MLflow's registry, as ``models:/name@alias`` or ``models:/name/1``; ``MLFLOW_TRACKING_URI`` says which
    one, by default ``mlflow.db`` here.

    ``threshold`` is a number, ``best``, ``precision=0.9`` or ``recall=0.9``, as for ``tood predict``; by default the
    best one that an evaluation of the run found. No code of the file runs. Raises UserError for anything else than a
    model.
    """
    wanted = None if threshold is None else str(threshold)
    if is_reference(str(source)):
        with registered_model(str(source)) as weights:
            return _load(weights, wanted)
    path = Path(source)
    if path.suffix == EXPORT_SUFFIX:
        detector = open_export(path, thread_count(0), "tood.load")
        return LoadedDetector(detector, detector.threshold if wanted is None else chosen_threshold(wanted, path))
    return _load(path if path.is_file() else model_of(path), wanted)


def _load(weights: Path, wanted: str | None) -> LoadedDetector:
    finder = ModelFinder.on(torch.device("cpu"), load_detection_model(weights))
    return LoadedDetector(finder, chosen_threshold(wanted, weights))


def _pixels(picture: object) -> Tensor:
    """(3, H, W) uint8 RGB."""
    if isinstance(picture, Image.Image):
        return torch.from_numpy(rgb_planes(picture))
    if isinstance(picture, Tensor):
        pixels = picture.cpu()
    elif isinstance(picture, np.ndarray):
        planes = picture[..., None].repeat(3, axis=2) if picture.ndim == 2 else picture
        pixels = torch.from_numpy(np.array(planes)).movedim(-1, 0) if planes.ndim == 3 else torch.empty(0)
    else:
        raise UserError(f"a picture must be a path, an array, a tensor or Pillow's, not a {type(picture).__name__}.")
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3 or 0 in pixels.shape:
        shape = "x".join(map(str, getattr(picture, "shape", ())))
        raise UserError(
            f"a picture of {shape} values of {getattr(picture, 'dtype', '?')}: must be uint8, an array of height x "
            "width x 3 (RGB) or height x width (gray), or a tensor of 3 x height x width."
        )
    return pixels.contiguous()
