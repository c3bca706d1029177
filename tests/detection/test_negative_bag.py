"""FreeAnchor's negative loss: worked examples, its derivative, and that pieces change nothing."""

import math
from typing import Any

import pytest
import torch
from bag_scenes import pyramid, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.criteria.negative_bag import negative_bag_loss
from tood.detection.targets import Targets

seeds = st.integers(0, 10_000)


def negative_terms(
    logits: list[float], boxes: list[list[float]], objects: list[list[float]], labels: list[int], **options: Any
) -> Tensor:
    """The negative loss at the given boxes, each with the same logits of the classes."""
    targets = Targets(
        torch.tensor([objects], dtype=torch.float64).reshape(1, -1, 4),
        torch.tensor([labels], dtype=torch.int64).reshape(1, -1),
        torch.ones(1, len(labels), dtype=torch.bool),
    )
    dense = torch.tensor([[logits] * len(boxes)], dtype=torch.float64)
    where = torch.tensor([boxes], dtype=torch.float64)
    return negative_bag_loss(dense, where, targets, **{"iou_threshold": 0.6, "gamma": 2.0, **options})[0]


def background(logit: float, matched: float = 0.0) -> float:
    q = (1 - matched) / (1 + math.exp(-logit))
    return -(q**2) * math.log(1 - q)


def test_an_anchor_is_background_as_far_as_its_box_misses_the_objects_of_a_class() -> None:
    # Overlaps 0.9, 0.75 and 0.6 with the object: matched by 1, a half and not at all.
    boxes = [[0.0, 0, 10, 9], [0.0, 0, 10, 7.5], [0.0, 0, 10, 6]]
    found = negative_terms([1.0, -2.0], boxes, [[0.0, 0, 10, 10]], [0])
    other = background(-2.0)
    expected = [other, background(1.0, 0.5) + other, background(1.0) + other]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_of_several_objects_of_a_class_the_one_hit_best_counts() -> None:
    boxes = [[0.0, 0, 10, 8], [0.0, 0, 10, 9.5], [50.0, 0, 60, 10]]
    objects = [[0.0, 0, 10, 10], [50.0, 0, 60, 10]]
    apart = negative_terms([1.0, 0.5], boxes, objects, [0, 1])
    expected = [background(1.0, 0.2 / 0.35) + background(0.5), background(0.5), background(1.0)]
    torch.testing.assert_close(apart, torch.tensor(expected, dtype=torch.float64))
    same = negative_terms([1.0, 0.5], boxes, objects, [0, 0])
    expected = [background(1.0, 0.2 / 0.35) + background(0.5), background(0.5), background(0.5)]
    torch.testing.assert_close(same, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("objects", [[], [[40.0, 40, 45, 45]], [[0.0, 0, 10, 5]]])
def test_everything_is_background_where_no_box_hits_an_object(objects: list[list[float]]) -> None:
    found = negative_terms([1.0, -2.0], [[0.0, 0, 10, 10]], objects, [0] * len(objects))
    assert float(found) == pytest.approx(background(1.0) + background(-2.0))


@settings(max_examples=20, deadline=None)
@given(seed=seeds, gamma=st.sampled_from([0.0, 1.0, 1.5, 2.0]), classes=st.integers(1, 4))
def test_negative_gradient_is_the_derivative(seed: int, gamma: float, classes: int) -> None:
    batch = scene(seed, classes=classes, points=pyramid(((2, 2),)))

    def loss(logits: Tensor) -> Tensor:
        boxes = batch.predictions.boxes.detach()
        return negative_bag_loss(logits, boxes, batch.targets, iou_threshold=0.2, gamma=gamma)

    assert torch.autograd.gradcheck(loss, (batch.predictions.class_logits,))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, elements=st.sampled_from([1, 100, 1000]))
def test_pieces_of_locations_change_nothing(seed: int, elements: int) -> None:
    batch = scene(seed)
    args = (batch.predictions.class_logits, batch.predictions.boxes.detach(), batch.targets)
    whole = negative_bag_loss(*args, iou_threshold=0.4, gamma=2.0)
    pieces = negative_bag_loss(*args, iou_threshold=0.4, gamma=2.0, dense_elements=elements)
    torch.testing.assert_close(pieces, whole)
