"""Anchors: shapes, order, and the offsets that boxes are described by."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.boxes import DELTA_STDS, DeltaStds, decode_deltas, encode_deltas
from tood.detection.points import SQUARE, STRIDES, AnchorShapes, make_points, points_of, valid_points
from tood.detection.predictions import flatten_levels

CPU = torch.device("cpu")
RATIOS = (0.5, 1.0, 2.0)
NINE = AnchorShapes(scale=4.0, per_octave=3, ratios=RATIOS)


@pytest.mark.parametrize("stride", STRIDES)
def test_nine_anchors_are_ordered_by_ratio_then_size(stride: int) -> None:
    assert NINE.per_location == 9
    halves = NINE.half_sizes(stride)
    assert len(halves) == 9
    for ratio_index, ratio in enumerate(RATIOS):
        for scale_index in range(3):
            side = 4 * stride * 2 ** (scale_index / 3)
            width, height = (2 * half for half in halves[ratio_index * 3 + scale_index])
            assert width == pytest.approx(side / math.sqrt(ratio), rel=1e-6)
            assert height == pytest.approx(side * math.sqrt(ratio), rel=1e-6)
            assert width * height == pytest.approx(side**2, rel=1e-6)
            assert height / width == pytest.approx(ratio, rel=1e-6)


def test_the_default_is_a_square_of_eight_strides() -> None:
    assert AnchorShapes() == SQUARE
    assert SQUARE.per_location == 1
    points = make_points(((16, 16), (8, 8), (4, 4), (2, 2), (1, 1)), STRIDES, CPU, torch.float32)
    reach = 4 * points.strides[:, None]
    assert torch.equal(points.anchors, torch.cat([points.centres - reach, points.centres + reach], dim=1))


def test_points_run_over_level_row_column_anchor() -> None:
    sizes, strides = ((2, 3), (1, 2)), (8, 16)
    points = make_points(sizes, strides, CPU, torch.float64, NINE)
    assert points.anchors_per_location == 9
    assert points.level_counts == [54, 18]
    expected = [
        (float(stride), float(column * stride), float(row * stride), *half)
        for (height, width), stride in zip(sizes, strides, strict=True)
        for row in range(height)
        for column in range(width)
        for half in NINE.half_sizes(stride)
    ]
    table = torch.tensor(expected, dtype=torch.float64)
    assert torch.equal(points.strides, table[:, 0])
    assert torch.equal(points.centres, table[:, 1:3])
    torch.testing.assert_close((points.anchors[:, 2:] - points.anchors[:, :2]) / 2, table[:, 3:], rtol=1e-5, atol=0)
    torch.testing.assert_close((points.anchors[:, 2:] + points.anchors[:, :2]) / 2, table[:, 1:3], rtol=0, atol=1e-4)
    first, second = points.split(points.strides, dim=0)
    assert (first == 8).all()
    assert (second == 16).all()


def test_all_anchors_of_a_location_are_valid_together() -> None:
    sizes = ((8, 8), (4, 4), (2, 2), (1, 1), (1, 1))
    images = torch.tensor([[64, 64], [30, 64]])
    single = valid_points(make_points(sizes, STRIDES, CPU, torch.float32), images)
    several = valid_points(make_points(sizes, STRIDES, CPU, torch.float32, NINE), images)
    assert torch.equal(several, single.repeat_interleave(9, dim=1))
    assert not several.all()


def test_other_shapes_are_other_points() -> None:
    """The cache tells them apart."""
    maps = [torch.zeros(1, 1, 3, 4)]
    assert len(points_of(maps, (8,), torch.float32).centres) == 12
    assert len(points_of(maps, (8,), torch.float32, NINE).centres) == 108
    assert len(points_of(maps, (8,), torch.float32).centres) == 12


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("anchors", "values"), [(1, 4), (9, 4), (9, 1), (3, 5)])
def test_channel_a_times_d_plus_d_goes_to_anchor_a(anchors: int, values: int, layout: torch.memory_format) -> None:
    sizes = ((2, 3), (1, 2))
    levels = [
        torch.randn(2, anchors * values, *size, dtype=torch.float64).contiguous(memory_format=layout) for size in sizes
    ]
    flat = flatten_levels(levels, anchors)
    assert flat.shape == (2, anchors * 8, values)
    start = 0
    for level, (height, width) in zip(levels, sizes, strict=True):
        for row in range(height):
            for column in range(width):
                for anchor in range(anchors):
                    location = start + (row * width + column) * anchors + anchor
                    expected = level[:, anchor * values : (anchor + 1) * values, row, column]
                    assert torch.equal(flat[:, location], expected)
        start += height * width * anchors


coordinate = st.floats(-500, 500, width=32)
side = st.floats(1, 400, width=32)
deviation = st.sampled_from([DELTA_STDS, (1.0, 1.0, 1.0, 1.0), (0.5, 0.25, 2.0, 3.0)])


@st.composite
def box(draw: st.DrawFn) -> Tensor:
    x, y = draw(coordinate), draw(coordinate)
    return torch.tensor([x, y, x + draw(side), y + draw(side)], dtype=torch.float64)


def size_ratio(anchor: Tensor, target: Tensor) -> float:
    sizes = ((target[2:] - target[:2]) / (anchor[2:] - anchor[:2])).log().abs()
    return float(sizes.max())


@given(box(), box(), deviation)
def test_decoding_undoes_encoding(anchor: Tensor, target: Tensor, stds: DeltaStds) -> None:
    decoded = decode_deltas(anchor, encode_deltas(anchor, target, stds), stds)
    if size_ratio(anchor, target) < math.log(1000 / 16):
        torch.testing.assert_close(decoded, target, rtol=1e-9, atol=1e-9)
    assert torch.isfinite(decoded).all()


@given(box(), st.lists(st.floats(-3, 3), min_size=4, max_size=4), deviation)
def test_encoding_undoes_decoding(anchor: Tensor, values: list[float], stds: DeltaStds) -> None:
    deltas = torch.tensor(values, dtype=torch.float64)
    if (deltas * torch.tensor(stds)).abs().max() < math.log(1000 / 16):
        torch.testing.assert_close(
            encode_deltas(anchor, decode_deltas(anchor, deltas, stds), stds), deltas, rtol=1e-7, atol=1e-7
        )


@given(box(), deviation)
def test_the_anchor_itself_is_zero(anchor: Tensor, stds: DeltaStds) -> None:
    zero = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(encode_deltas(anchor, anchor, stds), zero)
    torch.testing.assert_close(decode_deltas(anchor, zero, stds), anchor)


def test_offsets_by_hand() -> None:
    """Two widths to the right, a quarter of the height down, twice as wide, half as high."""
    anchor, target = torch.tensor([0.0, 0, 10, 20]), torch.tensor([15.0, 10, 35, 20])
    plain = torch.tensor([2.0, 0.25, math.log(2), -math.log(2)])
    torch.testing.assert_close(encode_deltas(anchor, target, (1.0, 1.0, 1.0, 1.0)), plain)
    torch.testing.assert_close(encode_deltas(anchor, target), plain / torch.tensor([0.1, 0.1, 0.2, 0.2]))


def test_boxes_without_extent_have_finite_offsets() -> None:
    anchor, point = torch.tensor([0.0, 0, 10, 20]), torch.tensor([3.0, 4, 3, 4])
    deltas = encode_deltas(anchor, point)
    assert deltas.isfinite().all()
    torch.testing.assert_close(encode_deltas(anchor, point + torch.tensor([-5e-7, -5e-7, 5e-7, 5e-7])), deltas)
