"""``model.pt``: a detector with the configuration and classes it was trained for, here or elsewhere."""

import json
from dataclasses import dataclass
from pathlib import Path

from tood.config.imported import ImportedConfig
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.config.parts import STORED
from tood.config.schedule import ImagesConfig
from tood.config.study import RunConfig
from tood.detection.detector import Detector, build_detector
from tood.detection.tensor_files import load_tensors, save_tensors
from tood.errors import UserError

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
    def images(self) -> ImagesConfig:
        """The geometry of the images it was trained on."""
        return self.config.images if isinstance(self.config, ImportedConfig) else self.config.schedule.images


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
) -> None:
    """Write ``model.pt``; ``category_ids`` are the data set's ids of the classes, in label order."""
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
            config = validate(ImportedConfig, json.loads(content["imported"]), str(path), context=STORED)
        else:
            config = validate(RunConfig, json.loads(content["config"]), str(path), context=STORED)
        classes, category_ids = tuple(content["classes"]), tuple(content["category_ids"])
        weights = dict(content["detector"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is an incomplete model ({error!r}); {again}.") from error
    if len(classes) != len(category_ids):
        raise UserError(f"{path}: names {len(classes)} classes and {len(category_ids)} ids; {again}.")
    from_scratch = config.backbone.model_copy(update={"weights": "none"})
    detector = build_detector(config.method, from_scratch, len(classes), head_width=_head_width(config))
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its weights do not fit its configuration ({reason[:300]}).") from error
    if not all(value.isfinite().all() for value in detector.state_dict().values()):
        raise UserError(f"{path}: holds weights that are not finite numbers; {again}.")
    detector.eval()
    if isinstance(config, RunConfig):
        return TrainedModel(config, classes, category_ids, detector)
    return DetectionModel(config, classes, category_ids, detector)
