"""``tood export``: a trained detector as an ONNX file that needs nothing of this project."""

import logging
from pathlib import Path

from tood.evaluation.threshold_file import best_threshold
from tood.export.extra import TO_WRITE, require
from tood.io.errors import UserError
from tood.weights.model_file import load_detection_model

log = logging.getLogger(__name__)


def export(weights: Path, out: Path | None, *, raw: bool) -> None:
    """Write the detector of a ``model.pt`` to ``out``, by default beside it, with its best threshold if one is known.

    UserError where the extra ``export`` is not installed, or for an input rule that no graph can follow.
    """
    require(TO_WRITE, "tood export")
    target = weights.with_suffix(".onnx") if out is None else out
    if target.suffix != ".onnx":
        raise UserError(f"--out {target}: must end with .onnx.")
    from tood.export.exporting import exported, metadata_of, save

    model = load_detection_model(weights)
    made_from = weights.parent.as_posix() if weights.name == "model.pt" else weights.name
    metadata = metadata_of(model, made_from, best_threshold(weights.parent), raw=raw)
    save(exported(model, metadata), target)
    size = target.stat().st_size / 1e6
    log.info(
        "%s: %s, %d classes, threshold %g, %.1f MB",
        target,
        metadata.method,
        len(metadata.classes),
        metadata.threshold,
        size,
    )
