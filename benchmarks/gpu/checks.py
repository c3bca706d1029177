"""Whether a GPU computes what a CPU does, the same each time, and never waits for the host."""

import platform
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from gpu.rows import Place, Row, at_most
from tood.benchmarks.random_scenes import SceneSize, make_batch
from tood.config.backbone import BackboneConfig, load_backbone
from tood.config.blocks import load_block
from tood.config.method import MethodConfig
from tood.data.batch import Batch
from tood.detection.cuda_graphs import SIGHTS, recorder_on
from tood.detection.detector import Detector, build_criterion, build_detector
from tood.detection.kernels import rows as kernels
from tood.detection.number_format import number_format
from tood.detection.training_batch import Progress
from tood.io.console import run_log
from tood.training.graphed_step import GraphedSteps
from tood.training.processes.distributed import Group
from tood.training.step import step_gradient

PARAMS = Path(__file__).parents[2] / "params"
METHODS = ("tood", "atss", "gfl", "retinanet", "paa", "free_anchor", "mal", "pisa", "noisy_anchor")
CLASSES = 80
EARLY = Progress(epoch=0, step=1, total_steps=1200)
LATE = Progress(epoch=9, step=900, total_steps=1200)


def method_named(name: str) -> MethodConfig:
    return load_block(PARAMS, "methods", name, MethodConfig, name)


def backbone_named(name: str) -> BackboneConfig:
    """Without its weights, which a bare machine does not have."""
    return load_backbone(name, PARAMS, name).model_copy(update={"weights": "none", "norm": "frozen_statistics"})


def card(place: Place) -> list[Row]:
    rows = [
        Row("torch", torch.__version__),
        Row("torchvision", torchvision.__version__),
        Row("Python", platform.python_version()),
        Row("cuDNN", str(torch.backends.cudnn.version())),
        Row("Triton", "there" if kernels.HAS_TRITON else "missing, so nothing is fused"),
    ]
    if place.device.type == "cuda":
        found = torch.cuda.get_device_properties(place.device)
        rows.insert(0, Row("card", found.name))
        rows.append(Row("its memory", found.total_memory / 2**30, "GiB"))
    return rows


def loss_and_gradient(
    detector: Detector, method: MethodConfig, batch: Batch, progress: Progress, device: torch.device, precision: str
) -> tuple[dict[str, float], Tensor]:
    """The losses of a step, and its gradient as one vector on the CPU in float64."""
    detector.on(device, training=True).train().zero_grad(set_to_none=True)
    group = Group(rank=0, world=1, device=device)
    with number_format("float32", device):
        found = step_gradient(
            detector, build_criterion(method), [batch.to(device)], progress, group=group, precision=precision
        )
    gradients = [one.grad.flatten().double().cpu() for one in detector.parameters() if one.grad is not None]
    return {name: float(loss) for name, loss in found.losses.items()}, torch.cat(gradients)


def equality_with_the_cpu(place: Place) -> list[Row]:
    """Every method, both phases, IEEE float32: relative difference of each loss and of the gradient's norm."""
    size = SceneSize(128, 160, images=2, objects=4) if place.small else SceneSize(320, 480, images=2, objects=12)
    batch, rows = make_batch(size, torch.device("cpu"), 0), []
    names = METHODS[:1] if place.small else METHODS
    for name in names:
        method = method_named(name)
        for phase, progress in (("early", EARLY), ("late", LATE)):
            torch.manual_seed(0)
            detector = build_detector(method, backbone_named("light"), CLASSES)
            here, gradient = loss_and_gradient(detector, method, batch, progress, torch.device("cpu"), "float32")
            there, other = loss_and_gradient(detector, method, batch, progress, place.device, "float32")
            losses = max(abs(there[key] / value - 1) for key, value in here.items() if value)
            norm = abs(float(other.norm() / gradient.norm()) - 1)
            rows.append(at_most(f"{name}, {phase}: losses, GPU against CPU", losses, 1e-5))
            rows.append(at_most(f"{name}, {phase}: gradient's norm", norm, 1e-4))
    return rows


