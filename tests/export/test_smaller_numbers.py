"""Networks in 16 and 8 bits: what is changed, what stays in float32, and that they find about the same."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from PIL import Image

from tood.config.datasets import TileConfig
from tood.data.batch import collate
from tood.evaluation.picture_detections import as_sample, read_for
from tood.export.calibration import PICTURES, network_inputs
from tood.export.smaller_numbers import in_half, in_int8
from tood.weights.model_file import DetectionModel


def pixels(count: int) -> list[NDArray[np.float32]]:
    draw = np.random.default_rng(0)
    coarse = [draw.normal(size=(1, 3, 6, 8)).astype(np.float32) for _ in range(count)]
    return [one.repeat(16, axis=2).repeat(16, axis=3) for one in coarse]


def outputs(network: ModelProto, given: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    assert all(one.type == "tensor(float)" for one in [*session.get_inputs(), *session.get_outputs()])
    return list(session.run(None, {"pixels": given}))


def assert_near(network: ModelProto, plain: ModelProto, score: float, box: float) -> None:
    """Mean differences: of logits in shares of their spread, of corners in px."""
    (given,) = pixels(1)
    for found, wanted in zip(outputs(network, given), outputs(plain, given), strict=True):
        apart = np.abs(found - wanted).mean()
        assert apart > 0
        assert apart < (box if wanted.shape[-1] == 4 else score * wanted.std())


def convolutions(network: ModelProto) -> dict[bool, list[NodeProto]]:
    """By whether another convolution follows."""
    read = {name: node for node in network.graph.node for name in node.input}
    later: dict[str, bool] = {}
    for node in reversed(network.graph.node):
        readers = [reader for reader in network.graph.node if set(reader.input) & set(node.output)]
        later[node.name] = any(one.op_type == "Conv" or later[one.name] for one in readers)
    assert read
    found: dict[bool, list[NodeProto]] = {True: [], False: []}
    for node in network.graph.node:
        if node.op_type == "Conv":
            found[later[node.name]].append(node)
    return found


def kinds(network: ModelProto, nodes: list[NodeProto]) -> set[str]:
    """Types of the weights of some nodes."""
    stored = {one.name: numpy_helper.to_array(one).dtype.name for one in network.graph.initializer}
    made = {name: node for node in network.graph.node for name in node.output}
    names = (node.input[1] for node in nodes)
    return {stored.get(name) or stored[made[name].input[0]] for name in names}


def test_half_changes_what_leads_to_predictions(middle: ModelProto) -> None:
    half = in_half(middle)
    nodes = convolutions(half)
    assert kinds(half, nodes[True]) == {"float16"}
    assert kinds(half, nodes[False]) == {"float32"}
    assert half.ByteSize() < 0.75 * middle.ByteSize()
    assert_near(half, middle, score=0.05, box=0.1)


def test_eight_bits_change_what_leads_to_predictions(middle: ModelProto) -> None:
    small = in_int8(middle, iter(pixels(4)))
    nodes = convolutions(small)
    assert kinds(small, nodes[True]) == {"int8"}
    assert kinds(small, nodes[False]) == {"float32"}
    weights = [numpy_helper.to_array(one) for one in small.graph.initializer if one.data_type == one.INT8]
    largest = max(int(np.abs(one.astype(int)).max()) for one in weights if one.ndim == 4)
    assert 60 < largest <= 64, "seven bits"
    assert_near(small, middle, score=0.3, box=2.0)


def test_inputs_to_calibrate_on_are_those_of_evaluation(model: DetectionModel, tmp_path: Path) -> None:
    from torch import device

    from tood.evaluation.picture_detections import ModelFinder

    paths = []
    for number in range(PICTURES + 6):
        paths.append(tmp_path / f"{number:03}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (70, 90, 3), np.uint8)).save(paths[-1])
    found = list(network_inputs(model, paths))
    assert len(found) == PICTURES
    given = model.network_input
    sample = as_sample(read_for(ModelFinder(model, device("cpu"), None), paths[0], None), 0, given)
    assert np.array_equal(found[0], collate([sample], given.pixels).images.numpy())


def test_of_a_detector_on_tiles_tiles_are_taken(
    model: DetectionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model), "tile", property(lambda self: TileConfig(size=64)))
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    (found,) = network_inputs(model, [tmp_path / "a.png"])
    assert found.shape == (1, 3, 64, 64)
