"""Modulated deformable convolution: its channels, its initial state, its precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tood.detection.deformable import KERNEL, DeformableConv, captures_in_graph
from tood.detection.heads.layers import ConvNorm
from tood.detection.heads.task_aligned import TaskAlignedHead

SHAPES = [
    {},
    {"stride": 2},
    {"groups": 2},
    {"offset_groups": 4},
    {"stride": 2, "groups": 4, "offset_groups": 2},
]
every_shape = pytest.mark.parametrize("options", SHAPES, ids=str)


def layer(dtype: torch.dtype = torch.float64, **options: int) -> DeformableConv:
    torch.manual_seed(1)
    return DeformableConv(8, 12, **options).to(dtype)


def maps(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 8, 7, 10, generator=torch.Generator().manual_seed(2), dtype=dtype)


def bias(conv: DeformableConv) -> Tensor:
    assert conv.conv_offset.bias is not None
    return conv.conv_offset.bias


@every_shape
def test_initially_half_of_a_plain_convolution(options: dict[str, int]) -> None:
    """No offset, and every weight of a sample is sigmoid(0)."""
    conv = layer(**options)
    plain = F.conv2d(maps(), conv.weight, stride=conv.stride, padding=1, groups=conv.groups)
    torch.testing.assert_close(conv(maps()), 0.5 * plain)


def shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """The map whose cell (i, j) is cell (i + dy, j + dx) of x, 0 outside."""
    out = torch.zeros_like(x)
    height, width = x.shape[2:]
    for i in range(max(0, -dy), min(height, height - dy)):
        for j in range(max(0, -dx), min(width, width - dx)):
            out[:, :, i, j] = x[:, :, i + dy, j + dx]
    return out


@every_shape
def test_offsets_are_dy_then_dx_of_each_point_and_masks_come_last(options: dict[str, int]) -> None:
    """Whole-cell offsets, other ones for every kernel point and offset group, against shifted maps."""
    conv = layer(**options)
    offset_groups, points = options.get("offset_groups", 1), KERNEL * KERNEL
    draw = torch.Generator().manual_seed(3)
    offsets = torch.randint(-3, 4, (offset_groups, points, 2), generator=draw)
    logits = torch.randn(offset_groups, points, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        bias(conv).copy_(torch.cat([offsets.flatten().double(), logits.flatten()]))
    x, expected = maps(), torch.zeros(())
    for point in range(points):
        row, column = divmod(point, KERNEL)
        sampled = [
            shifted(part, row - 1 + int(offsets[group, point, 0]), column - 1 + int(offsets[group, point, 1]))
            * logits[group, point].sigmoid()
            for group, part in enumerate(x.chunk(offset_groups, dim=1))
        ]
        kernel = conv.weight[:, :, row, column, None, None]
        expected = expected + F.conv2d(torch.cat(sampled, dim=1), kernel, groups=conv.groups)
    torch.testing.assert_close(conv(x), expected[:, :, :: conv.stride[0], :: conv.stride[1]])


def test_fractions_of_a_cell_are_bilinear() -> None:
    conv, x = layer(), maps()
    with torch.no_grad():
        bias(conv)[: 2 * KERNEL * KERNEL : 2] = 0.25  # dy
        bias(conv)[1 : 2 * KERNEL * KERNEL : 2] = -0.5  # dx
    # Only where the field of view with its shift stays inside the map.
    between = 0.75 * x + 0.25 * shifted(x, 1, 0)
    between = 0.5 * between + 0.5 * shifted(between, 0, -1)
    expected = 0.5 * F.conv2d(between, conv.weight, padding=1)
    torch.testing.assert_close(conv(x)[:, :, 1:-2, 2:-1], expected[:, :, 1:-2, 2:-1])


def test_offsets_are_predicted_for_each_cell() -> None:
    """A cell with a large value in one channel moves only what is sampled for its neighbourhood."""
    conv, x = layer(), maps()
    x[:, 0] = 0
    calm = conv(x)
    with torch.no_grad():
        conv.conv_offset.weight[:, 0, 1, 1] = 1
    torch.testing.assert_close(conv(x), calm)
    x[:, 0, 3, 4] = 1e-9
    changed = ~torch.isclose(conv(x), calm, rtol=0, atol=1e-14).all(dim=1)
    assert changed[:, 3, 4].all()
    assert not changed[:, :, :3].any()
    assert not changed[:, :, 6:].any()


@every_shape
def test_bf16_autocast_computes_in_float32(options: dict[str, int]) -> None:
    conv = layer(torch.float32, **options)
    nn.init.normal_(conv.conv_offset.weight, std=0.05)
    rough = maps(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(rough)
    assert out.dtype == torch.float32
    assert torch.equal(out, conv(rough.float()))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in conv.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in conv.parameters())


def test_float64_stays_float64_under_autocast() -> None:
    conv = layer()
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(maps())
    assert out.dtype == torch.float64
    assert torch.equal(out, conv(maps()))


def test_gradients_are_right() -> None:
    """Offsets away from whole cells, where sampling has a kink."""
    torch.manual_seed(1)
    conv = DeformableConv(2, 2, offset_groups=2).double()
    nn.init.uniform_(bias(conv), 0.2, 0.8)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    parameters = (conv.weight, conv.conv_offset.weight, bias(conv))
    assert torch.autograd.gradcheck(lambda *_: conv(x), (x, *parameters))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_offsets_that_are_no_numbers_do_not_end_the_process(value: float) -> None:
    conv = layer(torch.float32, offset_groups=2)
    calm = conv(maps(torch.float32))
    with torch.no_grad():
        bias(conv)[: 4 * KERNEL * KERNEL] = value
    x = maps(torch.float32).requires_grad_()
    out = conv(x)
    # No number stands for no offset; infinitely far away everything is 0.
    torch.testing.assert_close(out, calm if value != value else torch.zeros_like(calm))
    out.sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is not None
    assert conv.weight.grad.isfinite().all()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_deformable_layer_of_the_head_has_248940_parameters_more() -> None:
    with torch.device("meta"):
        plain, deformable = (ConvNorm(256, 256, groups=32, deformable=flag) for flag in (False, True))
        heads = [
            TaskAlignedHead(
                num_classes=80,
                in_channels=256,
                width=256,
                convs=6,
                norm_groups=32,
                boxes="distance",
                deformable_convs=number,
            )
            for number in (0, 1, 2)
        ]
    assert count(deformable) - count(plain) == 248_940
    assert [count(head) - count(heads[0]) for head in heads] == [0, 248_940, 497_880]
    kinds = [isinstance(conv.conv, DeformableConv) for conv in heads[2].inter_convs]  # type: ignore[union-attr]
    assert kinds == [True, True, False, False, False, False]


@pytest.mark.parametrize(("convs", "captures"), [(0, True), (1, False)])
def test_a_graph_captures_only_detectors_without_deformable_layers(convs: int, captures: bool) -> None:
    head = TaskAlignedHead(
        num_classes=3, in_channels=8, width=8, convs=2, norm_groups=2, boxes="distance", deformable_convs=convs
    )
    assert captures_in_graph(nn.Sequential(nn.Conv2d(3, 8, 3), head)) is captures
