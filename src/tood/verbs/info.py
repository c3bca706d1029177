"""``tood info``: parts of a detector with their parameters and GFLOPs."""

import logging
from pathlib import Path

from tood.config.backbone import load_backbone
from tood.config.blocks import load_block
from tood.config.imported import ImportedConfig
from tood.config.method import MethodConfig
from tood.data.formats.coco_classes import COCO_CATEGORIES
from tood.data.prepared import read_entry
from tood.detection.cost import COUNTED, DetectorCost, PartCost, detector_cost
from tood.detection.detector import build_detector
from tood.detection.trial.try_method import try_method
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, dataset_folder
from tood.verbs.open_run import run_at
from tood.weights.model_file import DetectionModel, load_detection_model

log = logging.getLogger(__name__)

_HEAD = "bbox_head"
_WORDS = {"backbone": "backbone", "neck": "neck", _HEAD: "head"}


def info_of_method(method: str, backbone: str, classes: int | None) -> None:
    """Log the parts of a detector made of building blocks, with random weights.

    Raises UserError for a method that would lose something in silence, as training it does.
    """
    config: MethodConfig = load_block(PARAMS, "methods", method, MethodConfig, f"--method {method}")
    described = load_backbone(backbone, PARAMS, f"--backbone {backbone}")
    count = classes or len(COCO_CATEGORIES)
    log.info("%s with %s, %d classes", method, backbone, count)
    for note in try_method(config, classes=count):
        log.info("note: %s", note)
    _log_cost(detector_cost(build_detector(config, described, count)))


def info_of_run(folder: Path, classes: int | None) -> None:
    """Log the parts of a run's detector; the number of classes is its data set's."""
    config = run_at(folder)
    count = classes
    if count is None:
        prepared = dataset_folder(config.dataset)
        if not (prepared / "dataset.json").exists():
            raise UserError(
                f"{prepared}/dataset.json: no such file, so the number of classes is not known; "
                f"give --classes NUMBER, or make it with: tood data prepare {config.dataset.name}"
            )
        count = len(read_entry(prepared).classes)
    names = (config.study, config.run, config.method.name, config.backbone.name)
    log.info("%s/%s: %s with %s, %d classes", *names, count)
    _log_cost(detector_cost(build_detector(config.method, config.backbone, count)))


def info_of_file(path: Path) -> None:
    """Log the parts of a ``model.pt``, trained here or imported."""
    model = load_detection_model(path)
    log.info("%s: %s with %s, %d classes", path, model.method.name, model.config.backbone.name, len(model.classes))
    for line in _origin(model):
        log.info(line)
    frozen = build_detector(  # unlike the loaded one, as in training
        model.method, model.config.backbone, len(model.classes), head_width=model.head_width
    )
    _log_cost(detector_cost(frozen))


def _origin(model: DetectionModel) -> list[str]:
    config = model.config
    shown = ", ".join(model.classes[:10]) + (" …" if len(model.classes) > 10 else "")
    if not isinstance(config, ImportedConfig):
        return [f"trained by {config.study}/{config.run}, seed {config.seed}", f"classes: {shown}"]
    source, inference = config.source, config.method.inference
    return [
        f"imported from {source.file} (sha256 {source.sha256}), {source.dialect}"
        + (f" {source.version}" if source.version else ""),
        *(f"note: {note}" for note in source.notes),
        f"inference: {', '.join(f'{name} {value}' for name, value in inference.model_dump().items())}",
        f"images: {config.images.short} within {config.images.long} px, antialias {config.images.antialias}",
        f"classes: {shown}",
    ]


def _log_cost(cost: DetectorCost) -> None:
    height, width = cost.size
    log.info("%-24s %12s %12s %9s", "part", "parameters", "trainable", "GFLOPs")
    for part in cost.parts:
        whole = part.name in _WORDS
        name = _WORDS[part.name] if whole else f"  {part.name.removeprefix(f'{_HEAD}.')}"
        log.info(_row(name, part))
    log.info(_row("total", cost.total))
    log.info("GFLOPs at %dx%d are %s.", width, height, COUNTED)


def _row(name: str, part: PartCost) -> str:
    gflops = "" if part.gmacs is None else f"{part.gmacs:>9.3f}"
    return f"{name:<24} {part.parameters:>12,} {part.trainable:>12,} {gflops}".rstrip()
