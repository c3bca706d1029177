"""How fast a GPU trains and detects with this project's code."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gpu.checks import CLASSES, LATE, PARAMS, backbone_named, method_named
from gpu.rows import Place, Row, at_least, at_most
from tood.benchmarks.random_scenes import SceneSize, make_batch, sparse_predictions
from tood.config.backbone import BackboneConfig
from tood.config.blocks import load_block
from tood.config.method import MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.data.batch import Batch
from tood.detection.cuda_graphs import SIGHTS, recorder_on
from tood.detection.detector import build_criterion, build_detector
from tood.detection.postprocess import postprocess
from tood.evaluation.detections import detect_batch
from tood.evaluation.graphed_detections import GraphedDetections, graphed_detections
from tood.io.console import run_log
from tood.training.graphed_step import GraphedSteps
from tood.training.optim import build_optimiser, set_learning_rate
from tood.training.processes.distributed import Group
from tood.training.step import step_gradient

_RATE = 1e-9  # all steps see about the same random weights


@dataclass
class Steps:
    """Optimiser steps of a detector with random weights."""

    method: MethodConfig
    backbone: BackboneConfig
    place: Place
    by_graphs: bool = True
    """Where there is a GPU."""

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        schedule: ScheduleConfig = load_block(PARAMS, "schedules", "1x", ScheduleConfig, "1x")
        self.detector = build_detector(self.method, self.backbone, CLASSES).on(self.place.device, training=True).train()
        self.criterion = build_criterion(self.method)
        self.optimiser = build_optimiser(self.detector, schedule)
        self.group = Group(rank=0, world=1, device=self.place.device)
        set_learning_rate(self.optimiser, _RATE)
        recorder = recorder_on(self.place.device) if self.by_graphs else None
        self.graphs = None
        if recorder is not None:
            log, pixels = run_log(__name__, self.method.name), self.backbone.pixels
            options = {"group": self.group, "precision": "bf16"}
            self.graphs = GraphedSteps(self.detector, self.criterion, pixels, recorder, log, **options)

    def one(self, batch: Batch) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        if self.graphs is None:
            step_gradient(self.detector, self.criterion, [batch], LATE, group=self.group, precision="bf16")
        else:
            self.graphs.gradient([batch], LATE)
        self.optimiser.step()


def seconds_each(run: Callable[[], object], place: Place, *, repeats: int, warmup: int = 3) -> float:
    """Median of wall-clock times, each with a wait for the device at its end."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        place.wait()
        started = time.perf_counter()
        run()
        place.wait()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def training(place: Place) -> list[Row]:
    """Images/s in bf16 at 16 and at 2 images a step of 800x1333, ResNet-50."""
    height, width, repeats = (64, 96, 1) if place.small else (800, 1333, 10)
    rows = []
    wanted = {("tood", 16): 230, ("atss", 16): 255, ("gfl", 16): 255, ("tood", 2): 110}
    for (name, images), least in list(wanted.items())[: 1 if place.small else None]:
        size = SceneSize(height, width, images=2 if place.small else images, objects=7)
        place.forget()
        each = _seconds_a_step(name, size, place, repeats, by_graphs=False)
        rows.append(Row(f"training {name}, {images} images a step, without graphs", size.images / each, "images/s"))
        place.forget()
        each = _seconds_a_step(name, size, place, repeats, by_graphs=True)
        rows.append(at_least(f"training {name}, {images} images a step", size.images / each, least, "images/s"))
        if place.device.type == "cuda":
            rows.append(Row("its memory", torch.cuda.max_memory_allocated(place.device) / 2**30, "GiB"))
    return rows


def _seconds_a_step(name: str, size: SceneSize, place: Place, repeats: int, *, by_graphs: bool) -> float:
    steps = Steps(method_named(name), backbone_named("r18" if place.small else "r50"), place, by_graphs)
    batch = make_batch(size, place.device, 0)
    return seconds_each(lambda: steps.one(batch), place, repeats=repeats, warmup=SIGHTS + 1)


