"""Heads, assigners, criteria and box representations combine freely; the paper's ablations are such combinations."""

from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tood.config.backbone import BackboneConfig, load_backbone
from tood.config.method import MethodConfig
from tood.detection.boxes import encode_deltas
from tood.detection.criteria.base import DIVISOR_EPSILON, combine
from tood.detection.detector import (
    INNERMOST,
    OUTERMOST,
    Detector,
    build_criterion,
    build_detector,
    build_head,
    layouts_on,
)
from tood.detection.heads.task_aligned import TaskAlignedHead
from tood.detection.points import valid_points
from tood.detection.postprocess import postprocess
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

PARAMS = Path(__file__).parents[2] / "params/methods"
LIGHT = BackboneConfig(name="light", kind="light", width=16, norm_groups=4, first_stage_width=8)
R18 = BackboneConfig(name="r18", kind="resnet18", width=16, norm_groups=4)

HEADS: dict[str, dict[str, Any]] = {
    "parallel": {"kind": "parallel", "convs": 2},
    "parallel + centerness": {"kind": "parallel", "convs": 2, "centerness": True},
    "parallel + TAP": {"kind": "parallel", "convs": 2, "alignment": True},
    "T-head": {"kind": "task_aligned", "convs": 3},
    "T-head, deformable": {"kind": "task_aligned", "convs": 3, "deformable_convs": 2},
}
ASSIGNERS = ({"kind": "max_iou"}, {"kind": "center_sampling"}, {"kind": "atss"})
CRITERIA: dict[str, dict[str, Any]] = {
    "TAL": {"kind": "task_aligned", "warmup_epochs": 0},
    "TAL, its ATSS phase": {"kind": "task_aligned", "warmup_epochs": 4},
    **{f"focal, {rule['kind']}": {"kind": "focal", "assigner": rule} for rule in ASSIGNERS},
    **{f"QFL, {rule['kind']}": {"kind": "gfl", "assigner": rule, "dfl_weight": None} for rule in ASSIGNERS},
}
COMPOSITIONS = [
    (head, boxes, criterion)
    for head, boxes, criterion in product(HEADS, ("distance", "delta"), CRITERIA)
    if head != "parallel + centerness" or criterion.startswith("focal")
]
# Two losses each want a representation of their own.
CRITERIA |= {f"GFL, {rule['kind']}": {"kind": "gfl", "assigner": rule} for rule in ASSIGNERS}
CRITERIA |= {
    f"L1, {rule['kind']}": {"kind": "focal", "assigner": rule, "box_loss": "l1", "weight_by": "nothing"}
    for rule in ASSIGNERS
}
COMPOSITIONS += [("parallel", "bins", name) for name in CRITERIA if name.startswith("GFL")]
COMPOSITIONS += [("parallel", "delta", name) for name in CRITERIA if name.startswith("L1")]
START = Progress(epoch=0, step=0, total_steps=100)
SIZES = torch.tensor([[64, 96], [60, 70]])


def composed(head: str, boxes: str, criterion: str) -> MethodConfig:
    parts = {"name": "mine", "head": {**HEADS[head], "boxes": boxes}, "criterion": CRITERIA[criterion]}
    return MethodConfig.model_validate(deepcopy(parts))


def published(name: str) -> MethodConfig:
    return MethodConfig.model_validate({"name": name, **yaml.safe_load((PARAMS / f"{name}.yaml").read_text())})


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1), dtype=dtype)


def objects(dtype: torch.dtype = torch.float32) -> Targets:
    boxes = [[[4, 6, 34, 40], [30, 10, 90, 62], [50, 2, 62, 12]], [[8, 8, 56, 50], [0, 20, 20, 60], [0, 0, 0, 0]]]
    return Targets(
        torch.tensor(boxes, dtype=dtype),
        torch.tensor([[0, 1, 2], [2, 0, 0]]),
        torch.tensor([[True, True, True], [True, True, False]]),
    )


def losses_of(method: MethodConfig, predictions: Predictions, targets: Targets | None = None) -> dict[str, Tensor]:
    valid = valid_points(predictions.points, SIZES)
    dtype = predictions.boxes.dtype
    return combine(build_criterion(method)(TrainingBatch(predictions, targets or objects(dtype), valid, START)))


@pytest.mark.parametrize(("head", "boxes", "criterion"), COMPOSITIONS)
def test_every_composition_trains(head: str, boxes: str, criterion: str) -> None:
    method = composed(head, boxes, criterion)
    torch.manual_seed(0)
    detector = build_detector(method, LIGHT, 3).train()
    losses = losses_of(method, detector(images()))
    expected = {"loss_cls", "loss_bbox"}
    expected |= {"loss_centerness"} if head == "parallel + centerness" else set()
    expected |= {"loss_dfl"} if boxes == "bins" else set()
    assert set(losses) == expected
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A level without an object has nothing to scale, and a branch of two units may start with both asleep.
        if "bbox_head.scales" not in name and "layer_attention" not in name:
            assert parameter.grad.any(), name


