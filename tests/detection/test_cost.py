"""Parameter counts and multiply-accumulates against the specification's and the paper's."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from tood.config.backbone import load_backbone
from tood.config.blocks import read_block
from tood.config.method import MethodConfig
from tood.detection.backbones import build_backbone
from tood.detection.cost import DetectorCost, count_parameters, detector_cost, multiply_accumulates
from tood.detection.detector import Detector, build_detector

PARAMS = Path(__file__).parents[2] / "params"


def build(method: str, backbone: str = "r50") -> Detector:
    config = MethodConfig.model_validate(read_block(PARAMS, "methods", method, MethodConfig, "test"))
    return build_detector(config, load_backbone(backbone, PARAMS), 80)


@cache
def cost(method: str) -> DetectorCost:
    return detector_cost(build(method))


@pytest.fixture
def part() -> Callable[[str, str], int]:
    return lambda method, name: next(one.parameters for one in cost(method).parts if one.name == name)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("backbone", 23_508_032),
        ("neck", 3_868_672),
        ("bbox_head", 4_823_790),
        ("bbox_head.inter_convs", 3_542_016),
        ("bbox_head.cls_decomp", 443_110),
        ("bbox_head.reg_decomp", 443_110),
        ("bbox_head.tood_cls", 184_400),
        ("bbox_head.tood_reg", 9_220),
        ("bbox_head.cls_prob_module", 98_945),
        ("bbox_head.reg_offset_module", 102_984),
        ("bbox_head.scales", 5),
    ],
)
def test_parameters_of_every_part_of_tood(part: Callable[[str, str], int], name: str, count: int) -> None:
    assert part("tood", name) == count


@pytest.mark.parametrize(
    ("method", "head", "total", "trainable"),
    [
        ("tood", 4_823_790, 32_200_494, 31_975_150),
        ("tood_anchor_based", 4_823_790, 32_200_494, 31_975_150),
        ("atss", 4_918_618, 32_295_322, 32_069_978),
        ("gfl", 5_063_833, 32_440_537, 32_440_537 - 225_344),
        ("retinanet", 6_463_220, None, None),
    ],
)
def test_parameters_of_the_methods(method: str, head: int, total: int | None, trainable: int | None) -> None:
    with torch.device("meta"):
        detector = build(method)
    assert count_parameters(detector.bbox_head)[0] == head
    if total is not None:
        assert count_parameters(detector) == (total, trainable)


@pytest.mark.parametrize(("backbone", "count"), [("r101", 42_500_160), ("x101_64x4d", 81_406_272)])
def test_parameters_of_the_backbones(backbone: str, count: int) -> None:
    with torch.device("meta"):
        net = build_backbone(load_backbone(backbone, PARAMS))
    assert count_parameters(net)[0] == count


def test_parameters_of_deformable_head_layers() -> None:
    with torch.device("meta"):
        plain, deformable = build("tood").bbox_head, build("tood_dcn").bbox_head
    assert count_parameters(deformable)[0] - count_parameters(plain)[0] == 2 * 248_940


@pytest.mark.parametrize(("method", "head", "full"), [("tood", 100.79, 201.13), ("atss", 104.87, 205.21)])
def test_multiply_accumulates_are_the_papers_within_half_a_percent(method: str, head: float, full: float) -> None:
    found = cost(method)
    assert found.size == (800, 1280)
    assert found.total.gmacs == pytest.approx(full, rel=0.005)
    assert next(one.gmacs for one in found.parts if one.name == "bbox_head") == pytest.approx(head, rel=0.005)


def test_parts_add_up() -> None:
    """Backbone, neck and head to the total; the head's layers to the head."""
    found = cost("tood")
    whole = [one for one in found.parts if "." not in one.name]
    inner = [one for one in found.parts if "." in one.name]
    head = next(one for one in whole if one.name == "bbox_head")
    for value in ("parameters", "trainable"):
        assert sum(getattr(one, value) for one in whole) == getattr(found.total, value)
        assert sum(getattr(one, value) for one in inner) == getattr(head, value)
    assert sum(one.gmacs for one in whole) == pytest.approx(found.total.gmacs, rel=1e-9)


def test_a_deformable_convolution_counts_as_one_of_its_shape_and_its_offsets() -> None:
    size = (64, 96)
    plain, deformable = (detector_cost(build(name), size).total.gmacs for name in ("tood", "tood_dcn"))
    cells = sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in (8, 16, 32, 64, 128))
    assert deformable - plain == pytest.approx(2 * cells * 9 * 256 * 108 / 1e9, rel=1e-6)


def test_counting_leaves_the_detector_as_it_is() -> None:
    detector = build("tood").train()
    gmacs, size = multiply_accumulates(detector, 64, 96)
    assert size == (64, 96)
    assert gmacs == pytest.approx(detector_cost(detector, size).total.gmacs, abs=1e-4)
    assert detector.training
    assert all(parameter.grad is None for parameter in detector.parameters())
