"""On a GPU: what graphs of steps and of detections compute is what is computed without, and no step waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tood.config.backbone import BackboneConfig, PixelsConfig
from tood.config.blocks import read_block
from tood.config.messages import validate
from tood.config.method import InferenceConfig, MethodConfig
from tood.data.loader import Batch
from tood.detection import cuda_graphs
from tood.detection.cuda_graphs import CudaRecorder
from tood.detection.detector import Detector, build_criterion, build_detector
from tood.detection.inference import detect
from tood.detection.training_batch import Progress
from tood.evaluation.graphed_detections import GraphedDetections
from tood.io.console import run_log
from tood.training.graphed_step import GraphedSteps
from tood.training.processes.distributed import Group
from tood.training.step import step_gradient

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
PARAMS = Path(__file__).parents[2] / "params"
METHODS = sorted({path.stem for path in (PARAMS / "methods").glob("*.yaml")} - {"tood_dcn"})
CASES = [*((name, "bf16", 1) for name in METHODS), ("tood", "float32", 1), ("tood", "bf16", 2), ("paa", "bf16", 2)]
BACKBONE = BackboneConfig(name="light", kind="light", weights="none", norm="frozen_statistics", width=64)
PIXELS = PixelsConfig()
ALONE = Group(rank=0, world=1, device=torch.device("cuda"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "SIGHTS", 1)


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def method_of(name: str) -> MethodConfig:
    return validate(MethodConfig, read_block(PARAMS, "methods", name, MethodConfig, name), name)


def detector_of(name: str) -> Detector:
    torch.manual_seed(4)
    return build_detector(method_of(name), BACKBONE, 3).on(ALONE.device)


def noise(seed: int, height: int, width: int) -> Batch:
    """Four images, of bytes, with objects in some of eight slots."""
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(4, 8, 2, generator=draw) * torch.tensor([width / 2, height / 2])
    sizes = torch.tensor([[height - 9 * image, width - 5 * image] for image in range(4)])
    batch = Batch(
        images=torch.randint(0, 256, (4, 3, height, width), dtype=torch.uint8, generator=draw),
        sizes=sizes,
        scales=torch.full((4, 2), 0.5),
        original_sizes=sizes * 2,
        image_ids=torch.arange(4),
        boxes=torch.cat([corner, corner + 10 + torch.rand(4, 8, 2, generator=draw) * 60], dim=2),
        labels=torch.randint(3, (4, 8), generator=draw),
        valid=torch.arange(8) < torch.randint(1, 9, (4, 1), generator=draw),
        group=torch.arange(4) // 2,
    )
    return batch.to(ALONE.device)


def gradients(detector: Detector) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in detector.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "precision", "parts"), CASES)
def test_steps_of_several_sizes(name: str, precision: str, parts: int) -> None:
    detector, criterion = detector_of(name).train(), build_criterion(method_of(name))
    recorder = CudaRecorder(ALONE.device)
    log, means = run_log("tood.test", "run"), dict[str, Tensor]()
    options = {"groups": 2, "precision": precision}
    graphs = GraphedSteps(detector, criterion, PIXELS, recorder, log, group=ALONE, **options)  # type: ignore[arg-type]
    shapes, seen = [(128, 160), (160, 128), (96, 224)], set[tuple[object, ...]]()
    for number in range(6, 18):  # TOOD's phases change with the twelfth
        progress = Progress(epoch=number // 3, step=number * 100, total_steps=100_000)
        batches = [noise(number, *shapes[number % 3])]
        if number % 4 == 3:
            batches = [noise(number, *shape) for shape in shapes[:2]]
        more = {"micro_batches": parts, "means": means}
        detector.zero_grad(set_to_none=True)
        normalised = [batch.normalised(PIXELS) for batch in batches]
        expected = step_gradient(detector, criterion, normalised, progress, group=ALONE, **options, **more)  # type: ignore[arg-type]
        wanted = gradients(detector)
        graphs.gradient(batches, progress, **more)  # type: ignore[arg-type]
        with waiting_is_an_error():
            found = graphs.gradient(batches, progress, **more)  # type: ignore[arg-type]
        assert not graphs._graphs._given_up
        for one, other in ((found.losses, expected.losses), (found.means, expected.means)):
            assert one.keys() == other.keys()
            assert all(torch.allclose(one[key], other[key], rtol=1e-3, atol=1e-5) for key in other)
        assert gradients(detector).keys() == wanted.keys()
        largest = max(float(value.norm()) for value in wanted.values())
        for key, value in gradients(detector).items():
            assert float((value - wanted[key]).norm()) < 0.01 * largest, key
        means = found.means
        with torch.no_grad():
            for parameter in detector.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-4 * parameter.grad)
        seen.add((criterion.program(progress, 1000), *(batch.images.shape for batch in batches)))
    assert len(graphs._graphs._kept) >= len(seen) > 3


@pytest.mark.parametrize("name", ["tood", "atss", "paa", "gfl"])
def test_detections_of_several_sizes(name: str) -> None:
    detector = detector_of(name).eval()
    config = replace_threshold(method_of(name).inference)
    graphs = GraphedDetections(detector, PIXELS, config, CudaRecorder(ALONE.device))
    for number in range(6):
        batch = noise(number, *[(128, 160), (160, 128), (96, 224)][number % 3])
        given = batch.normalised(PIXELS)
        expected = detect(detector, given.images, given.sizes, given.scales, config)
        for one, other in zip(graphs.detect(batch), expected, strict=True):
            assert torch.equal(one.labels, other.labels)
            torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-4, atol=1e-2)
    assert not graphs._graphs._given_up
    assert len(graphs._graphs._kept) == 3


def replace_threshold(config: InferenceConfig) -> InferenceConfig:
    """Low enough for random weights."""
    return config.model_copy(update={"score_threshold": 1e-4})
