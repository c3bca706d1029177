"""Score voting, and detections ranked by the geometric mean of class and quality."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.points import make_points
from tood.detection.postprocess import Detections, postprocess
from tood.detection.predictions import Predictions
from tood.detection.score_voting import vote_boxes

SLOW = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10_000)
BOX = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
ZERO = torch.tensor([0])


def crowd(seed: int, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Overlapping boxes of three classes: boxes, labels, scores."""
    draw = torch.Generator().manual_seed(seed)
    corner = 20 * torch.rand(count, 2, generator=draw)
    boxes = torch.cat([corner, corner + 3 + 15 * torch.rand(count, 2, generator=draw)], dim=1)
    return boxes, torch.randint(3, (count,), generator=draw), 0.05 + 0.9 * torch.rand(count, generator=draw)


def test_weights_by_hand() -> None:
    """The box itself with score 0.8, and with score 0.5 its left half, of IoU 1/2: e^(-0.25 / 0.5) of its score."""
    candidates = torch.cat([BOX, torch.tensor([[0.0, 0.0, 5.0, 10.0]])])
    found = vote_boxes(BOX, ZERO, candidates, torch.zeros(2).long(), torch.tensor([0.8, 0.5]), sigma=0.5)
    weight = 0.5 * math.exp(-0.5)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, (0.8 * 10 + weight * 5) / (0.8 + weight), 10.0]]))


def test_who_has_no_vote() -> None:
    """Another class, and what overlaps by no more than 0.01; with a sigma by which every vote is worth the same."""
    candidates = torch.cat([BOX, BOX + 1, torch.tensor([[9.1, 9.1, 19.1, 19.1]])])
    labels = torch.tensor([0, 1, 0])
    found = vote_boxes(BOX, ZERO, candidates, labels, torch.full((3,), 0.5), sigma=1e9)
    torch.testing.assert_close(found, BOX)


