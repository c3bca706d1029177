"""Raw head outputs in the recorded layout: one map per level."""

from torch import Tensor

from reference_check.folder import Arrays, numbered
from reference_check.rows import Report, Tolerance
from tood.detection.predictions import Predictions

PROBABILITY = Tolerance(absolute=1e-5)
LOGIT = Tolerance(absolute=5e-5)
BOX = Tolerance(absolute=5e-4)


def compare_outputs(
    report: Report,
    predictions: Predictions,
    arrays: Arrays,
    *,
    probability: Tolerance = PROBABILITY,
    logit: Tolerance = LOGIT,
    box: Tolerance = BOX,
) -> None:
    """Compare scores, boxes and whatever else of a head was recorded."""
    aligned = predictions.alignment_logits is not None
    scores = predictions.scores() if aligned else predictions.class_logits
    report.compare_all(
        "cls_score",
        _maps(predictions, scores),
        numbered(arrays, "cls_score"),
        probability if aligned else logit,
    )
    report.compare_all("bbox_pred", _maps(predictions, _raw_boxes(predictions)), numbered(arrays, "bbox_pred"), box)
    if predictions.quality is not None:
        quality = _maps(predictions, predictions.quality[..., None])
        name = "iou_pred" if "iou_pred_0" in arrays else "centerness"
        report.compare_all(name, quality, numbered(arrays, name), logit)
    details = predictions.alignment
    if details is None:
        return
    report.compare("attn_cls", details.cls_attention, arrays["attn_cls"], probability)
    report.compare("attn_reg", details.reg_attention, arrays["attn_reg"], probability)
    if "offset_0" in arrays:
        report.compare_all("offset", details.offsets, numbered(arrays, "offset"), box)
    if "box_before_sampling_0" in arrays:
        before = details.boxes_before_sampling / predictions.points.strides[:, None]
        report.compare_all(
            "box_before_sampling", _maps(predictions, before), numbered(arrays, "box_before_sampling"), box
        )


def _raw_boxes(predictions: Predictions) -> Tensor:
    """Bins, deltas, or boxes in units of the stride, as the head's kind is recorded."""
    if predictions.bins is not None:
        return predictions.bins.flatten(2)
    if predictions.deltas is not None:
        return predictions.deltas
    return predictions.boxes / predictions.points.strides[:, None]


def _maps(predictions: Predictions, values: Tensor) -> list[Tensor]:
    """(B, N, D) -> per level (B, A * D, h, w) for A anchors at a location."""
    points = predictions.points
    return [
        level.unflatten(1, (*size, points.anchors_per_location)).permute(0, 3, 4, 1, 2).flatten(1, 2)
        for level, size in zip(points.split(values), points.level_sizes, strict=True)
    ]
