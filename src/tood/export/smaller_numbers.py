"""An exported network in numbers of 16 or 8 bits.

Only what leads to the last convolutions is changed. What follows them, boxes and scores, stays in float32: 16 bits tell
positions of a large picture apart by whole pixels.
"""

import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from tood.export.graph import IR_VERSION

_INT8_OPERATORS = ("Conv", "Add", "MaxPool", "Relu", "Clip")
"""Sums and activations too, so that a residual block stays in 8 bits from end to end."""
_HALF_OPERATORS = ("Conv", "Relu", "Clip", "MaxPool", "Add")
"""The others keep float32: means of normalisations and attention, and shapes."""


def in_half(network: ModelProto) -> ModelProto:
    """With float16 weights and convolutions. Inputs and outputs stay float32."""
    network = _folded(network)
    others = sorted({node.op_type for node in network.graph.node} - set(_HALF_OPERATORS))
    converted: ModelProto = convert_float_to_float16(
        network,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=others,
        node_block_list=[node.name for node in _after_convolutions(network)],
    )
    OnnxModel(converted).topological_sort()
    return _tidied(converted)


def in_int8(network: ModelProto, inputs: Iterable[NDArray[np.float32]]) -> ModelProto:
    """With convolutions in integers: weights of 7 bits for each channel, activations of 8 bits for each tensor.

    ``inputs`` (1,3,H,W) are what the ranges of the activations are measured on. 7 bits, since processors with AVX2
    and no more add products of full ones with saturation.
    """
    with tempfile.TemporaryDirectory() as folder, _silence():
        target = Path(folder, "int8.onnx")
        folded = _folded(network)
        quantize_static(
            folded,
            str(target),
            _Reader(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_INT8_OPERATORS),
            nodes_to_exclude=[node.name for node in _after_convolutions(folded)],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return _tidied(onnx.load(target))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterable[NDArray[np.float32]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        found = next(self._inputs, None)
        return None if found is None else {"pixels": found}


def _after_convolutions(network: ModelProto) -> list[NodeProto]:
    """Nodes from the last convolutions on: the predictions themselves and what becomes of them."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in network.graph.node:
        for name in node.input:
            readers[name].append(node)
    before: dict[str, bool] = {}  # by name: whether a convolution follows
    for node in reversed(network.graph.node):
        following = (reader for name in node.output for reader in readers[name])
        before[node.name] = any(reader.op_type == "Conv" or before[reader.name] for reader in following)
    return [node for node in network.graph.node if not before[node.name]]


def _folded(network: ModelProto) -> ModelProto:
    """A copy with normalisations folded into weights, in which every node has a name of its own.

    Weights are named anew: where several convolutions share one, the quantiser appends digits to its name, which may be
    the name of something else.
    """
    with tempfile.TemporaryDirectory() as folder, _silence():
        plain, target = Path(folder, "plain.onnx"), Path(folder, "folded.onnx")
        onnx.save(network, plain)
        quant_pre_process(str(plain), str(target), skip_symbolic_shape=True)
        folded = onnx.load(target)
    names = {one.name: f"weight_{number}_" for number, one in enumerate(folded.graph.initializer)}
    for one in folded.graph.initializer:
        one.name = names[one.name]
    for number, node in enumerate(folded.graph.node):
        node.name = f"node_{number}"
        node.input[:] = [names.get(name, name) for name in node.input]
    return _tidied(folded)


def _tidied(network: ModelProto) -> ModelProto:
    """Without operator sets that no node uses, which would keep it from being joined with other graphs."""
    used = {node.domain for node in network.graph.node}
    kept = [one for one in network.opset_import if one.domain in used]
    del network.opset_import[:]
    network.opset_import.extend(kept)
    network.ir_version = IR_VERSION
    return network


@contextmanager
def _silence() -> Iterator[None]:
    """Without the quantiser's advice on what was done already."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
