"""The middle part of an exported detector: the network itself, traced by ``torch.onnx`` for inputs of any size."""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import onnx
import onnx_ir as ir
import torch
from onnx import ModelProto
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from tood.config.method import MethodConfig, ParallelHeadConfig
from tood.data.network_input import PAD_MULTIPLE
from tood.detection.backbones import StagedBackbone
from tood.detection.detector import OUTERMOST, Detector
from tood.detection.folding import forget_folded
from tood.export.graph import IR_VERSION, OPSET
from tood.export.postprocessing import DenseOutputs

_TRACED = (13, 17)  # height and width, in multiples of 32: what differs in reality differs here
_MOST = 1 << 11  # multiples of 32 px
_ANY_SIZE = 1 << 40


class _Network(nn.Module):
    """The outputs that post-processing reads, in the order of ``DenseOutputs.kinds``."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.detector(pixels)
        outputs = (found.class_logits, found.boxes, found.alignment_logits, found.quality)
        return tuple(one for one in outputs if one is not None)


def dense_outputs(method: MethodConfig, classes: int) -> DenseOutputs:
    head = method.head
    return DenseOutputs(
        classes=classes,
        anchors=head.anchors.per_location if isinstance(head, ParallelHeadConfig) else 1,
        alignment=head.aligned,
        quality="quality" in head.outputs,
    )


def network(detector: Detector, dense: DenseOutputs) -> ModelProto:
    """``pixels`` (1,3,H,W) in, with any multiples of 32 as sides, the network's outputs out; in float32.

    The detector must be in evaluation mode, with its weights on the CPU; it stays as it is.
    """
    detector = copy.deepcopy(detector)
    forget_folded(detector)
    detector.lay_out(OUTERMOST, OUTERMOST)  # a graph has no memory layout
    if not isinstance(detector.backbone, StagedBackbone):  # timm takes 1.5 s to import
        from tood.export.timm_padding import pad_by_constants

        pad_by_constants(detector.backbone)
    height, width = _TRACED
    example = torch.zeros(1, 3, PAD_MULTIPLE * height, PAD_MULTIPLE * width)
    sides = {2: PAD_MULTIPLE * torch.export.Dim("h", max=_MOST), 3: PAD_MULTIPLE * torch.export.Dim("w", max=_MOST)}
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            _Network(detector).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=list(dense.kinds),
            dynamic_shapes=(sides,),
            optimize=False,  # which takes longer than all the rest, and onnxruntime does it again
            verbose=False,
        )
        assert program is not None
        _simplify(program.model)
    model: ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def _simplify(model: ir.Model) -> None:
    """Compute what is constant, normalisations folded into weights included, and drop what nothing reads."""
    common.InlinePass()(model)
    fold_constants(model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
    for tidy in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        tidy(model)


@contextmanager
def _silence() -> Iterator[None]:
    """Without the exporter's remarks on its own work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