def fused_against_plain(place: Place) -> list[Row]:
    """bf16 with and without fused kernels: how far both gradients are from float32's, relative to its norm."""
    size = SceneSize(128, 160, images=2, objects=4) if place.small else SceneSize(800, 1333, images=4, objects=20)
    batch, rows = make_batch(size, torch.device("cpu"), 0), []
    backbone = backbone_named("light" if place.small else "r50")
    for name in ("tood",) if place.small else ("tood", "atss"):
        method = method_named(name)
        torch.manual_seed(0)
        detector = build_detector(method, backbone, CLASSES)
        _, exact = loss_and_gradient(detector, method, batch, LATE, place.device, "float32")
        found = {}
        for label, triton in (("plain", False), ("fused", kernels.HAS_TRITON)):
            before, kernels.HAS_TRITON = kernels.HAS_TRITON, triton
            try:
                _, gradient = loss_and_gradient(detector, method, batch, LATE, place.device, "bf16")
            finally:
                kernels.HAS_TRITON = before
            found[label] = float((gradient - exact).norm() / exact.norm())
            rows.append(Row(f"{name}: error of a bf16 gradient, {label}", found[label]))
        rows.append(at_most(f"{name}: fused over plain", found["fused"] / found["plain"], 1.2))
    return rows


def graphed_against_plain(place: Place) -> list[Row]:
    """The gradient of a step by graphs against the plain one, on a batch that nothing was recorded from."""
    size = SceneSize(128, 160, images=2, objects=4) if place.small else SceneSize(320, 480, images=4, objects=12)
    recorder, rows = recorder_on(place.device), []
    if recorder is None:
        return [Row("graphs against plain steps", "no graphs on this device")]
    batches = [make_batch(size, place.device, seed) for seed in range(SIGHTS + 1)]
    for name in METHODS:
        method, backbone = method_named(name), backbone_named("light")
        torch.manual_seed(0)
        detector = build_detector(method, backbone, CLASSES).on(place.device, training=True).train()
        criterion, group = build_criterion(method), Group(rank=0, world=1, device=place.device)
        log = run_log(__name__, name)
        graphs = GraphedSteps(detector, criterion, backbone.pixels, recorder, log, group=group, precision="bf16")
        for batch in batches:
            graphs.gradient([batch], LATE)
        found = torch.cat([one.grad.flatten().double() for one in detector.parameters() if one.grad is not None])
        detector.zero_grad(set_to_none=True)
        step_gradient(detector, criterion, [batches[-1]], LATE, group=group, precision="bf16")
        plain = torch.cat([one.grad.flatten().double() for one in detector.parameters() if one.grad is not None])
        rows.append(at_most(f"{name}: gradient by a graph, off by", float((found - plain).norm() / plain.norm()), 1e-2))
    return rows


def no_waits(place: Place) -> list[Row]:
    """A training step of every method in which a wait for the GPU is an error."""
    size = SceneSize(128, 160, images=2, objects=4) if place.small else SceneSize(416, 640, images=2, objects=20)
    rows = []
    for name in METHODS[:1] if place.small else METHODS:
        method = method_named(name)
        detector = build_detector(method, backbone_named("light"), CLASSES).on(place.device, training=True).train()
        criterion, group = build_criterion(method), Group(rank=0, world=1, device=place.device)
        batch = make_batch(size, place.device, 0)

        def run() -> None:
            step_gradient(detector, criterion, [batch], LATE, group=group, precision="bf16")  # noqa: B023

        for _ in range(2):
            run()
        place.wait()
        if place.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            run()
            waits = ""
        except RuntimeError as error:
            waits = " ".join(str(error).split())[:80]
        finally:
            if place.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        rows.append(Row(f"{name}: waits for the GPU in a step", waits or "none", "", "none", not waits))
    return rows


def equal_steps(place: Place) -> list[Row]:
    """Whether the same step twice gives the same bits."""
    size = SceneSize(128, 160, images=2, objects=4) if place.small else SceneSize(416, 640, images=4, objects=20)
    batch, rows = make_batch(size, torch.device("cpu"), 0), []
    for name in ("tood",) if place.small else ("tood", "atss", "gfl"):
        method = method_named(name)
        torch.manual_seed(0)
        detector = build_detector(method, backbone_named("light"), CLASSES)
        for precision in ("float32", "bf16"):
            first, second = (
                loss_and_gradient(detector, method, replace(batch), LATE, place.device, precision)[1] for _ in range(2)
            )
            same = torch.equal(first, second)
            difference = float((first - second).abs().max())
            rows.append(
                Row(f"{name}, {precision}: two equal steps", "equal bits" if same else f"{difference:.1e} apart")
            )
    return rows
