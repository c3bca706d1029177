"""Whole detectors: sizes, learning, precision, refusals."""

from collections.abc import Callable

import pytest
import torch

from tood.config.backbone import BackboneConfig
from tood.config.method import MethodConfig
from tood.detection.boxes import pairwise_iou
from tood.detection.criteria.base import combine
from tood.detection.detector import Detector, build_criterion, build_detector
from tood.detection.points import valid_points
from tood.detection.postprocess import postprocess
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

R50 = BackboneConfig(name="r50", kind="resnet50", weights="imagenet")
LIGHT = BackboneConfig(name="light", kind="light", width=32, norm_groups=8, first_stage_width=8)


@pytest.mark.parametrize(
    ("name", "total", "trained"),
    [("tood", 32_200_494, 31_975_150), ("atss", 32_295_322, 32_069_978), ("gfl", 32_440_537, 32_215_193)],
)
def test_full_parameter_counts(
    name: str, total: int, trained: int, method_named: Callable[[str], MethodConfig]
) -> None:
    detector = build_detector(method_named(name), R50, 80)
    assert sum(p.numel() for p in detector.parameters()) == total
    assert sum(p.numel() for p in detector.parameters() if p.requires_grad) == trained
    assert len(detector.backbone.state_dict()) == 318


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[64, 64], [50, 64]])
TARGETS = Targets(
    torch.tensor([[[8.0, 8, 40, 40], [30.0, 20, 60, 60]], [[10.0, 12, 30, 48], [0.0, 0, 0, 0]]]),
    torch.tensor([[0, 1], [1, 0]]),
    torch.tensor([[True, True], [True, False]]),
)


def train(method: MethodConfig, *, steps: int, bf16: bool) -> Detector:
    """Half the steps in each of TOOD's phases; every gradient must exist and be finite."""
    torch.manual_seed(0)
    detector = build_detector(method, LIGHT, 2).train()
    criterion = build_criterion(method)
    optimiser = torch.optim.SGD(detector.parameters(), 0.02, momentum=0.9)
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            predictions = detector(IMAGES)
        progress = Progress(epoch=0 if step < steps / 2 else 4, step=step, total_steps=steps)
        terms = criterion(TrainingBatch(predictions, TARGETS, valid_points(predictions.points, SIZES), progress))
        optimiser.zero_grad()
        torch.stack(list(combine(terms).values())).sum().backward()
        gradients = [parameter.grad for parameter in detector.parameters()]
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
        optimiser.step()
    return detector.eval()


@pytest.mark.parametrize(
    "method",
    [
        "tood",
        "gfl",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("tood_anchor_based", "atss", "parallel_tal")),
    ],
    indirect=True,
)
def test_learns_two_images_by_heart(method: MethodConfig) -> None:
    """Every object is found with its class, and found best."""
    detector = train(method, steps=100, bf16=False)
    with torch.inference_mode():
        found = postprocess(detector(IMAGES), SIZES, None, method.inference)
    for image, detections in enumerate(found):
        for box, label in zip(TARGETS.boxes[image], TARGETS.labels[image], strict=True):
            if box.any():
                best = detections.boxes[detections.labels == label][:1]
                assert pairwise_iou(best, box[None]).sum() > 0.5


def test_trains_in_bf16(method: MethodConfig) -> None:
    train(method, steps=4, bf16=True)


def test_detections_of_a_fresh_detector_are_well_formed(method: MethodConfig) -> None:
    detector = build_detector(method, LIGHT, 2).eval()
    sizes = torch.tensor([[64, 64], [50, 64]])
    config = method.inference.model_copy(update={"score_threshold": 0.0})
    with torch.inference_mode():
        found = postprocess(detector(torch.randn(2, 3, 64, 64)), sizes, sizes.flip(1) / 50, config)
    for image in found:
        assert 1 <= len(image.scores) <= 100
        assert (image.scores.diff() <= 0).all()
        assert ((image.boxes >= 0) & (image.boxes <= 50.001)).all()
