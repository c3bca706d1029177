"""The last part of an exported detector: dense predictions become detections, as ``tood.detection.postprocess`` says.

Ties are broken as there: ONNX's TopK and NonMaxSuppression take the lower index of equal scores first. Overlaps are
computed in float32, there in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from tood.config.method import InferenceConfig
from tood.detection.boxes import EPSILON
from tood.detection.points import STRIDES
from tood.detection.score_voting import LEAST_IOU
from tood.export.graph import Graph, Kind, Value

DETECTIONS = {
    "boxes": Kind(np.float32, ("detections", 4)),
    "labels": Kind(np.int64, ("detections",)),
    "scores": Kind(np.float32, ("detections",)),
}
RAW = {
    "boxes": Kind(np.float32, ("locations", 4)),
    "scores": Kind(np.float32, ("locations", "classes")),
}


@dataclass(frozen=True)
class DenseOutputs:
    """What a network predicts at each of its locations, besides class logits and boxes."""

    classes: int
    anchors: int
    """At a location of a map."""
    alignment: bool
    quality: bool

    @property
    def kinds(self) -> dict[str, Kind]:
        """The network's outputs by name."""
        found = {
            "class_logits": Kind(np.float32, (1, "locations", self.classes)),
            "box_corners": Kind(np.float32, (1, "locations", 4)),
        }
        optional = {"alignment_logits": self.alignment, "quality_logits": self.quality}
        return found | {name: Kind(np.float32, (1, "locations")) for name, there in optional.items() if there}


@dataclass(frozen=True)
class _Candidates:
    """K pairs of location and class, by location, then class."""

    boxes: Value
    labels: Value
    scores: Value


def postprocessing(dense: DenseOutputs, config: InferenceConfig, *, raw: bool) -> ModelProto:
    """From the network's outputs, with ``limits``, ``factors`` and ``padded`` of preprocessing, to ``DETECTIONS``, or
    with ``raw`` to the boxes of all N locations, in px of the image, and their scores (N,C)."""
    g = Graph("postprocessing")
    scores = _scores(g, dense, config)
    boxes = _boxes(g, config)
    if raw:
        if dense.quality and config.rank_by == "class":
            scores = scores * _probability(g, "quality_logits").reshaped(-1, 1)
        g.output(boxes, "boxes")
        g.output(scores, "scores")
    else:
        candidates = _candidates(g, dense, config, scores, boxes)
        found = _suppressed(g, candidates, dense.classes, config)
        for name in DETECTIONS:
            g.output(getattr(found, name), name)
    geometry = {
        "limits": Kind(np.float32, (4,)),
        "factors": Kind(np.float32, (4,)),
        "padded": Kind(np.int64, (2,)),
    }
    return g.model(dense.kinds | geometry, RAW if raw else DETECTIONS)


def _probability(g: Graph, name: str) -> Value:
    """(N,) of logits (1,N)."""
    return g.op("Sigmoid", g.input(name)).reshaped(-1)


def _scores(g: Graph, dense: DenseOutputs, config: InferenceConfig) -> Value:
    """(N,C) what is compared with the threshold and ranked."""
    scores = g.op("Sigmoid", g.input("class_logits")).reshaped(-1, dense.classes)
    if dense.alignment:
        scores = g.op("Sqrt", scores * _probability(g, "alignment_logits").reshaped(-1, 1))
    if config.rank_by == "geometric_mean":
        scores = g.op("Sqrt", scores * _probability(g, "quality_logits").reshaped(-1, 1))
    return scores


def _boxes(g: Graph, config: InferenceConfig) -> Value:
    boxes = g.input("box_corners").reshaped(-1, 4)
    if config.clip_boxes:
        boxes = g.op("Min", g.op("Max", boxes, g.constant(0, np.float32)), g.input("limits"))
    return boxes / g.input("factors")


def _candidates(g: Graph, dense: DenseOutputs, config: InferenceConfig, scores: Value, boxes: Value) -> _Candidates:
    counts = [_locations(g, stride, dense.anchors) for stride in STRIDES]
    starts = [g.constant([0], np.int64)]
    for count in counts[:-1]:
        starts.append(starts[-1] + count)
    levels = g.ops("Split", len(STRIDES), scores, g.op("Concat", *counts, axis=0), axis=0)
    best = _best_of_locations if config.rank_by == "geometric_mean" else _best_pairs
    classes = g.constant(dense.classes, np.int64)
    kept = [best(g, level, config) + start * classes for level, start in zip(levels, starts, strict=True)]
    pairs = _ascending(g, g.op("Concat", *kept, axis=0))
    location = pairs / classes
    score = scores.reshaped(-1).taken(pairs)
    if config.rank_by == "class" and dense.quality:
        score = score * _probability(g, "quality_logits").taken(location)
    found = _Candidates(boxes.taken(location), g.op("Mod", pairs, classes), score)
    return _with_area(g, found) if config.score_voting is None else found


def _locations(g: Graph, stride: int, anchors: int) -> Value:
    """(1,) of the map with this stride."""
    step, more = (g.constant(value, np.int64) for value in (stride, stride - 1))
    cells = g.op("ReduceProd", (g.input("padded") + more) / step, keepdims=1)
    return cells * g.constant(anchors, np.int64)


def _above(g: Graph, scores: Value, config: InferenceConfig) -> Value:
    return scores > g.constant(config.score_threshold, np.float32)