def inference(place: Place) -> list[Row]:
    """Images/s of TOOD on ResNet-50 with post-processing, 800x1333, in each number format."""
    height, width, repeats = (64, 96, 1) if place.small else (800, 1333, 10)
    method = method_named("tood")
    torch.manual_seed(0)
    backbone = backbone_named("r18" if place.small else "r50")
    detector, pixels = build_detector(method, backbone, CLASSES).on(place.device).eval(), backbone.pixels
    rows = []
    formats = ("bf16",) if place.small else ("bf16", "tf32", "float32")
    for precision in formats:
        config = method.inference.model_copy(update={"precision": precision})
        for images, least in ((1, 200), (16, 500)):
            if images > 1 and precision == "float32":
                continue
            size = SceneSize(height, width, images=images, objects=0)
            batch, graphs = (
                make_batch(size, place.device, 0),
                graphed_detections(detector, pixels, config, place.device),
            )

            def run(batch: Batch = batch, graphs: GraphedDetections | None = graphs) -> object:
                return detect_batch(detector, batch, pixels, place.device, config, graphs)  # noqa: B023

            each = seconds_each(run, place, repeats=repeats, warmup=SIGHTS + 1)
            what = f"inference tood, {images} at once, {precision}"
            bf16 = precision == "bf16"
            rows.append(
                at_least(what, images / each, least, "images/s") if bf16 else Row(what, images / each, "images/s")
            )
    return rows


def postprocessing(place: Place) -> list[Row]:
    """Milliseconds an image, 1 % of the scores above the threshold, 800x1333."""
    height, width = (64, 96) if place.small else (800, 1333)
    method = method_named("tood")
    rows = []
    for images in (1, 8):
        size = SceneSize(height, width, images=images, objects=0)
        threshold = method.inference.score_threshold
        predictions = sparse_predictions(size, place.device, share=0.01, threshold=threshold, seed=0)
        sizes = size.sizes().to(place.device)
        each = seconds_each(
            lambda: postprocess(predictions, sizes, None, method.inference),  # noqa: B023
            place,
            repeats=2 if place.small else 10,
        )
        rows.append(at_most(f"post-processing, {images} at once", 1000 * each / images, 1.0, "ms an image"))
    return rows


def jittered_training(place: Place) -> list[Row]:
    """A small ImageNet backbone at a new padded size nearly every step: the first steps against later ones."""
    steps = Steps(method_named("tood"), backbone_named("lite0"), place)
    count = 6 if place.small else 300
    sides = range(64, 129, 32) if place.small else range(288, 481, 32)
    draw = torch.Generator().manual_seed(0)
    shapes = [(height, width) for height in sides for width in sides]
    batches = {
        shape: make_batch(SceneSize(*shape, images=2 if place.small else 8, objects=5), place.device, 0)
        for shape in shapes
    }
    order = torch.randint(len(shapes), (count,), generator=draw).tolist()
    place.wait()
    times = []
    for chosen in order:
        started = time.perf_counter()
        steps.one(batches[shapes[chosen]])
        place.wait()
        times.append(time.perf_counter() - started)
    third = count // 3
    first, later = sum(times[:third]), sum(times[-third:])
    return [
        at_most("jitter, lite0: the slowest step of all", max(times), 0.5 if not place.small else 60.0, "s"),
        at_most(
            "jitter, lite0: first third of the steps over the last", first / later, 1.2 if not place.small else 60.0
        ),
        Row("jitter, lite0: later steps", third * batches[shapes[0]].images.shape[0] / later, "images/s"),
    ]


def profile_by_kernel(place: Place) -> list[Row]:
    """Where the time of one TOOD step of 16 images goes."""
    height, width, images = (64, 96, 2) if place.small else (800, 1333, 16)
    steps = Steps(method_named("tood"), backbone_named("r18" if place.small else "r50"), place)
    batch = make_batch(SceneSize(height, width, images=images, objects=7), place.device, 0)
    for _ in range(1 if place.small else 3):
        steps.one(batch)
    place.wait()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if place.device.type == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        steps.one(batch)
        place.wait()

    def spent(event: object) -> float:
        name = "self_device_time_total" if place.device.type == "cuda" else "self_cpu_time_total"
        return float(getattr(event, name))

    events = sorted(profile.key_averages(), key=spent, reverse=True)
    total = sum(spent(event) for event in events)
    rows = [Row("a TOOD step: all kernels", total / 1000, "ms"), Row("its kernels", sum(one.count for one in events))]
    rows += [
        Row(f"{event.count} x {event.key[:70].replace('|', ' ')}", spent(event) / 1000, "ms") for event in events[:20]
    ]
    return rows