def test_a_box_without_area_stays() -> None:
    flat = torch.tensor([[4.0, 3.0, 4.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    candidates = torch.cat([flat, BOX])
    labels = torch.zeros(3).long()
    found = vote_boxes(flat, labels[:2], candidates, labels, torch.full((3,), 0.5), sigma=0.025)
    assert torch.equal(found, flat)
    nobody = torch.zeros(0, 4)
    assert torch.equal(vote_boxes(flat, labels[:2], nobody, labels[:0], labels[:0].float(), sigma=0.025), flat)
    assert vote_boxes(nobody, labels[:0], candidates, labels, torch.full((3,), 0.5), sigma=0.025).shape == (0, 4)


@SLOW
@given(SEEDS)
def test_voting_is_what_a_loop_finds(seed: int) -> None:
    boxes, labels, scores = crowd(seed)
    found = vote_boxes(boxes[:7], labels[:7], boxes, labels, scores, sigma=0.025)
    for number in range(7):
        top, total = torch.zeros(4), 0.0
        for box, label, score in zip(boxes, labels, scores, strict=True):
            low, high = torch.maximum(box[:2], boxes[number, :2]), torch.minimum(box[2:], boxes[number, 2:])
            common = float((high - low).clamp(min=0).prod())
            areas = [float((b[2:] - b[:2]).prod()) for b in (box, boxes[number])]
            iou = common / (sum(areas) - common)
            if label == labels[number] and iou > 0.01:
                weight = float(score) * math.exp(-((1 - iou) ** 2) / 0.025)
                top, total = top + weight * box, total + weight
        torch.testing.assert_close(found[number], top / total, rtol=1e-4, atol=1e-4)


@SLOW
@given(SEEDS, st.integers(1, 200))
def test_pieces_and_order_change_nothing(seed: int, elements: int) -> None:
    boxes, labels, scores = crowd(seed)
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
    whole = vote_boxes(boxes[:9], labels[:9], boxes, labels, scores, sigma=0.1)
    pieces = vote_boxes(
        boxes[:9], labels[:9], boxes[order], labels[order], scores[order], sigma=0.1, dense_elements=elements
    )
    torch.testing.assert_close(pieces, whole)
    for label in range(3):
        own, of_class = boxes[labels == label], labels[:9] == label
        assert (whole[of_class] >= own.amin(dim=0) - 1e-4).all() if of_class.any() else True
        assert (whole[of_class] <= own.amax(dim=0) + 1e-4).all() if of_class.any() else True


@SLOW
@given(SEEDS)
def test_a_narrow_sigma_leaves_boxes_alone(seed: int) -> None:
    boxes, labels, scores = crowd(seed)
    torch.testing.assert_close(vote_boxes(boxes, labels, boxes, labels, scores, sigma=1e-9), boxes)


def detect(
    scores: Tensor,
    quality: Tensor,
    boxes: Tensor,
    alignment: Tensor | None = None,
    *,
    levels: tuple[int, ...] = (),
    **options: object,
) -> Detections:
    """One image of 64 x 80 pixels, with one level unless their lengths are given; probabilities (N, C), (N,), (N,)."""
    sizes = tuple((1, length) for length in levels or (len(boxes),))
    predictions = Predictions(
        points=make_points(sizes, (8, 16)[: len(sizes)], torch.device("cpu"), torch.float32),
        class_logits=scores.logit()[None],
        boxes=boxes[None],
        quality=quality.logit()[None],
        alignment_logits=None if alignment is None else alignment.logit()[None],
    )
    config = InferenceConfig.model_validate({"rank_by": "geometric_mean", **options})
    return postprocess(predictions, torch.tensor([[64, 80]]), None, config)[0]


def apart(count: int) -> Tensor:
    left = torch.arange(count) * 6.0
    return torch.stack([left, torch.zeros(count), left + 5, torch.full((count,), 5.0)], dim=1)


def test_geometric_mean_is_thresholded_ranked_and_returned() -> None:
    scores, quality = torch.tensor([[0.81, 0.01], [0.04, 0.64], [0.9, 0.3]]), torch.tensor([0.25, 0.36, 0.002])
    found = detect(scores, quality, apart(3))
    torch.testing.assert_close(found.scores, torch.tensor([0.48, 0.45, 0.12]))
    assert found.labels.tolist() == [1, 0, 0]
    assert not torch.isin(found.boxes[:, 0], apart(3)[2, 0]).any()  # sqrt(0.9 * 0.002) < 0.05


def test_geometric_mean_with_an_aligned_score() -> None:
    """sqrt(sqrt(class * alignment) * quality)."""
    found = detect(torch.tensor([[0.64], [0.5]]), torch.tensor([0.5, 0.001]), apart(2), torch.tensor([0.25, 0.3]))
    torch.testing.assert_close(found.scores, torch.tensor([math.sqrt(0.4 * 0.5)]))


def test_all_classes_of_the_best_locations_are_kept() -> None:
    scores = torch.tensor([[0.9, 0.2], [0.8, 0.7], [0.6, 0.1]])
    ones = torch.ones(3) * 0.999999
    found = detect(scores, ones, apart(3), pre_nms_topk=2)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.7, 0.2]).sqrt())
    by_level = detect(scores, ones, apart(3), levels=(1, 2), pre_nms_topk=1)
    torch.testing.assert_close(by_level.scores, torch.tensor([0.9, 0.8, 0.7, 0.2]).sqrt())
    by_level = detect(scores, ones, apart(3), levels=(2, 1), pre_nms_topk=1)
    torch.testing.assert_close(by_level.scores, torch.tensor([0.9, 0.6, 0.2, 0.1]).sqrt())


def test_voting_moves_boxes_and_nothing_else() -> None:
    boxes, labels, scores = crowd(4)
    classes = torch.full((40, 3), 0.001)
    classes[torch.arange(40), labels] = scores
    plain = detect(classes, torch.full((40,), 0.7), boxes)
    voted = detect(classes, torch.full((40,), 0.7), boxes, score_voting=0.025)
    assert torch.equal(plain.scores, voted.scores)
    assert torch.equal(plain.labels, voted.labels)
    expected = vote_boxes(plain.boxes, plain.labels, boxes, labels, (scores * 0.7).sqrt(), sigma=0.025)
    torch.testing.assert_close(voted.boxes, expected)
    assert not torch.allclose(voted.boxes, plain.boxes)


def test_boxes_that_clipping_flattens_stay_with_voting_only() -> None:
    """As the reference does, whose box is then NaN; ours is the one before voting."""
    boxes = torch.cat([apart(1), torch.tensor([[90.0, 10.0, 99.0, 20.0]])])
    scores, quality = torch.tensor([[0.5], [0.9]]), torch.tensor([0.5, 0.9])
    found = detect(scores, quality, boxes, score_voting=0.025)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.5]))
    torch.testing.assert_close(found.boxes[0], torch.tensor([80.0, 10.0, 80.0, 20.0]))
    assert len(detect(scores, quality, boxes).scores) == 1


def test_nothing_found_is_fine_with_voting() -> None:
    found = detect(torch.full((2, 3), 0.001), torch.full((2,), 0.5), apart(2), score_voting=0.025)
    assert found.boxes.shape == (0, 4)
