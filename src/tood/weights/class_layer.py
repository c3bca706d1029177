"""Classification layer of a head: reordering and selecting its rows to match a data set's classes."""

import torch
from torch import nn

from tood.detection.detector import Detector
from tood.detection.heads.parallel import ParallelHead
from tood.io.errors import UserError, listed
from tood.weights.model_file import DetectionModel


def fit_classes(model: DetectionModel, wanted: tuple[str, ...], where: str, data: str) -> tuple[str, ...]:
    """Make the model's detector score the classes ``wanted`` in their order; those that it scores no more.

    Classes are matched by name. ``where`` and ``data`` name the model's file and the data set. Raises UserError
    naming the classes that the model does not know.
    """
    unknown = [name for name in wanted if name not in model.classes]
    if unknown:
        raise UserError(
            f"{where}: does not know {len(unknown)} of the {len(wanted)} classes of data set '{data}' "
            f"({listed(unknown)}); it knows {listed(list(model.classes))}."
        )
    if wanted != model.classes:
        _select(model.detector, [model.classes.index(name) for name in wanted], len(model.classes))
    return tuple(name for name in model.classes if name not in wanted)


@torch.no_grad()
def _select(detector: Detector, labels: list[int], count: int) -> None:
    """Keep the rows of ``labels`` for every anchor of a location."""
    head = detector.bbox_head
    layer = head.cls if isinstance(head, ParallelHead) else head.tood_cls
    anchors = layer.out_channels // count
    rows = torch.tensor([anchor * count + label for anchor in range(anchors) for label in labels])
    layer.weight = nn.Parameter(layer.weight[rows], requires_grad=layer.weight.requires_grad)
    assert layer.bias is not None
    layer.bias = nn.Parameter(layer.bias[rows], requires_grad=layer.bias.requires_grad)
    layer.out_channels = len(rows)
