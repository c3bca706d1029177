"""From predictions to detections: thresholds, order, scaling, suppression."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.points import Points, make_points
from tood.detection.postprocess import detects_together, postprocess
from tood.detection.predictions import Predictions

SIZE = torch.tensor([[64, 80]])


def points(*counts: int) -> Points:
    sizes = tuple((1, count) for count in counts)
    return make_points(sizes, (8, 16, 32, 64, 128)[: len(counts)], torch.device("cpu"), torch.float32)


def predictions(scores: Tensor, boxes: Tensor, *counts: int, quality: Tensor | None = None) -> Predictions:
    """One image: probabilities (N, C), boxes (N, 4)."""
    return Predictions(
        points=points(*(counts or (len(scores),))),
        class_logits=scores.logit()[None],
        boxes=boxes[None],
        quality=None if quality is None else quality.logit()[None],
    )


def apart(count: int) -> Tensor:
    """Boxes that do not overlap."""
    left = torch.arange(count) * 6.0
    return torch.stack([left, torch.zeros(count), left + 5, torch.full((count,), 5.0)], dim=1)


def test_threshold_order_and_limit() -> None:
    scores = torch.tensor([[0.9, 0.04], [0.3, 0.6], [0.01, 0.05]])
    found = postprocess(predictions(scores, apart(3)), SIZE, None, InferenceConfig())[0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.3]))
    assert found.labels.tolist() == [0, 1, 0]
    torch.testing.assert_close(found.boxes, apart(3)[[0, 1, 1]])
    best = postprocess(predictions(scores, apart(3)), SIZE, None, InferenceConfig(max_detections=1))[0]
    assert best.scores.tolist() == found.scores[:1].tolist()


def test_best_pairs_are_kept_per_level() -> None:
    scores = torch.tensor([[0.9], [0.8], [0.3], [0.2]])
    config = InferenceConfig(pre_nms_topk=1)
    found = postprocess(predictions(scores, apart(4), 2, 2), SIZE, None, config)[0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.3]))


def test_quality_multiplies_after_the_threshold() -> None:
    scores = torch.tensor([[0.06], [0.5], [0.04]])
    quality = torch.tensor([0.1, 0.5, 0.9])
    found = postprocess(predictions(scores, apart(3), quality=quality), SIZE, None, InferenceConfig())[0]
    torch.testing.assert_close(found.scores, torch.tensor([0.25, 0.006]))


@pytest.mark.parametrize("class_major", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 0.999])
def test_exactly_the_scores_above_the_threshold_are_found(class_major: bool, aligned: bool, threshold: float) -> None:
    """Comparing logits first loses nothing and adds nothing, whatever the logits and however they lie in memory."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 40, 7, generator=draw) * torch.tensor([0.1, 1, 3, 10, 30, 100, 300])
    logits[0, :3] = torch.tensor([0.0, 100.0, -100.0])[:, None]
    alignment = torch.randn(1, 40, generator=draw) * torch.tensor([1.0, 3, 10, 100]).repeat(10)
    dense = Predictions(points(40), logits, apart(40)[None], alignment if aligned else None)
    if class_major:
        dense = replace(dense, class_logits=logits.transpose(1, 2).contiguous().transpose(1, 2))
    config = InferenceConfig(score_threshold=threshold, clip_boxes=False, max_detections=280)
    found = postprocess(dense, SIZE, None, config)[0]
    scores = dense.scores()[0]
    location = (found.boxes[:, 0] / 6).round().long()
    assert sorted(zip(location.tolist(), found.labels.tolist(), strict=True)) == [
        (row, column) for row, column in (scores > threshold).nonzero().tolist()
    ]
    torch.testing.assert_close(found.scores, scores[location, found.labels])
    assert (found.scores.diff() <= 0).all()


def test_boxes_are_clipped_then_scaled_back() -> None:
    boxes = torch.tensor([[-10.0, -10, 100, 100], [-10.0, 5, -2, 9]])
    scores = torch.tensor([[0.9], [0.8]])
    scales = torch.tensor([[2.0, 4.0]])
    found = postprocess(predictions(scores, boxes), SIZE, scales, InferenceConfig())[0]
    torch.testing.assert_close(found.boxes, torch.tensor([[0.0, 0, 40, 16]]))
    free = postprocess(predictions(scores, boxes), SIZE, scales, InferenceConfig(clip_boxes=False))[0]
    torch.testing.assert_close(free.boxes, torch.tensor([[-5.0, -2.5, 50, 25], [-5.0, 1.25, -1, 2.25]]))


def test_boxes_without_area_are_dropped() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 9], [5.0, 9, 9, 9], [9.0, 5, 5, 9], [1.0, 1, 2, 2]])
    found = postprocess(predictions(torch.full((4, 1), 0.9), boxes), SIZE, None, InferenceConfig())[0]
    torch.testing.assert_close(found.boxes, boxes[3:])


def test_nothing_above_the_threshold() -> None:
    found = postprocess(predictions(torch.full((2, 3), 0.01), apart(2)), SIZE, None, InferenceConfig())[0]
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.int64


@pytest.mark.parametrize("class_major", [False, True])
def test_equal_scores_are_in_the_order_of_location_and_class(class_major: bool) -> None:
    """Also where only some of the equal ones fit, and however the logits lie in memory."""
    logits = torch.zeros(1, 40, 7)
    dense = Predictions(points(30, 10), logits, apart(40)[None])
    if class_major:
        dense = replace(dense, class_logits=logits.transpose(1, 2).contiguous().transpose(1, 2))
    config = InferenceConfig(clip_boxes=False, pre_nms_topk=16)
    found = postprocess(dense, SIZE, None, config)[0]
    pairs = [(location, label) for location in range(40) for label in range(7)]
    location = (found.boxes[:, 0] / 6).round().long()
    expected = [*pairs[:16], *pairs[210:226]]
    assert list(zip(location.tolist(), found.labels.tolist(), strict=True)) == expected


@pytest.mark.parametrize(("device", "together"), [("cpu", False), ("cuda", True), ("cuda:1", True), ("mps", False)])
def test_images_are_processed_together_on_a_gpu(device: str, together: bool) -> None:
    assert detects_together(torch.device(device)) is together
