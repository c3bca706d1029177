"""A small detector that finds something everywhere, and its export, which takes half a minute."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import ModelProto

from tood.config.backbone import load_backbone
from tood.config.blocks import load_block
from tood.config.method import MethodConfig
from tood.config.study import RunConfig, load_study
from tood.detection.detector import build_detector
from tood.export.exporting import assembled, metadata_of, save
from tood.export.network import dense_outputs, network
from tood.weights.model_file import DetectionModel, load_detection_model, save_model

PARAMS = Path(__file__).parents[2] / "params"
NARROW = {"weights": "none", "norm": "frozen_statistics", "width": 32, "norm_groups": 8}
"""Of a backbone: random weights, normalisation folded."""
MakeModel = Callable[..., DetectionModel]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Of a method and a backbone, with random weights whose scores are spread, on images of 64 to 96 px."""

    def make(method: str, backbone: str = "light") -> DetectionModel:
        content: dict[str, Any] = load_study("demo", PARAMS).run("atss").model_dump(mode="json")
        given: MethodConfig = load_block(PARAMS, "methods", method, MethodConfig, "test")
        content["method"] = given.model_dump(mode="json")
        narrow = load_backbone(backbone, PARAMS).model_copy(update=NARROW | {"first_stage_width": 8})
        content["backbone"] = narrow.model_dump(mode="json")
        content["schedule"]["images"].update(short=64, long=96)
        config = RunConfig.model_validate(content)
        torch.manual_seed(0)
        detector = build_detector(config.method, config.backbone, 2)
        spread(detector.state_dict())
        path = tmp_path_factory.mktemp("model") / "model.pt"
        save_model(path, config, ("cat", "dog"), (3, 7), detector)
        return load_detection_model(path)

    return make


def spread(state: dict[str, torch.Tensor]) -> None:
    """Scores that differ, and running statistics that change something."""
    for name, value in state.items():
        if name.endswith(("cls.bias", "cls_prob_module.2.bias")):
            value.fill_(-0.5)
        elif name.endswith("cls.weight"):
            value.normal_(std=0.3)
        elif name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2.0)


@pytest.fixture(scope="session")
def model(make_model: MakeModel) -> DetectionModel:
    return make_model("tood")


@pytest.fixture(scope="session")
def middle(model: DetectionModel) -> ModelProto:
    """The network alone."""
    return network(model.detector, dense_outputs(model.method, len(model.classes)))


@pytest.fixture(scope="session")
def file(model: DetectionModel, middle: ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    save(assembled(model, metadata_of(model, "results/demo/tood", 0.25, raw=False), middle), path)
    return path
