"""``model.pt``: a trained detector with the configuration and classes it was trained for."""

import json
from dataclasses import dataclass
from pathlib import Path

from tood.config.messages import validate
from tood.config.study import RunConfig
from tood.detection.detector import Detector, build_detector
from tood.detection.tensor_files import load_tensors, save_tensors
from tood.errors import UserError

_FORMAT = "tood-1"


@dataclass(frozen=True)
class TrainedModel:
    """A detector in evaluation mode, on the CPU, and what it was trained for."""

    config: RunConfig
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    detector: Detector


def save_model(
    target: Path,
    config: RunConfig,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    detector: Detector,
) -> None:
    """Write ``model.pt``; ``category_ids`` are the data set's ids of the classes, in label order."""
    save_tensors(
        target,
        {
            "format": _FORMAT,
            "config": config.model_dump_json(),
            "classes": list(classes),
            "category_ids": list(category_ids),
            "detector": {key: value.cpu() for key, value in detector.state_dict().items()},
        },
    )


def load_model(path: Path) -> TrainedModel:
    """Rebuild the detector of a ``model.pt``; UserError when the file is something else or of another version."""
    content = load_tensors(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(f"{path}: is not a model of this version; train the run again.")
    try:
        config: RunConfig = validate(RunConfig, json.loads(content["config"]), str(path))
        classes, category_ids = tuple(content["classes"]), tuple(content["category_ids"])
        weights = dict(content["detector"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is an incomplete model ({error!r}); train the run again.") from error
    if len(classes) != len(category_ids):
        raise UserError(f"{path}: names {len(classes)} classes and {len(category_ids)} ids; train the run again.")
    from_scratch = config.backbone.model_copy(update={"weights": "none"})
    detector = build_detector(config.method, from_scratch, len(classes))
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its weights do not fit its configuration ({reason[:300]}).") from error
    if not all(value.isfinite().all() for value in detector.state_dict().values()):
        raise UserError(f"{path}: holds weights that are not finite numbers; train the run again.")
    return TrainedModel(config, classes, category_ids, detector.eval())
