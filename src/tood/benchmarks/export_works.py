"""Exported detectors beside PyTorch's: one picture in, detections out, on a CPU."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from tood.benchmarks.random_scenes import CLASSES, SceneSize
from tood.benchmarks.timing import Work
from tood.benchmarks.workloads import Setup, detector_for
from tood.config.backbone import BackboneConfig
from tood.config.images import ImagesConfig
from tood.config.imported import ImportedConfig, ImportedSource
from tood.config.method import MethodConfig
from tood.data.decode import Decoded
from tood.detection.postprocess import Detections
from tood.evaluation.picture_detections import ModelFinder
from tood.export.extra import TO_WRITE, require
from tood.export.metadata import NumberKind
from tood.export.session import ExportedDetector, open_export
from tood.weights.model_file import DetectionModel

_CALIBRATED_ON = 4


def export_works(
    methods: list[MethodConfig], backbone: BackboneConfig, size: SceneSize, setup: Setup
) -> Iterator[Work]:
    """Files in float32 and in 8 bits, run by onnxruntime, beside the same detector in PyTorch.

    Resizing, normalisation and post-processing included, decoding not. Random weights find next to nothing.
    """
    require(TO_WRITE, "tood bench export")
    planes = torch.randint(0, 256, (3, size.height, size.width), generator=torch.Generator().manual_seed(setup.seed))
    picture = Decoded(planes.to(torch.uint8), (size.width, size.height))
    for method in methods:
        model = _random_model(method, backbone, size, setup)
        plain = ModelFinder.on(setup.device, model)
        kinds: tuple[NumberKind, ...] = ("float32", "int8")
        for numbers in kinds:
            run = _finding(_exported(model, numbers, picture), picture)
            name = f"{method.name}, ONNX {numbers}"
            yield Work("export", name, "the same in PyTorch", run, lambda plain=plain: plain.find([picture]), 1)  # type: ignore[misc]


def _finding(exported: ExportedDetector, picture: Decoded) -> Callable[[], list[Detections]]:
    return lambda: exported.find([picture])


def _random_model(method: MethodConfig, backbone: BackboneConfig, size: SceneSize, setup: Setup) -> DetectionModel:
    detector = detector_for(method, backbone, setup, training=False).eval()
    config = ImportedConfig(
        source=ImportedSource(file="random weights", sha256=hashlib.sha256().hexdigest(), dialect="mmdet"),
        method=method,
        backbone=backbone,
        head_width=backbone.width,
        images=ImagesConfig(short=min(size.height, size.width), long=max(size.height, size.width)),
    )
    return DetectionModel(
        config, tuple(f"class {number}" for number in range(CLASSES)), tuple(range(CLASSES)), detector
    )


def _exported(model: DetectionModel, numbers: NumberKind, picture: Decoded) -> ExportedDetector:
    from tood.export.exporting import exported, metadata_of, save

    draw, shape = np.random.default_rng(0), (1, 3, *picture.pixels.shape[1:])
    inputs = (draw.normal(size=shape).astype(np.float32) for _ in range(_CALIBRATED_ON))
    metadata = metadata_of(model, "random weights", 0.3, raw=False, numbers=numbers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        save(exported(model, metadata, inputs), path)
        return open_export(path, torch.get_num_threads())
