"""Detections by graphs are those without, for batches of changing sizes."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import equality
import numpy as np
import pytest
import torch
from graph_stand_in import StandIn
from PIL import Image
from torch import nn

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig
from tood.config.method import InferenceConfig
from tood.data.batch import Batch
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.detection import cuda_graphs
from tood.detection.deformable import DeformableConv
from tood.detection.detector import Detector
from tood.detection.postprocess import Detections, in_original_pixels, read_slots
from tood.detection.predictions import Predictions
from tood.detection.slots import detection_slots
from tood.evaluation import graphed_detections
from tood.evaluation.detections import SplitDetections, detect_batch, detect_split
from tood.evaluation.graphed_detections import GraphedDetections

PIXELS = PixelsConfig()
METHODS = {
    "tood": InferenceConfig(score_threshold=0.013),
    "atss": InferenceConfig(score_threshold=0.005),
    "paa": InferenceConfig(score_threshold=0.02, rank_by="geometric_mean", score_voting=0.025),
}
CPU = torch.device("cpu")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "SIGHTS", 1)


def detector_of(name: str) -> Detector:
    return equality.make_detector(name).float().eval()


def noise(seed: int, images: int, height: int, width: int) -> Batch:
    """Bytes of so many images, each somewhat smaller than the padded size."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([[height - 3 * image, width - 5] for image in range(images)])
    batch = equality.make_batch(1 + seed % 3)
    batch = Batch(*(value[:images] for _, value in batch._tensors()))
    pixels = torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8, generator=draw)
    return replace(batch, images=pixels, sizes=sizes, scales=torch.full((images, 2), 0.5 + seed / 10))


@torch.inference_mode()
def without_graphs(detector: Detector, batch: Batch, config: InferenceConfig) -> list[Detections]:
    """In slots, as on a GPU."""
    batch = batch.normalised(PIXELS)
    predictions = in_original_pixels(detector(batch.images), batch.sizes, batch.scales, config)
    return read_slots(predictions, detection_slots(predictions, config), config)


def same(found: list[Detections], expected: list[Detections]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for one, other in zip(found, expected, strict=True)
        for name in ("boxes", "scores", "labels")
    )


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", METHODS)
def test_batches_of_changing_sizes(name: str) -> None:
    detector, config, recorder = detector_of(name), METHODS[name], StandIn()
    graphs = GraphedDetections(detector, PIXELS, config, recorder)
    shapes = [(1, 64, 96), (1, 96, 64), (2, 64, 96)] * 3
    batches = [noise(seed, *shape) for seed, shape in enumerate(shapes)]
    for batch in batches:
        expected = without_graphs(detector, batch, config)
        assert min(len(one.scores) for one in expected) > 3
        assert same(detect_batch(detector, batch, PIXELS, CPU, config, graphs), expected)
    assert (recorder.recorded, recorder.replayed) == (3, 12)
    normalised = batches[-1].normalised(PIXELS)
    assert same(detect_batch(detector, normalised, PIXELS, CPU, config, graphs), expected)
    assert recorder.recorded == 4, "of other numbers than bytes"


@pytest.mark.usefixtures("at_once")
def test_images_whose_slots_are_not_certain_are_done_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def uncertain(predictions: Predictions, config: InferenceConfig) -> torch.Tensor:
        slots = detection_slots(predictions, config)
        slots[:, -1, 1] = 0
        return slots

    detector, config = detector_of("tood"), METHODS["tood"]
    expected = without_graphs(detector, noise(5, 2, 64, 96), config)
    monkeypatch.setattr(graphed_detections, "detection_slots", uncertain)
    graphs = GraphedDetections(detector, PIXELS, config, StandIn())
    for seed in (4, 5):
        found = graphs.detect(noise(seed, 2, 64, 96))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.labels, other.labels)
        torch.testing.assert_close(one.boxes, other.boxes)
        torch.testing.assert_close(one.scores, other.scores)


class Wrong(nn.Module):
    """Finds something else every time, as does a graph that misses a kernel."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.times = 0

    def forward(self, images: torch.Tensor) -> Predictions:
        self.times += 1
        found: Predictions = self.detector(images)
        return replace(found, boxes=found.boxes + self.times)


@pytest.mark.usefixtures("at_once")
def test_a_graph_that_finds_something_else_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tood")
    wrong, config = Wrong(detector_of("atss")), METHODS["atss"]
    recorder = StandIn()
    graphs = GraphedDetections(wrong, PIXELS, config, recorder)  # type: ignore[arg-type]
    for seed in range(3):
        graphs.detect(noise(seed, 1, 64, 96))
    assert recorder.recorded == 1
    assert caplog.text.count("goes on without CUDA graphs") == 1
    assert "the detection of 1 x 64 x 96 px cannot be recorded: the graph finds other detections" in caplog.text


def write_split(folder: Path) -> SplitTable:
    draw = np.random.default_rng(0)
    entries = []
    for number in range(1, 7):
        width, height = ((96, 64), (64, 96))[number % 2]
        Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{number}.png")
        entries.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
    categories = [{"id": number, "name": str(number)} for number in range(1, 1 + equality.CLASSES)]
    path = folder / "val.json"
    path.write_text(json.dumps({"images": entries, "annotations": [], "categories": categories}))
    return SplitTable.of_json(path)


@pytest.mark.usefixtures("at_once")
def test_a_split_is_detected_in_by_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, config, recorder = write_split(tmp_path), METHODS["tood"], StandIn()
    given, detector = NetworkInput(ImagesConfig(short=64, long=96), PIXELS), detector_of("tood")

    def detected() -> SplitDetections:
        return detect_split(detector, table, tmp_path, given, config, device=CPU)

    expected = detected()
    monkeypatch.setattr(graphed_detections, "recorder_on", lambda _: recorder)
    found = detected()
    assert len(found.results) == len(expected.results) > 20
    for one, other in zip(found.results, expected.results, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert one["score"] == pytest.approx(other["score"], rel=1e-5)
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
    assert (recorder.recorded, recorder.replayed) == (2, 8)
    deformable = nn.Sequential(detector, DeformableConv(4, 4))
    assert graphed_detections.graphed_detections(deformable, PIXELS, config, CPU) is None  # type: ignore[arg-type]
