"""Box arithmetic against its definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.boxes import (
    DELTA_STDS,
    aligned_giou,
    aligned_iou,
    box_area,
    centerness,
    clip_boxes,
    decode_deltas,
    decode_distances,
    encode_distances,
    inner_margin,
    pairwise_iou,
)

coordinate = st.floats(-500, 500, width=32)
side = st.floats(0.5, 400, width=32)


@st.composite
def box(draw: st.DrawFn) -> Tensor:
    x, y = draw(coordinate), draw(coordinate)
    return torch.tensor([x, y, x + draw(side), y + draw(side)], dtype=torch.float64)


@given(box(), box())
def test_overlaps_are_symmetric_and_bounded(a: Tensor, b: Tensor) -> None:
    iou, giou = aligned_iou(a, b), aligned_giou(a, b)
    assert 0 <= iou <= 1 + 1e-12
    assert -1 - 1e-12 <= giou <= iou + 1e-12
    torch.testing.assert_close(iou, aligned_iou(b, a))
    torch.testing.assert_close(giou, aligned_giou(b, a))
    torch.testing.assert_close(aligned_giou(a, a), torch.tensor(1.0, dtype=torch.float64))


@given(box(), box(), st.floats(0.25, 8), coordinate)
def test_overlaps_ignore_scale_and_shift(a: Tensor, b: Tensor, scale: float, shift: float) -> None:
    torch.testing.assert_close(aligned_giou(a * scale + shift, b * scale + shift), aligned_giou(a, b))


@given(st.lists(box(), min_size=1, max_size=4), st.lists(box(), min_size=1, max_size=4))
def test_pairwise_is_aligned_for_each_pair(first: list[Tensor], second: list[Tensor]) -> None:
    table = pairwise_iou(torch.stack(first), torch.stack(second))
    for row, a in zip(table, first, strict=True):
        for value, b in zip(row, second, strict=True):
            torch.testing.assert_close(value, aligned_iou(a, b), rtol=0, atol=0)


def test_known_overlaps() -> None:
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 0, 15, 10])
    assert aligned_iou(a, b) == pytest.approx(1 / 3)
    assert aligned_giou(a, b) == pytest.approx(1 / 3)
    far = torch.tensor([20.0, 0, 30, 10])
    assert aligned_iou(a, far) == 0
    assert aligned_giou(a, far) == pytest.approx(-1 / 3)


def test_inverted_boxes_have_no_area_and_no_reward() -> None:
    inverted = torch.tensor([9.0, 9, 1, 1], requires_grad=True)
    assert box_area(inverted) == 0
    loss = 1 - aligned_giou(inverted, torch.tensor([0.0, 0, 10, 10]))
    assert loss >= 1
    loss.backward()
    assert inverted.grad is not None
    assert torch.isfinite(inverted.grad).all()


def test_degenerate_boxes_stay_finite() -> None:
    point = torch.zeros(4)
    assert aligned_iou(point, point) == 0
    assert torch.isfinite(aligned_giou(point, point))


def encode_deltas(anchor: Tensor, target: Tensor) -> Tensor:
    """What the decoder inverts: offset of the centre in anchor sizes and log ratio of sizes, standardised."""
    anchor_size, size = anchor[2:] - anchor[:2], target[2:] - target[:2]
    offset = (target[:2] + target[2:] - anchor[:2] - anchor[2:]) / 2 / anchor_size
    return torch.cat([offset, (size / anchor_size).log()]) / anchor.new_tensor(DELTA_STDS)


@given(box(), box())
def test_delta_coder_round_trip(anchor: Tensor, target: Tensor) -> None:
    ratio = ((target[2:] - target[:2]) / (anchor[2:] - anchor[:2])).log().abs().max()
    decoded = decode_deltas(anchor, encode_deltas(anchor, target))
    if ratio < math.log(1000 / 16):
        torch.testing.assert_close(decoded, target, rtol=1e-9, atol=1e-9)
    else:
        assert torch.isfinite(decoded).all()


def test_delta_coder_divides_by_its_deviations_and_clamps_sizes() -> None:
    anchor = torch.tensor([0.0, 0, 10, 10])
    deltas = encode_deltas(anchor, torch.tensor([1.0, 0, 11, 10]))
    torch.testing.assert_close(deltas, torch.tensor([1.0, 0, 0, 0]))
    huge = decode_deltas(anchor, torch.tensor([0.0, 0, 1000, 0]))
    assert huge[2] - huge[0] == pytest.approx(10 * 1000 / 16, rel=1e-5)


@given(box(), coordinate, coordinate)
def test_distance_coder_round_trip(target: Tensor, x: float, y: float) -> None:
    point = torch.tensor([x, y], dtype=torch.float64)
    distances = encode_distances(point, target)
    torch.testing.assert_close(decode_distances(point, distances), target)
    inside = bool(((point > target[:2]) & (point < target[2:])).all())
    assert (inner_margin(point, target) > 0) == inside
    assert (centerness(point, target) > 0) == inside


def test_centerness_values() -> None:
    target = torch.tensor([0.0, 0, 10, 10])
    assert centerness(torch.tensor([5.0, 5.0]), target) == 1
    assert centerness(torch.tensor([2.0, 5.0]), target) == pytest.approx(math.sqrt(2 / 8))
    assert centerness(torch.tensor([-1.0, 5.0]), target) == 0


def test_clipping_uses_height_and_width() -> None:
    clipped = clip_boxes(torch.tensor([[-5.0, -5, 50, 50]]), torch.tensor([[20, 30]]))
    torch.testing.assert_close(clipped, torch.tensor([[0.0, 0, 30, 20]]))
