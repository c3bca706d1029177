"""A trained detector as one ONNX graph: image in, detections out."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, compose, helper

from tood import __version__
from tood.export.metadata import ExportMetadata, NumberKind
from tood.export.network import dense_outputs, network
from tood.export.postprocessing import postprocessing
from tood.export.preprocessing import preprocessing
from tood.io.write import atomic_path
from tood.weights.model_file import DetectionModel


def metadata_of(
    model: DetectionModel, made_from: str, threshold: float, *, raw: bool, numbers: NumberKind = "float32"
) -> ExportMetadata:
    given = model.network_input
    return ExportMetadata(
        version=__version__,
        made_from=made_from,
        method=model.method.name,
        classes=model.classes,
        category_ids=model.category_ids,
        threshold=threshold,
        outputs="raw" if raw else "detections",
        numbers=numbers,
        images=given.images,
        pixels=given.pixels,
        inference=model.method.inference,
        tile=model.tile,
    )


def exported(model: DetectionModel, metadata: ExportMetadata, inputs: Iterable[NDArray[np.float32]] = ()) -> ModelProto:
    """The whole graph in the metadata's kind of numbers; ``inputs`` (1,3,H,W) are what 8 bits are calibrated on."""
    middle = network(model.detector, dense_outputs(model.method, len(model.classes)))
    if metadata.numbers != "float32":
        from tood.export.smaller_numbers import in_half, in_int8  # seconds to import

        middle = in_half(middle) if metadata.numbers == "half" else in_int8(middle, inputs)
    return assembled(model, metadata, middle)


def assembled(model: DetectionModel, metadata: ExportMetadata, middle: ModelProto) -> ModelProto:
    """Pre-processing, a network (perhaps quantised) and post-processing as one graph with metadata."""
    dense = dense_outputs(model.method, len(model.classes))
    first = preprocessing(model.network_input)
    last = postprocessing(dense, metadata.inference, raw=metadata.outputs == "raw")
    kept = ("limits", "factors", "padded")
    begun = compose.merge_models(
        first, middle, io_map=[("pixels", "pixels")], outputs=[*kept, *dense.kinds], name="tood"
    )
    whole: ModelProto = compose.merge_models(
        begun, last, io_map=[(name, name) for name in (*dense.kinds, *kept) if _reads(last, name)], name="tood"
    )
    whole.producer_name, whole.producer_version = "tood", __version__
    helper.set_model_props(whole, metadata.entries())
    onnx.checker.check_model(whole)
    return whole


def _reads(model: ModelProto, name: str) -> bool:
    return any(name == given.name for given in model.graph.input)


def save(model: ModelProto, target: Path) -> None:
    """Write the file, by temporary name and rename."""
    with atomic_path(target) as path:
        path.write_bytes(model.SerializeToString())
