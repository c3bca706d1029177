"""Sampling of boxes: equal to torchvision's deformable convolution, in values and gradients, whatever the offsets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import deform_conv2d

from tood.detection.heads.alignment import align_boxes, sample_boxes
from tood.detection.points import STRIDES, Points, make_points
from tood.detection.predictions import flatten_levels

NAN, INF = float("nan"), float("inf")
SIZES = ((5, 7), (3, 4), (1, 2), (1, 1))


def points_of_maps(*sizes: tuple[int, int], dtype: torch.dtype = torch.float64) -> Points:
    return make_points(sizes, STRIDES[: len(sizes)], torch.device("cpu"), dtype)


def sample_map(boxes: Tensor, offsets: Tensor) -> Tensor:
    """One level: (B, 4, h, w) and (B, 8, h, w) -> (B, 4, h, w)."""
    size = (boxes.shape[2], boxes.shape[3])
    sampled = sample_boxes(flatten_levels([boxes]), [offsets], points_of_maps(size))
    return torch.unflatten(sampled.transpose(1, 2), 2, size)


def sample_by_torchvision(boxes: Tensor, offsets: list[Tensor], points: Points) -> Tensor:
    """Level by level as a deformable convolution of 1x1 with weights 1."""
    levels = [
        deform_conv2d(torch.unflatten(level.transpose(1, 2), 2, size), offset.nan_to_num(), level.new_ones(4, 1, 1, 1))
        for level, size, offset in zip(points.split(boxes), points.level_sizes, offsets, strict=True)
    ]
    return flatten_levels(levels)


def assert_equals_torchvision(boxes: Tensor, offsets: list[Tensor], sizes: tuple[tuple[int, int], ...]) -> None:
    """Values and both gradients, in float64."""
    points = points_of_maps(*sizes)
    weight = torch.randn(boxes.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = []
    for sample in (sample_boxes, sample_by_torchvision):
        leaves = [one.clone().requires_grad_() for one in (boxes, *offsets)]
        sampled = sample(leaves[0], leaves[1:], points)
        found.append([sampled.detach(), *torch.autograd.grad((sampled * weight).sum(), leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def random_maps(seed: int, spread: float) -> tuple[Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    boxes = torch.randn(2, sum(h * w for h, w in SIZES), 4, generator=draw, dtype=torch.float64)
    offsets = [spread * torch.randn(2, 8, h, w, generator=draw, dtype=torch.float64) for h, w in SIZES]
    return boxes, offsets


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0, 30.0])
def test_equals_torchvision_at_any_distance(spread: float) -> None:
    for seed in range(3):
        assert_equals_torchvision(*random_maps(seed, spread), SIZES)


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_equals_torchvision_on_cells_and_borders(step: float) -> None:
    """Multiples of a cell or half of one: exactly on cells, on the borders and one cell outside."""
    for seed in range(3):
        boxes, offsets = random_maps(seed, 3.0)
        assert_equals_torchvision(boxes, [(offset / step).round() * step for offset in offsets], SIZES)


EDGES = (0.0, -0.0, 1.0, -1.0, 1 - 2**-53, -1 + 2**-53, 1e-300, 2.0, 5.0, 2.0**31, -(2.0**63), 1e300, NAN, INF, -INF)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    offsets=st.lists(st.sampled_from(EDGES) | st.floats(-6, 6), min_size=1, max_size=40),
)
def test_equals_torchvision_for_any_offsets(height: int, width: int, offsets: list[float]) -> None:
    count = 8 * height * width
    repeated = torch.tensor(offsets, dtype=torch.float64).repeat(count // len(offsets) + 1)[:count]
    boxes = torch.linspace(-1, 2, 4 * height * width, dtype=torch.float64).reshape(1, -1, 4)
    assert_equals_torchvision(boxes, [repeated.reshape(1, 8, height, width)], ((height, width),))


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30, -3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_offset_reads_outside_the_maps(value: float, dtype: torch.dtype) -> None:
    """Far away everything is 0, without a gradient; no number stands for no offset."""
    boxes = torch.rand(1, 15, 4, dtype=dtype).requires_grad_()
    offsets = torch.full((1, 8, 3, 5), value, dtype=dtype, requires_grad=True)
    sampled = sample_boxes(boxes, [offsets], points_of_maps((3, 5), dtype=dtype))
    assert sampled.dtype == dtype
    assert torch.equal(sampled, boxes if value != value else torch.zeros_like(boxes))
    sampled.sum().backward()
    assert boxes.grad is not None
    assert offsets.grad is not None
    assert torch.equal(boxes.grad, torch.ones_like(boxes) if value != value else torch.zeros_like(boxes))
    assert not offsets.grad.any()


def test_boxes_that_are_not_numbers_stay_where_they_are() -> None:
    """What lies outside the map counts as 0, also if the values in it are no numbers."""
    boxes = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    boxes[:, :, 0, 0] = NAN
    offsets = torch.full((1, 8, 3, 3), 0.5, dtype=torch.float64)
    wrong = sample_map(boxes, offsets).isnan()
    assert wrong[:, :, 0, 0].all()
    assert wrong.sum() == 4


def test_zero_offset_is_the_identity() -> None:
    boxes = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(sample_map(boxes, torch.zeros(2, 8, 5, 6)), boxes, rtol=0, atol=0)


def test_offset_channels_are_dy_then_dx_of_each_coordinate() -> None:
    boxes = torch.randn(1, 4, 5, 6)
    for coordinate in range(4):
        for axis, step in ((0, (-1, 0)), (1, (0, -1))):
            offsets = torch.zeros(1, 8, 5, 6)
            offsets[:, 2 * coordinate + axis] = -1
            moved = sample_map(boxes, offsets)
            expected = boxes.clone()
            expected[:, coordinate] = 0
            y, x = -step[0], -step[1]
            expected[:, coordinate, y:, x:] = boxes[:, coordinate, : 5 - y, : 6 - x]
            torch.testing.assert_close(moved, expected)


def test_sampling_is_bilinear_and_zero_outside() -> None:
    boxes = torch.ones(1, 4, 2, 2)
    offsets = torch.full((1, 8, 2, 2), 0.5)
    expected = torch.tensor([[1.0, 0.5], [0.5, 0.25]])
    torch.testing.assert_close(sample_map(boxes, offsets)[0, 0], expected)


def test_inverted_boxes_stay_where_they_were_and_get_the_gradient() -> None:
    """Both cells read x2 outside the map, where it is 0; only for the second that inverts the box."""
    points = points_of_maps((1, 2), dtype=torch.float32)
    boxes = torch.tensor([[[-8.0, -8, 8, 8], [4.0, -8, 30, 8]]], requires_grad=True)
    offsets = torch.zeros(1, 8, 1, 2)
    offsets[0, 4] = 5
    offsets.requires_grad_()
    aligned = align_boxes(boxes, [offsets], points)
    torch.testing.assert_close(aligned[0, 0], torch.tensor([-8.0, -8, 0, 8]))
    torch.testing.assert_close(aligned[0, 1], boxes[0, 1])
    aligned[0, 1].sum().backward()
    assert boxes.grad is not None
    assert offsets.grad is not None
    torch.testing.assert_close(boxes.grad[0], torch.tensor([[0.0] * 4, [1.0] * 4]))
    assert not offsets.grad.any()