def _found(g: Graph, wanted: Value) -> Value:
    """Indices of what is true in a vector."""
    return g.op("NonZero", wanted).reshaped(-1)


def _at_most(g: Graph, limit: int, values: Value) -> Value:
    """(1,) the smaller of the limit and the number of values."""
    return g.op("Min", g.constant([limit], np.int64), g.op("Size", values).reshaped(1))


def _best_pairs(g: Graph, level: Value, config: InferenceConfig) -> Value:
    """Of a level (n,C) the best pairs above the threshold, as location * C + class."""
    flat = level.reshaped(-1)
    above = _found(g, _above(g, flat, config))
    values = flat.taken(above)
    return above.taken(g.ops("TopK", 2, values, _at_most(g, config.pre_nms_topk, values))[1])


def _best_of_locations(g: Graph, level: Value, config: InferenceConfig) -> Value:
    """All pairs above the threshold at the locations whose best pair has the highest score."""
    best = g.op("ReduceMax", level, g.constant([1], np.int64), keepdims=0)
    chosen = g.ops("TopK", 2, best, _at_most(g, config.pre_nms_topk, best))[1]
    one, none = (
        g.op("ConstantOfShape", g.op("Shape", values), value=_byte(value)) for values, value in ((chosen, 1), (best, 0))
    )
    there = g.op("ScatterElements", none, chosen, one, axis=0).cast(np.bool_)
    return _found(g, (_above(g, level, config) & there.reshaped(-1, 1)).reshaped(-1))


def _byte(value: int) -> TensorProto:
    return numpy_helper.from_array(np.array([value], np.uint8))


def _ascending(g: Graph, indices: Value) -> Value:
    return g.ops("TopK", 2, indices, g.op("Size", indices).reshaped(1), largest=0)[0]


def _corners(g: Graph, boxes: Value) -> tuple[Value, ...]:
    """x1, y1, x2, y2, each (n,1)."""
    return g.ops("Split", 4, boxes, axis=1, num_outputs=4)


def _with_area(g: Graph, candidates: _Candidates) -> _Candidates:
    left, top, right, bottom = _corners(g, candidates.boxes)
    solid = _found(g, ((right > left) & (bottom > top)).reshaped(-1))
    return _chosen(candidates, solid)


def _chosen(candidates: _Candidates, places: Value) -> _Candidates:
    boxes, labels, scores = (value.taken(places) for value in (candidates.boxes, candidates.labels, candidates.scores))
    return _Candidates(boxes, labels, scores)


def _suppressed(g: Graph, candidates: _Candidates, classes: int, config: InferenceConfig) -> _Candidates:
    """Those that survive, best first; of equal scores the earlier candidate."""
    every = g.constant(np.arange(classes)[:, None], np.int64)
    of_class = g.op("Equal", candidates.labels.reshaped(1, -1), every)
    scores = g.op("Where", of_class, candidates.scores.reshaped(1, -1), g.constant(-1, np.float32))
    chosen = g.op(
        "NonMaxSuppression",
        candidates.boxes.reshaped(1, -1, 4),
        g.op("Unsqueeze", scores, g.constant([0], np.int64)),
        g.constant([config.max_detections], np.int64),
        g.constant([config.nms_iou], np.float32),
        g.constant([0], np.float32),
    )
    places = _ascending(g, chosen.taken(g.constant(2, np.int64), axis=1))
    values = candidates.scores.taken(places)
    best = places.taken(g.ops("TopK", 2, values, _at_most(g, config.max_detections, values))[1])
    found = _chosen(candidates, best)
    if config.score_voting is None:
        return found
    return _Candidates(_voted(g, found, candidates, config.score_voting), found.labels, found.scores)


def _voted(g: Graph, found: _Candidates, candidates: _Candidates, sigma: float) -> Value:
    """``tood.detection.score_voting``, (D,4)."""
    zero, one = (g.constant(value, np.float64) for value in (0, 1))
    own = _corners(g, found.boxes.cast(np.float64))
    voters = [value.reshaped(1, -1) for value in _corners(g, candidates.boxes.cast(np.float64))]
    sides = [
        g.op("Max", g.op("Min", own[end], voters[end]) - g.op("Max", own[start], voters[start]), zero)
        for start, end in ((0, 2), (1, 3))
    ]
    common = sides[0] * sides[1]
    union = _area(g, own) + _area(g, voters) - common
    iou = common / g.op("Max", union, g.constant(EPSILON, np.float64))
    same = g.op("Equal", found.labels.reshaped(-1, 1), candidates.labels.reshaped(1, -1))
    apart = one - iou
    likeness = g.op("Exp", apart * apart * g.constant(-1 / sigma, np.float64))
    weight = candidates.scores.cast(np.float64).reshaped(1, -1) * likeness
    weight = g.op("Where", (iou > g.constant(LEAST_IOU, np.float64)) & same, weight, zero)
    total = g.op("ReduceSum", weight, g.constant([1], np.int64), keepdims=1)
    mean = g.op("MatMul", weight, candidates.boxes.cast(np.float64))
    mean = mean / g.op("Max", total, g.constant(np.finfo(np.float64).tiny, np.float64))
    return g.op("Where", total > zero, mean, found.boxes.cast(np.float64)).cast(np.float32)


def _area(g: Graph, corners: Sequence[Value]) -> Value:
    width, height = (g.op("Max", corners[end] - corners[end - 2], g.constant(0, np.float64)) for end in (2, 3))
    return width * height
