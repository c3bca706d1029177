"""A trained detector as one ONNX graph: image in, detections out."""

from pathlib import Path

import onnx
from onnx import ModelProto, compose, helper

from tood import __version__
from tood.export.metadata import ExportMetadata
from tood.export.network import dense_outputs, network
from tood.export.postprocessing import postprocessing
from tood.export.preprocessing import preprocessing
from tood.io.write import atomic_path
from tood.weights.model_file import DetectionModel


def metadata_of(model: DetectionModel, made_from: str, threshold: float, *, raw: bool) -> ExportMetadata:
    given = model.network_input
    return ExportMetadata(
        version=__version__,
        made_from=made_from,
        method=model.method.name,
        classes=model.classes,
        category_ids=model.category_ids,
        threshold=threshold,
        outputs="raw" if raw else "detections",
        images=given.images,
        pixels=given.pixels,
        inference=model.method.inference,
        tile=model.tile,
    )


def exported(model: DetectionModel, metadata: ExportMetadata) -> ModelProto:
    """The whole graph, computed in float32."""
    return assembled(model, metadata, network(model.detector, dense_outputs(model.method, len(model.classes))))


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
