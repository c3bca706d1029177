"""``tood import``: convert a checkpoint of MMDetection or of the TOOD authors to a ``model.pt``."""

import logging
from pathlib import Path
from typing import Literal

from tood.config.imported import Dialect
from tood.detection.cost import count_parameters
from tood.io.errors import UserError
from tood.io.files import read_bytes
from tood.weights.mmdet.detector_kinds import MethodName
from tood.weights.mmdet.importing import Boxes, Given, ImportedModel, import_checkpoint
from tood.weights.model_file import save_model

log = logging.getLogger(__name__)


def import_weights(
    checkpoint: Path,
    out: Path,
    *,
    method: MethodName | None,
    boxes: Boxes | None,
    dialect: Dialect | None,
    classes: Path | None,
    resize: Literal["exact", "opencv"] = "exact",
) -> None:
    """Recognise a checkpoint of MMDetection or the TOOD authors and write it to ``out``.

    ``resize`` is how pictures are resized whenever it is used.
    """
    if out.exists() and out.samefile(checkpoint):
        raise UserError(f"--out {out}: is the checkpoint itself; give another file.")
    names = None if classes is None else _read_names(classes)
    imported = import_checkpoint(checkpoint, Given(boxes, dialect, names, method, resize))
    save_model(out, imported.config, imported.classes, imported.category_ids, imported.detector)
    for line in _description(imported):
        log.info(line)
    log.info("written: %s", out)


def _read_names(path: Path) -> list[str]:
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except (UserError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {path}: cannot be read as a text file with one class name a line.") from error
    return [line.strip() for line in lines if line.strip()]


def _description(imported: ImportedModel) -> list[str]:
    config = imported.config
    source, method, backbone = config.source, config.method, config.backbone
    total, _ = count_parameters(imported.detector)
    deformable = f", deformable in {' '.join(backbone.deformable)}" if backbone.deformable else ""
    clipped = "clipped to the image" if method.inference.clip_boxes else "not clipped to the image"
    voting = "" if method.inference.score_voting is None else f" with score voting ({method.inference.score_voting:g})"
    rounding = "as OpenCV rounds" if config.images.resize == "opencv" else "without antialias"
    origin = "by the TOOD authors" if source.dialect == "authors" else "in MMDetection"
    return [
        f"{source.file}: {method.name} with {backbone.kind}{deformable}, {len(imported.classes)} classes, "
        f"{total:,} parameters, used as {origin}",
        f"boxes are {method.head.boxes}s, {clipped}; NMS at {method.inference.nms_iou:g}{voting}; images within "
        f"{config.images.short}x{config.images.long} px, bilinear {rounding}",
        *(f"note: {note}" for note in source.notes),
    ]
