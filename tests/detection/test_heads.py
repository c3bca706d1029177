"""Heads: sizes, initial values, sampling, precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tood.config.method import MethodConfig
from tood.detection.detector import build_head
from tood.detection.heads.decoding import decode_boxes
from tood.detection.heads.layers import LevelScales
from tood.detection.heads.parallel import ParallelHead
from tood.detection.heads.task_aligned import TaskAlignedHead, TaskDecomposition, mix_channels
from tood.detection.points import make_points
from tood.detection.predictions import flatten_levels

MethodNamed = Callable[[str], MethodConfig]


def head_of(method: MethodConfig, *, classes: int = 3, width: int = 32) -> ParallelHead | TaskAlignedHead:
    return build_head(method.head, num_classes=classes, in_channels=width, width=width, norm_groups=8)


def features(width: int = 32, *, dtype: torch.dtype = torch.float32, images: int = 2) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    return [torch.randn(images, width, h, w, generator=draw, dtype=dtype) for h, w in sizes]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("tood", 4_823_790), ("tood_anchor_based", 4_823_790), ("atss", 4_918_618), ("gfl", 5_063_833)],
)
def test_parameter_counts_of_the_paper(name: str, parameters: int, method_named: MethodNamed) -> None:
    head = build_head(method_named(name).head, num_classes=80, in_channels=256, width=256, norm_groups=32)
    assert count(head) == parameters


def test_parts_of_the_t_head(method_named: MethodNamed) -> None:
    head = build_head(method_named("tood").head, num_classes=80, in_channels=256, width=256, norm_groups=32)
    assert isinstance(head, TaskAlignedHead)
    parts = {
        head.inter_convs: 3_542_016,
        head.cls_decomp: 443_110,
        head.reg_decomp: 443_110,
        head.tood_cls: 184_400,
        head.tood_reg: 9_220,
        head.cls_prob_module: 98_945,
        head.reg_offset_module: 102_984,
        head.scales: 5,
    }
    assert {type(part).__name__: count(part) for part in parts} == {
        type(part).__name__: size for part, size in parts.items()
    }
    assert sum(parts.values()) == count(head)


def test_every_score_starts_at_the_focal_prior(method: MethodConfig) -> None:
    """Features of zero leave nothing but the initial biases."""
    predictions = head_of(method)([feature * 0 for feature in features()])
    torch.testing.assert_close(predictions.scores(), torch.full_like(predictions.class_logits, 0.01))


def test_distances_start_at_one_stride(method_named: MethodNamed) -> None:
    predictions = head_of(method_named("parallel_tal"))([feature * 0 for feature in features()])
    reach = predictions.points.strides[:, None]
    centres = predictions.points.centres
    expected = torch.cat([centres - reach, centres + reach], dim=1)
    torch.testing.assert_close(predictions.boxes, expected.expand(2, -1, -1))


def test_shapes_and_order(method: MethodConfig) -> None:
    """Locations are row-major, level after level: a change in one cell's features shows up there first."""
    predictions = head_of(method)(features())
    points = predictions.points
    assert points.level_sizes == ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
    assert predictions.boxes.shape == (2, 96 + 24 + 6 + 2 + 1, 4)
    centre = (predictions.boxes[..., :2] + predictions.boxes[..., 2:]) / 2
    interior = ((points.centres > 8) & (points.centres < 50)).all(dim=1) & (points.strides == 8)
    assert ((centre - points.centres)[:, interior].abs() < 8).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_kept(method: MethodConfig, dtype: torch.dtype) -> None:
    predictions = head_of(method).to(dtype)(features(dtype=dtype))
    assert predictions.boxes.dtype == predictions.class_logits.dtype == predictions.points.centres.dtype == dtype


def test_bf16_autocast_gives_float32_predictions(method: MethodConfig) -> None:
    head = head_of(method)
    exact = head(features())
    with torch.autocast("cpu", torch.bfloat16):
        rough = head(features())
        scores = rough.scores()
    assert rough.boxes.dtype == rough.class_logits.dtype == scores.dtype == torch.float32
    torch.testing.assert_close(scores, exact.scores(), rtol=0.1, atol=0.01)
    torch.testing.assert_close(rough.boxes, exact.boxes, rtol=0.05, atol=2.0)
    (rough.boxes.sum() + scores.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(2, 3), (5, 7)])
def test_decomposition_equals_its_definition(size: tuple[int, int], layout: torch.memory_format) -> None:
    """Weight every layer by its attention, concatenate, reduce; on small and large maps in either layout."""
    module = TaskDecomposition(width=16, layers=3, norm_groups=4).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    stacked = torch.randn(2, 48, *size, dtype=torch.float64)
    attention = module.attend(stacked.mean(dim=(2, 3))[None])
    assert attention.shape == (1, 2, 3)
    hidden = stacked.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(attention[0], module.layer_attention(hidden).flatten(1))
    weighted = stacked * attention[0].repeat_interleave(16, dim=1)[..., None, None]
    expected = torch.relu(module.reduction_conv.gn(module.reduction_conv.conv(weighted)))
    reduced = mix_channels(module.kernel(attention[0]), stacked.contiguous(memory_format=layout))
    torch.testing.assert_close(module.activate(reduced), expected)


def test_level_scale_applies_after_the_exponential() -> None:
    points = make_points(((1, 1), (1, 1)), (8, 16), torch.device("cpu"), torch.float32)
    scales = LevelScales(2)
    with torch.no_grad():
        scales[0].scale.fill_(2.0)
    decoded = decode_boxes("distance", torch.full((1, 2, 4), 0.5), scales.per_location(points), points)
    half = torch.tensor(0.5).exp()
    torch.testing.assert_close(decoded.boxes[0, 0, 2], half * 2 * 8)
    torch.testing.assert_close(decoded.boxes[0, 1, 2], half * 16)


def test_bins_decode_to_their_expectation() -> None:
    points = make_points(((1, 1),), (8,), torch.device("cpu"), torch.float32)
    raw = torch.full((1, 1, 4 * 17), -100.0)
    for side, distance in enumerate((1, 2, 3, 16)):
        raw[0, 0, side * 17 + distance] = 100
    decoded = decode_boxes("bins", raw, torch.ones(1, 1), points)
    torch.testing.assert_close(decoded.boxes[0, 0], torch.tensor([-8.0, -16, 24, 128]))


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_diverged_distances_keep_boxes_and_gradients_finite(value: float) -> None:
    points = make_points(((1, 1),), (128,), torch.device("cpu"), torch.float32)
    raw = torch.full((1, 1, 4), value, requires_grad=True)
    boxes = decode_boxes("distance", raw, torch.ones(1, 1), points).boxes
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    assert torch.isfinite(area).all()
    area.sum().backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_flatten_levels_is_row_major() -> None:
    level = torch.arange(12.0).reshape(1, 2, 2, 3)
    torch.testing.assert_close(flatten_levels([level])[0], level[0].permute(1, 2, 0).reshape(6, 2))
