"""Model file (``model.pt``): a detector's weights with its configuration and classes, trained here or imported."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tood.config.datasets import TileConfig, tile_of
from tood.config.imported import ImportedConfig
from tood.config.messages import validate_written
from tood.config.method import MethodConfig
from tood.config.parts import STORED
from tood.config.study import RunConfig
from tood.data.network_input import NetworkInput
from tood.detection.detector import Detector, build_detector
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.io.escape import escape, is_unicode
from tood.weights.tensor_files import load_tensors, save_tensors

_FORMAT = "tood-1"


@dataclass(frozen=True)
class DetectionModel:
    """A detector in evaluation mode, on the CPU, and how to use it."""

    config: RunConfig | ImportedConfig
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    detector: Detector

    @property
    def method(self) -> MethodConfig:
        return self.config.method

    @property
    def head_width(self) -> int | None:
        """Channels of the head, where they differ from what the configuration of the backbone says."""
        return _head_width(self.config)

    @property
    def network_input(self) -> NetworkInput:
        """How images are made its input."""
        return NetworkInput(self.config.images, self.config.backbone.pixels)

    @property
    def tile(self) -> TileConfig | None:
        """The tiles of pictures that it was trained on; None if on whole pictures, or not known."""
        return tile_of(self.config.dataset) if isinstance(self.config, RunConfig) else None


@dataclass(frozen=True)
class TrainedModel(DetectionModel):
    """A detector that one of our runs trained."""

    config: RunConfig


def _head_width(config: RunConfig | ImportedConfig) -> int | None:
    return config.head_width if isinstance(config, ImportedConfig) else None


def save_model(
    target: Path,
    config: RunConfig | ImportedConfig,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    detector: Detector,
) -> str:
    """Write ``model.pt`` and return its SHA-256; ``category_ids`` are the data set's ids of the classes by label."""
    save_tensors(
        target,
        {
            "format": _FORMAT,
            "imported" if isinstance(config, ImportedConfig) else "config": config.model_dump_json(),
            "classes": list(classes),
            "category_ids": list(category_ids),
            "detector": {key: value.cpu() for key, value in detector.state_dict().items()},
        },
    )
    return file_digest(target)


def load_model(path: Path) -> TrainedModel:
    """The model of a run; UserError when the file is something else, imported or of another version."""
    model = load_detection_model(path)
    if isinstance(model, TrainedModel):
        return model
    raise UserError(f"{path}: holds imported weights, not a run's; use it with: tood evaluate --weights {path}")


def load_detection_model(path: Path) -> DetectionModel:
    """Rebuild the detector of a ``model.pt``; UserError when the file is something else or of another version."""
    content = load_tensors(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(
            f"{path}: is not a model of this version; train the run again, or bring a checkpoint of another "
            f"code base into this form with: tood import {path} --out FILE"
        )
    again = "import the weights again" if "imported" in content else "train the run again"
    try:
        config: RunConfig | ImportedConfig
        if "imported" in content:
            stored = json.loads(content["imported"])
            config = validate_written(ImportedConfig, stored, str(path), again, context=STORED)
        else:
            stored = json.loads(content["config"])
            config = validate_written(RunConfig, stored, str(path), again, context=STORED)
        classes, category_ids = tuple(content["classes"]), tuple(content["category_ids"])
        weights = dict(content["detector"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is an incomplete model ({escape(repr(error), most=300)}); {again}.") from error
    if not _is_plain(classes, category_ids, weights):
        raise UserError(f"{path}: holds something else than names of classes, their ids and tensors by name; {again}.")
    if len(classes) != len(category_ids):
        raise UserError(f"{path}: names {len(classes)} classes and {len(category_ids)} ids; {again}.")
    from_scratch = config.backbone.model_copy(update={"weights": "none"})
    try:
        with torch.device("meta"):  # a configuration alone, also a hostile one, takes no memory for weights
            detector = build_detector(config.method, from_scratch, len(classes), head_width=_head_width(config))
        own = detector.state_dict()
        given = {key: value.to(own[key].dtype) if key in own else value for key, value in weights.items()}
        detector.load_state_dict(given, assign=True)
    except RuntimeError as error:
        reason = escape(" ".join(str(error).split()), most=300)
        raise UserError(f"{path}: its weights do not fit its configuration ({reason}).") from error
    if not all(value.isfinite().all() for value in detector.state_dict().values()):
        raise UserError(f"{path}: holds weights that are not finite numbers; {again}.")
    detector.eval()
    if isinstance(config, RunConfig):
        return TrainedModel(config, classes, category_ids, detector)
    return DetectionModel(config, classes, category_ids, detector)


def _is_plain(classes: tuple[Any, ...], category_ids: tuple[Any, ...], weights: dict[Any, Any]) -> bool:
    return (
        all(isinstance(name, str) and is_unicode(name) for name in classes)
        and all(type(number) is int for number in category_ids)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items())
    )
