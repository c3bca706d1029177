"""The exported post-processing finds what ``postprocess`` finds, ties included."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.points import STRIDES, AnchorShapes, make_points
from tood.detection.postprocess import in_original_pixels, postprocess
from tood.detection.predictions import Predictions
from tood.export.postprocessing import DenseOutputs, postprocessing

SIZE, PADDED, FACTORS = (90, 121), (96, 128), (0.75, 0.7)
CLASSES = 4
RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "alignment": ({"alignment": True}, {}),
    "centerness": ({"quality": True}, {}),
    "nine anchors": ({"anchors": 9}, {}),
    "few": ({"alignment": True}, {"pre_nms_topk": 7, "max_detections": 5}),
    "unclipped": ({}, {"clip_boxes": False}),
    "PAA": ({"quality": True}, {"rank_by": "geometric_mean", "score_voting": 0.025, "pre_nms_topk": 50}),
    "PAA, unvoted": ({"quality": True}, {"rank_by": "geometric_mean", "pre_nms_topk": 9}),
    "voting": ({}, {"score_voting": 0.01}),
    "nothing": ({}, {"score_threshold": 1.0}),
}


def draw_predictions(dense: DenseOutputs, *, ties: bool) -> Predictions:
    """Many boxes that overlap, some without area; with ``ties`` only few different scores."""
    draw = torch.Generator().manual_seed(0)
    shapes = AnchorShapes(per_octave=dense.anchors)
    sizes = tuple((-(-PADDED[0] // stride), -(-PADDED[1] // stride)) for stride in STRIDES)
    points = make_points(sizes, STRIDES, torch.device("cpu"), torch.float32, shapes)
    count = len(points.centres)

    def logits(*shape: int) -> Tensor:
        values = torch.randn(1, count, *shape, generator=draw) * 2 - 1
        return values.round() if ties else values

    reach = points.strides[:, None] * (4 * torch.rand(count, 4, generator=draw))
    boxes = torch.cat([points.centres - reach[:, :2], points.centres + reach[:, 2:]], dim=1)
    boxes[::7, 2] = boxes[::7, 0]
    return Predictions(
        points=points,
        class_logits=logits(dense.classes),
        boxes=boxes[None],
        alignment_logits=logits() if dense.alignment else None,
        quality=logits() if dense.quality else None,
    )


def run(dense: DenseOutputs, config: InferenceConfig, given: Predictions, *, raw: bool = False) -> list[Any]:
    session = onnxruntime.InferenceSession(postprocessing(dense, config, raw=raw).SerializeToString())
    height, width = SIZE
    values = {
        "class_logits": given.class_logits,
        "box_corners": given.boxes,
        "alignment_logits": given.alignment_logits,
        "quality_logits": given.quality,
        "limits": torch.tensor([width, height, width, height], dtype=torch.float32),
        "factors": torch.tensor(FACTORS).repeat(2),
        "padded": torch.tensor(PADDED),
    }
    read = {one.name: values[one.name].numpy() for one in session.get_inputs()}
    return list(session.run(["boxes", "scores"] if raw else ["boxes", "labels", "scores"], read))


def build(rule: str) -> tuple[DenseOutputs, InferenceConfig]:
    outputs, settings = RULES[rule]
    plain = {"classes": CLASSES, "anchors": 1, "alignment": False, "quality": False}
    return DenseOutputs(**plain | outputs), InferenceConfig.model_validate(settings)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_detections_are_those_of_postprocess(rule: str, ties: bool) -> None:
    dense, config = build(rule)
    given = draw_predictions(dense, ties=ties)
    boxes, labels, scores = run(dense, config, given)
    (wanted,) = postprocess(given, torch.tensor([SIZE]), torch.tensor([FACTORS]), config)
    assert (len(wanted.scores) > 0) == (rule != "nothing")
    assert labels.tolist() == wanted.labels.tolist()
    np.testing.assert_allclose(scores, wanted.scores.numpy(), atol=1e-6)
    np.testing.assert_allclose(boxes, wanted.boxes.numpy(), atol=1e-4)


@pytest.mark.parametrize("rule", ["alignment", "centerness", "nine anchors", "PAA", "unclipped"])
def test_raw_outputs_are_all_scores_and_boxes(rule: str) -> None:
    dense, config = build(rule)
    given = draw_predictions(dense, ties=False)
    boxes, scores = run(dense, config, given, raw=True)
    moved = in_original_pixels(given, torch.tensor([SIZE]), torch.tensor([FACTORS]), config)
    wanted = given.scores()[0]
    if given.quality is not None:
        wanted = wanted * given.quality[0].sigmoid()[:, None]
    if config.rank_by == "geometric_mean":
        wanted = wanted.sqrt()
    np.testing.assert_allclose(boxes, moved.boxes[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(scores, wanted.numpy(), atol=1e-6)
