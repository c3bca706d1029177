"""Workloads to time: detectors against a backbone, assignment against pairwise IoU, post-processing against a sort."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_iou

from tood.benchmarks.backbone_yardstick import forward, forward_backward, plain_backbone
from tood.benchmarks.random_scenes import (
    CLASSES,
    SceneSize,
    make_batch,
    predicted_boxes,
    predicted_scores,
    scene_points,
    sparse_predictions,
)
from tood.benchmarks.timing import Work, count_flops
from tood.config.backbone import BackboneConfig
from tood.config.method import InferenceConfig, MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.task_aligned import TaskAlignedAssigner
from tood.detection.detector import OUTERMOST, Detector, build_criterion, build_detector
from tood.detection.inference import detect
from tood.detection.number_format import NumberFormat
from tood.detection.points import valid_points
from tood.detection.postprocess import postprocess
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress
from tood.training.optim import build_optimiser, set_learning_rate
from tood.training.processes.distributed import Group
from tood.training.step import StepLosses, step_gradient

Part = Literal["training", "inference", "assignment", "postprocess", "groups", "export"]
ON_REQUEST: tuple[Part, ...] = ("groups", "export")
"""Parts that are timed only if they are named."""
DEFAULT_SIZES: dict[Part, SceneSize] = {
    "training": SceneSize(416, 640, images=2, objects=20),
    "inference": SceneSize(416, 640, images=2, objects=20),
    "assignment": SceneSize(800, 1333, images=4, objects=100),
    "postprocess": SceneSize(800, 1333, images=1, objects=0),
    "groups": SceneSize(320, 533, images=16, objects=0),
    "export": SceneSize(416, 640, images=1, objects=0),
}
SHARE_ABOVE = 0.01
"""Share of the scores that post-processing finds above its threshold."""
RATE = 1e-9  # all steps see about the same random weights
AFTER_WARMUP = Progress(epoch=10**6, step=10**6, total_steps=10**6)


@dataclass(frozen=True)
class Setup:
    """How whole detectors compute; the yardsticks always use float32, eager mode and the contiguous memory format."""

    device: torch.device
    precision: NumberFormat = "float32"
    compiled: bool = False
    contiguous: bool = False
    """Channels outermost in memory, where a detector would have them innermost."""
    seed: int = 0


def training_works(
    methods: list[MethodConfig],
    against: MethodConfig | None,
    backbone: BackboneConfig,
    schedule: ScheduleConfig,
    size: SceneSize,
    setup: Setup,
) -> Iterator[Work]:
    """SGD steps of whole detectors, TOOD after its ATSS phase, beside the backbone or a step of ``against``."""
    yardstick: Callable[[], object]
    if against is None:
        images = make_batch(size, setup.device, setup.seed).images
        yardstick, name = (
            forward_backward(plain_backbone().to(setup.device), images),
            "ResNet-50 forward + backward",
        )
    else:
        (yardstick, _), name = _training_step(against, backbone, schedule, size, setup), f"training {against.name}"
    for method in methods:
        run, flops = _training_step(method, backbone, schedule, size, setup)
        yield Work("training", method.name, name, run, yardstick, size.images, flops)


def _training_step(
    method: MethodConfig, backbone: BackboneConfig, schedule: ScheduleConfig, size: SceneSize, setup: Setup
) -> tuple[Callable[[], object], int | None]:
    detector = detector_for(method, backbone, setup, training=True).train()
    criterion = build_criterion(method)
    optimiser = build_optimiser(detector, schedule)
    set_learning_rate(optimiser, RATE)
    batch = make_batch(size, setup.device, setup.seed)
    group = Group(rank=0, world=1, device=setup.device)

    def run() -> StepLosses:
        optimiser.zero_grad(set_to_none=True)
        found = step_gradient(detector, criterion, [batch], AFTER_WARMUP, group=group, precision=setup.precision)
        optimiser.step()
        return found

    return run, _finish(detector, run, setup)


def inference_works(
    methods: list[MethodConfig], against: MethodConfig | None, backbone: BackboneConfig, size: SceneSize, setup: Setup
) -> Iterator[Work]:
    """Images in, detections out, with post-processing (random weights find next to nothing)."""
    yardstick: Callable[[], object]
    if against is None:
        images = make_batch(size, setup.device, setup.seed).images
        yardstick, name = forward(plain_backbone().to(setup.device), images), "ResNet-50 forward"
    else:
        (yardstick, _), name = _inference(against, backbone, size, setup), f"inference {against.name}"
    for method in methods:
        run, flops = _inference(method, backbone, size, setup)
        yield Work("inference", method.name, name, run, yardstick, size.images, flops)


def _inference(
    method: MethodConfig, backbone: BackboneConfig, size: SceneSize, setup: Setup
) -> tuple[Callable[[], object], int | None]:
    detector = detector_for(method, backbone, setup, training=False).eval()
    images = make_batch(size, setup.device, setup.seed).images
    sizes = size.sizes().to(setup.device)
    config = method.inference.model_copy(update={"precision": setup.precision})

    def run() -> object:
        return detect(detector, images, sizes, None, config)

    return run, _finish(detector, run, setup)


def detector_for(method: MethodConfig, backbone: BackboneConfig, setup: Setup, *, training: bool) -> Detector:
    """A detector with random weights."""
    torch.manual_seed(setup.seed)
    detector = build_detector(method, backbone, CLASSES).on(setup.device, training=training)
    if setup.contiguous:
        detector.lay_out(OUTERMOST, OUTERMOST)
    return detector


def _finish(detector: Detector, run: Callable[[], object], setup: Setup) -> int | None:
    """Count the operations of one run (on a GPU, before compilation), then compile the detector if asked to."""
    flops = count_flops(run) if setup.device.type == "cuda" else None
    if setup.compiled:
        detector.compile()
    return flops


def assignment_works(size: SceneSize, setup: Setup) -> Iterator[Work]:
    """TAL and ATSS for the locations of a pyramid, against the overlaps of the same boxes."""
    batch, points = make_batch(size, setup.device, setup.seed), scene_points(size, setup.device)
    boxes = predicted_boxes(points, size.images, setup.seed)
    scores = predicted_scores(points, size.images, setup.seed)
    targets = Targets(batch.boxes, batch.labels, batch.valid)
    valid = valid_points(points, batch.sizes)
    tal, atss = TaskAlignedAssigner(), AtssAssigner()

    def yardstick() -> list[Tensor]:
        return [box_iou(image, objects) for image, objects in zip(boxes, targets.boxes, strict=True)]

    works: dict[str, Callable[[], object]] = {
        "TAL": lambda: tal.assign_predictions(scores, boxes, points, targets, valid),
        "ATSS": lambda: atss.assign_points(points, targets, valid),
    }
    for name, run in works.items():
        yield Work("assignment", name, "box_iou of the same boxes", run, yardstick, size.images)


def postprocess_works(size: SceneSize, setup: Setup) -> Iterator[Work]:
    """TOOD's predictions to detections, against sorting the score maps of all levels."""
    config = InferenceConfig()
    sparse = sparse_predictions(
        size, setup.device, share=SHARE_ABOVE, threshold=config.score_threshold, seed=setup.seed
    )
    sizes = size.sizes().to(setup.device)
    maps = [level.flatten() for level in sparse.points.split(sparse.scores())]
    yield Work(
        "postprocess",
        "tood",
        "sort of the score maps",
        lambda: postprocess(sparse, sizes, None, config),
        lambda: [level.sort(descending=True) for level in maps],
        size.images,
    )
