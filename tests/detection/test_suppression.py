"""Suppression: within classes, of one image and of many at once, equal to a plain loop."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.boxes import pairwise_iou
from tood.detection.suppression import class_nms, nms_of_classes_apart, suppress_together

ONE_BY_ONE = pytest.mark.parametrize("suppress", [class_nms, nms_of_classes_apart])


@ONE_BY_ONE
def test_negative_coordinates_do_not_let_classes_collide(suppress: Callable[..., Tensor]) -> None:
    """The pair with which offsets from the largest coordinate suppress across classes."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [-101.0, -101, -1, -1]])
    kept = suppress(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.6)
    assert sorted(kept.tolist()) == [0, 1]


def loop_over_classes(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> list[int]:
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        same = [other for other in kept if labels[other] == labels[index]]
        if not same or (pairwise_iou(boxes[index][None].double(), boxes[same].double()) <= iou).all():
            kept.append(index)
    return kept


def crowd(seed: int, count: int = 120) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * 60 - 30
    boxes = torch.cat([corner, corner + 5 + 30 * torch.rand(count, 2, generator=draw)], dim=1)
    return boxes, torch.rand(count, generator=draw), torch.randint(4, (count,), generator=draw)


@pytest.mark.parametrize("seed", range(4))
@ONE_BY_ONE
def test_suppression_equals_a_loop_over_classes(suppress: Callable[..., Tensor], seed: int) -> None:
    boxes, scores, labels = crowd(seed)
    kept = loop_over_classes(boxes, scores, labels, 0.5)
    assert suppress(boxes, scores, labels, 0.5).tolist() == kept
    assert len(kept) < 120


@pytest.mark.parametrize("pairs_together", [1, 2 * 120**2, 1 << 24])
def test_many_images_at_once_equal_a_loop_over_classes(pairs_together: int) -> None:
    crowds = [crowd(seed) for seed in range(5)]
    order = [scores.argsort(descending=True, stable=True) for _, scores, _ in crowds]
    boxes = torch.stack([one[0][by_score] for one, by_score in zip(crowds, order, strict=True)])
    labels = torch.stack([one[2][by_score] for one, by_score in zip(crowds, order, strict=True)])
    valid = torch.ones_like(labels, dtype=torch.bool)
    kept, certain = suppress_together(boxes, labels, valid, 0.5, pairs_together=pairs_together)
    assert certain.all()
    for one, by_score, (all_boxes, scores, all_labels) in zip(kept, order, crowds, strict=True):
        assert by_score[one].tolist() == loop_over_classes(all_boxes, scores, all_labels, 0.5)


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.integers(-2, 6)] * 4, st.integers(0, 1), st.booleans()), min_size=1, max_size=25),
    iou=st.sampled_from([0.0, 1 / 3, 0.5, 0.6, 1.0]),
)
def test_overlaps_exactly_at_the_threshold(boxes: list[tuple[int, ...]], iou: float) -> None:
    """Integer boxes, also flat and inverted ones, some of which do not count; against torchvision's suppression."""
    given_boxes = torch.tensor([box[:4] for box in boxes]).float()
    labels = torch.tensor([box[4] for box in boxes])
    valid = torch.tensor([bool(box[5]) for box in boxes])
    kept, certain = suppress_together(given_boxes[None], labels[None], valid[None], iou, rounds=30)
    assert certain.tolist() == [True]
    existing = valid.nonzero().flatten()
    alone = class_nms(given_boxes[valid], torch.linspace(1, 0.5, len(existing)), labels[valid], iou)
    assert kept[0].nonzero().flatten().tolist() == existing[alone].tolist()


@pytest.mark.parametrize("rounds", [1, 2, 5, 9, 10, 11, 20])
def test_a_chain_is_certain_once_a_round_changes_nothing(rounds: int) -> None:
    """Each of 11 boxes overlaps the next: every other one survives, and the last is decided in the 10th round."""
    left = torch.arange(11.0) * 4
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)[None]
    one = torch.zeros(1, 11, dtype=torch.int64)
    kept, certain = suppress_together(boxes, one, one == 0, 0.3, rounds=rounds)
    decided = min(rounds + 1, 11)
    assert kept[0, :decided].tolist() == [index % 2 == 0 for index in range(decided)]
    assert certain.tolist() == [rounds > 10]