@pytest.mark.parametrize("head", ["parallel", "parallel + TAP", "T-head"])
def test_the_scores_that_weigh_boxes_have_no_gradient(head: str) -> None:
    """Neither through the class logits nor, where there are any, through the alignment logits."""
    predictions = head_predictions(composed(head, "distance", "QFL, atss"))
    found = predictions.best_scores()
    torch.testing.assert_close(found, predictions.scores().amax(dim=2).detach(), rtol=0, atol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("boxes", ["distance", "delta"])
@pytest.mark.parametrize("head", ["parallel", "parallel + TAP", "T-head"])
def test_assigners_differ_in_any_composition(head: str, boxes: str) -> None:
    """Four assigners on the same predictions: four sets of samples."""
    torch.manual_seed(0)
    detector = build_detector(composed(head, boxes, "TAL"), LIGHT, 3)
    with torch.no_grad():
        predictions = detector(images())
    valid = valid_points(predictions.points, SIZES)
    found = [
        build_criterion(composed(head, boxes, criterion))
        .assign(TrainingBatch(predictions, objects(), valid, START))
        .positive
        for criterion in ("TAL", "focal, max_iou", "focal, center_sampling", "focal, atss")
    ]
    assert all(positive.any() and not (positive & ~valid).any() for positive in found)
    for index, first in enumerate(found):
        assert not any(torch.equal(first, second) for second in found[index + 1 :])


def head_predictions(method: MethodConfig, dtype: torch.dtype = torch.float64, *, lift: float = 3.0) -> Predictions:
    """A head's outputs on random features, with gradient; scores ``lift`` above their initial ones."""
    torch.manual_seed(2)
    head = build_head(method.head, num_classes=3, in_channels=16, width=16, norm_groups=4).to(dtype)
    draw = torch.Generator().manual_seed(3)
    maps = [torch.randn(2, 16, h, w, generator=draw, dtype=dtype) for h, w in [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]]
    with torch.no_grad():
        found = head(maps)
    assert isinstance(found, Predictions)
    noise = torch.randn(found.class_logits.shape, generator=draw, dtype=dtype)
    return leaves(replace(found, class_logits=found.class_logits + lift + noise))


OUTPUTS = ("class_logits", "boxes", "alignment_logits", "quality", "deltas", "bins")


def leaves(predictions: Predictions) -> Predictions:
    values = {name: getattr(predictions, name) for name in OUTPUTS}
    return replace(predictions, **{n: v.detach().clone().requires_grad_() for n, v in values.items() if v is not None})


def gradients(method: MethodConfig, predictions: Predictions) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    predictions = leaves(predictions)
    losses = losses_of(method, predictions)
    torch.stack(list(losses.values())).sum().backward()
    values = {name: getattr(predictions, name) for name in OUTPUTS}
    found = {name: value.grad for name, value in values.items() if value is not None and value.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, found


@pytest.mark.parametrize("boxes", ["distance", "delta"])
@pytest.mark.parametrize("head", ["parallel", "parallel + TAP", "T-head"])
def test_atss_with_focal_loss_is_the_first_phase_of_task_alignment(head: str, boxes: str) -> None:
    """The two references put the epsilon of their divisors at different places, which is all that differs."""
    phase, alone = composed(head, boxes, "TAL, its ATSS phase"), composed(head, boxes, "focal, atss")
    predictions = head_predictions(phase)
    losses, found = gradients(alone, predictions)
    expected, expected_gradients = gradients(phase, predictions)
    torch.testing.assert_close(losses, expected, rtol=2 * DIVISOR_EPSILON, atol=0)
    torch.testing.assert_close(found, expected_gradients, rtol=2 * DIVISOR_EPSILON, atol=1e-12)


def test_the_t_head_studies_are_those_phases() -> None:
    for ours, phase in (("thead_atss", "tood"), ("thead_atss_anchor_based", "tood_anchor_based")):
        first, second = published(ours), published(phase)
        assert first.head == second.head
        predictions = head_predictions(first)
        torch.testing.assert_close(
            losses_of(first, predictions), losses_of(second, predictions), rtol=2 * DIVISOR_EPSILON, atol=0
        )


def test_quality_focal_loss_alone_is_gfl_without_its_distributions() -> None:
    """Given the same predictions, class and box loss are GFL's."""
    gfl = published("gfl")
    without = published("atss_qfl")
    assert without.head.boxes == "distance"
    predictions = head_predictions(gfl)
    expected = losses_of(gfl, predictions)
    assert expected.pop("loss_dfl") > 0
    torch.testing.assert_close(losses_of(without, predictions), expected, rtol=0, atol=0)
    assert set(losses_of(without, head_predictions(without))) == {"loss_cls", "loss_bbox"}


def test_alignment_starts_where_the_t_heads_does() -> None:
    """TAP on the parallel head and the T-head have the same two branches, of other inputs."""
    thead, tap = (
        build_head(composed(name, "distance", "TAL").head, num_classes=3, in_channels=16, width=16, norm_groups=4)
        for name in ("T-head", "parallel + TAP")
    )
    shapes = [
        {key: tuple(value.shape) for key, value in head.state_dict().items() if "cls_prob" in key or "offset" in key}
        for head in (thead, tap)
    ]
    assert shapes[0].keys() == shapes[1].keys()
    assert {key for key in shapes[0] if shapes[0][key] != shapes[1][key]} == {
        "cls_prob_module.0.weight",
        "reg_offset_module.0.weight",
    }
    assert shapes[1]["cls_prob_module.0.weight"] == (4, 2 * 16, 1, 1)


@pytest.mark.parametrize("output", ["alignment_logits", "boxes"])
def test_both_tasks_have_a_say_in_the_alignment(output: str) -> None:
    """The last layers of both towers, for the score as for the boxes."""
    torch.manual_seed(0)
    detector = build_detector(composed("parallel + TAP", "distance", "TAL"), LIGHT, 3)
    getattr(detector(images()), output).square().sum().backward()
    head = detector.bbox_head
    for tower in ("cls_convs", "reg_convs"):
        for name, parameter in head.get_submodule(tower).named_parameters():
            assert parameter.grad is not None, (tower, name)
            assert parameter.grad.any(), (tower, name)
    assert head.get_parameter("cls.weight").grad is None


def test_retinanet_has_nine_anchors_and_nothing_that_came_later() -> None:
    method = published("retinanet")
    torch.manual_seed(0)
    with torch.device("meta"):
        head = build_head(method.head, num_classes=80, in_channels=256, width=256, norm_groups=32)
    assert sum(parameter.numel() for parameter in head.parameters()) == 6_463_220
    assert not isinstance(head, TaskAlignedHead)
    assert head.centerness is None
    assert head.scales is None
    predictions = build_detector(method, LIGHT, 3)(images())
    assert predictions.class_logits.shape == (2, 9 * (96 + 24 + 6 + 2 + 1), 3)
    losses = losses_of(method, predictions)
    assert set(losses) == {"loss_cls", "loss_bbox"}
    torch.stack(list(losses.values())).sum().backward()


def test_retinanets_losses() -> None:
    """L1 of the offsets of positives; ignored anchors cost nothing whatever they predict."""
    method, targets = published("retinanet"), objects(torch.float64)
    predictions = head_predictions(method)
    points = predictions.points
    valid = valid_points(points, SIZES)
    assignment = build_criterion(method).assign(TrainingBatch(predictions, targets, valid, START))
    assert assignment.ignored is not None
    assert assignment.ignored.any()
    before = losses_of(method, predictions)

    boxes, _ = targets.take(assignment.gt_index)
    encoded = encode_deltas(points.anchors, boxes, (1.0, 1.0, 1.0, 1.0))
    assert predictions.deltas is not None
    distance = (predictions.deltas - encoded).abs().sum(dim=-1)[assignment.positive].sum()
    divisor = assignment.positive.sum().double() + DIVISOR_EPSILON
    torch.testing.assert_close(before["loss_bbox"], distance / divisor, rtol=1e-12, atol=0)
    wrong = torch.where(assignment.positive[..., None], encoded, predictions.deltas + 5)
    assert losses_of(method, replace(predictions, deltas=wrong))["loss_bbox"] == 0

    loud = torch.where(assignment.ignored[..., None], 50.0, predictions.class_logits)
    assert losses_of(method, replace(predictions, class_logits=loud))["loss_cls"] == before["loss_cls"]
    louder = torch.where((assignment.counted(valid) & ~assignment.positive)[..., None], 50.0, predictions.class_logits)
    assert losses_of(method, replace(predictions, class_logits=louder))["loss_cls"] > before["loss_cls"]


@pytest.mark.parametrize(
    "name", ["tood", "tood_anchor_based", "tood_dcn", "parallel_tal_tap", "atss", "gfl", "retinanet"]
)
def test_the_layout_in_memory_changes_no_detection(name: str) -> None:
    method = published(name)
    torch.manual_seed(4)
    innermost = build_detector(method, R18, 3).double().eval()
    innermost.lay_out(INNERMOST, INNERMOST)
    # Scores and boxes that depend on the features instead of the initial biases.
    with torch.no_grad():
        for key, parameter in innermost.bbox_head.named_parameters():
            if parameter.dim() == 4:
                parameter.mul_(0.02 if "offset" in key else 3.0)
    outermost = plain_layout(innermost)
    strided = [module.weight.stride()[1] for module in convolutions(innermost) if module.weight[0, 0].numel() > 1]
    assert set(strided) == {1}
    with torch.inference_mode():
        results = [detector(images(torch.float64)) for detector in (innermost, outermost)]
    for output in OUTPUTS:
        first, second = (getattr(result, output) for result in results)
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8 * second.abs().max().item())
    config = method.inference.model_copy(update={"score_threshold": 0.001})
    ours, expected = (postprocess(result, SIZES, None, config) for result in results)
    for mine, theirs in zip(ours, expected, strict=True):
        assert len(mine.scores) > 2
        assert torch.equal(mine.labels, theirs.labels)
        torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(mine.boxes, theirs.boxes, rtol=1e-8, atol=1e-6)


def convolutions(detector: Detector) -> list[torch.nn.Conv2d]:
    return [module for module in detector.modules() if isinstance(module, torch.nn.Conv2d)]


def plain_layout(detector: Detector) -> Detector:
    other = deepcopy(detector)
    other.lay_out(OUTERMOST, OUTERMOST)
    assert all(module.weight.is_contiguous() for module in convolutions(other))
    return other


def test_the_layout_in_memory_changes_no_gradient() -> None:
    method = published("tood")
    torch.manual_seed(5)
    innermost = build_detector(method, R18, 3).double().train()
    innermost.lay_out(INNERMOST, INNERMOST)
    outermost = plain_layout(innermost)
    found: list[dict[str, Tensor]] = []
    for detector in (innermost, outermost):
        losses = losses_of(method, detector(images(torch.float64)))
        torch.stack(list(losses.values())).sum().backward()
        found.append({name: p.grad for name, p in detector.named_parameters() if p.grad is not None})
    assert len(found[0]) == len(list(innermost.parameters()))
    for name, expected in found[1].items():
        torch.testing.assert_close(found[0][name], expected, rtol=1e-6, atol=1e-8 * expected.abs().max().item() + 1e-12)


@pytest.mark.parametrize(
    ("capability", "training", "layouts"),
    [
        ("AVX2", True, ("outermost", "outermost")),
        ("AVX2", False, ("innermost", "innermost")),
        ("AVX512", True, ("innermost", "innermost")),
        ("AVX512", False, ("innermost", "innermost")),
    ],
)
def test_a_detector_is_laid_out_for_the_processor(
    monkeypatch: pytest.MonkeyPatch, capability: str, training: bool, layouts: tuple[str, str]
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    detector = build_detector(published("tood"), R18, 3).on(torch.device("cpu"), training=training)
    assert detector.layouts == layouts
    backbone, pyramid = (INNERMOST if layout == "innermost" else OUTERMOST for layout in layouts)
    assert detector.backbone.conv1.weight.is_contiguous(memory_format=backbone)
    assert detector.neck.fpn_convs[0].conv.weight.is_contiguous(memory_format=pyramid)
    assert detector.bbox_head.inter_convs[0].conv.weight.is_contiguous(memory_format=pyramid)
    other = build_detector(published("tood"), R18, 3)
    other.lay_out_as(layouts)
    assert other.layouts == layouts


@pytest.mark.parametrize("name", ["resnet18", "light", "lite0"])
def test_no_depthwise_convolution_has_its_channels_innermost_on_a_gpu(name: str) -> None:
    config = R18 if name == "resnet18" else load_backbone(name, PARAMS.parent).model_copy(update={"weights": "none"})
    detector = build_detector(published("tood"), config, 3)
    detector.lay_out(*layouts_on(detector.backbone, torch.device("cuda")))
    backbone = [module for module in detector.backbone.modules() if isinstance(module, torch.nn.Conv2d)]
    depthwise = [conv.weight for conv in backbone if 1 < conv.groups == conv.in_channels]
    assert bool(depthwise) == (name == "lite0")
    assert all(weight.is_contiguous() for weight in depthwise)
    assert backbone[0].weight.is_contiguous(memory_format=OUTERMOST if depthwise else INNERMOST)
    assert detector.bbox_head.inter_convs[0].conv.weight.is_contiguous(memory_format=INNERMOST)
