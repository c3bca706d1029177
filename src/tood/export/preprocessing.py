"""The first part of an exported detector: an image of any size becomes the network's input.

What ``tood.data.transforms`` and ``tood.data.loader`` compute, to the bit: torchvision resizes bytes in integers,
first along the rows and then along the columns, each time rounded to bytes, with weights of 16 bits (Pillow's method).
"""

from typing import NamedTuple

import numpy as np
from onnx import ModelProto, helper

from tood.data.network_input import PAD_MULTIPLE, NetworkInput
from tood.export.graph import Graph, Kind, Value
from tood.io.errors import UserError

IMAGE = "image"
"""The input: (height, width, 3) uint8 RGB."""
_MOST_BITS = 22  # of a weight's fraction
_TOO_LARGE = 1 << 15  # for a weight


def preprocessing(given: NetworkInput) -> ModelProto:
    """Image in; out ``pixels`` (1,3,H,W) as the network takes them, padded to multiples of 32, and for its boxes
    ``limits`` (4,) width, height, width, height px before padding, ``factors`` (4,) by which these were enlarged, and
    ``padded`` (2,) height and width.

    UserError for an input rule that no graph can follow.
    """
    images = given.images
    if images.resize != "exact":
        raise UserError("images.resize 'opencv': is not exported; import the weights again with --resize exact.")
    g = Graph("preprocessing")
    image = g.input(IMAGE)
    shape = g.op("Shape", image)
    sides = [shape.at(place).cast(np.float64) for place in (0, 1)]
    height, width = (_resized_side(g, side, sides, images.short, images.long) for side in sides)
    for axis, new in ((1, width), (0, height)):
        image = _resized(g, image, axis, sides[axis], new, antialias=images.antialias)
    mean, std = (g.constant(values, np.float32) for values in (given.pixels.mean, given.pixels.std))
    planes = g.op("Transpose", (image.cast(np.float32) - mean) / std, perm=[2, 0, 1])
    size = [g.op("Unsqueeze", side.cast(np.int64), g.constant([0], np.int64)) for side in (height, width)]
    padded = [_next_multiple(g, side) for side in size]
    missing = [whole - side for whole, side in zip(padded, size, strict=True)]
    none = g.constant([0, 0, 0, 0], np.int64)
    ends = g.op("Concat", none, *missing, axis=0)
    filled = g.op("Pad", planes, ends, mode="constant")
    g.output(g.op("Unsqueeze", filled, g.constant([0], np.int64)), "pixels")
    limits = g.op("Concat", *size[::-1], *size[::-1], axis=0).cast(np.float64)
    whole = shape.taken(g.constant([1, 0, 1, 0], np.int64)).cast(np.float64)
    g.output(limits.cast(np.float32), "limits")
    g.output((limits / whole).cast(np.float32), "factors")
    g.output(g.op("Concat", *padded, axis=0), "padded")
    return g.model(
        {IMAGE: Kind(np.uint8, ("height", "width", 3))},
        {
            "pixels": Kind(np.float32, (1, 3, "padded_height", "padded_width")),
            "limits": Kind(np.float32, (4,)),
            "factors": Kind(np.float32, (4,)),
            "padded": Kind(np.int64, (2,)),
        },
    )


def _next_multiple(g: Graph, side: Value) -> Value:
    multiple = g.constant(PAD_MULTIPLE, np.int64)
    return (side + g.constant(PAD_MULTIPLE - 1, np.int64)) / multiple * multiple


def _resized_side(g: Graph, side: Value, sides: list[Value], short: int, long: int) -> Value:
    """``tood.data.input_sizes.resized_size`` of one side."""
    longer, shorter = g.op("Max", *sides), g.op("Min", *sides)
    factor = g.op("Min", _real(g, long) / longer, _real(g, short) / shorter)
    return g.op("Max", _real(g, 1), g.op("Floor", side * factor + _real(g, 0.5)))


def _real(g: Graph, value: float) -> Value:
    return g.constant(value, np.float64)


def _resized(g: Graph, image: Value, axis: int, old: Value, new: Value, *, antialias: bool) -> Value:
    """Bytes (h,w,3) with ``new`` instead of ``old`` rows (axis 0) or columns (1)."""
    centre = (_numbers(g, new) + _real(g, 0.5)) * (old / new)
    if antialias:
        return _weigh_many(g, image, axis, _triangle(g, centre, old, new), old)
    source = g.op("Max", centre - _real(g, 0.5), _real(g, 0))
    last = old - _real(g, 1)
    first = g.op("Min", g.op("Floor", source), last)
    share = g.op("Where", first < last, source - first, _real(g, 0))
    second = g.op("Min", first + _real(g, 1), last)
    weights = [_real(g, 1) - share, share]
    largest = g.op("Max", *(g.op("ReduceMax", one, keepdims=0) for one in weights))
    return _weigh_two(g, image, axis, [first, second], weights, _unit(g, largest))


def _numbers(g: Graph, count: Value) -> Value:
    """0, 1, .. count - 1 in float64."""
    return g.op("Range", _real(g, 0), count, _real(g, 1))


def _unit(g: Graph, largest: Value) -> Value:
    """What a weight of 1 becomes: the power of two by which the ``largest`` still fits into 16 bits."""
    doubled = g.constant(2.0 ** np.arange(1, _MOST_BITS + 1), np.float64)
    fits = g.op("Floor", largest * doubled + _real(g, 0.5)) < _real(g, _TOO_LARGE)
    bits = g.op("ReduceSum", fits.cast(np.int64), keepdims=0)
    return g.constant(2.0 ** np.arange(_MOST_BITS + 1), np.float64).taken(bits)


def _rounded(g: Graph, weights: Value, unit: Value) -> Value:
    return g.op("Floor", weights * unit + _real(g, 0.5))


def _aligned(g: Graph, values: Value, axis: int) -> Value:
    """A vector along an axis of (h,w,3)."""
    return values.reshaped(-1, 1, 1) if axis == 0 else values.reshaped(-1, 1)


def _weigh_two(g: Graph, image: Value, axis: int, places: list[Value], weights: list[Value], unit: Value) -> Value:
    """In float32, in which sums below 2^24 are exact: of two weights the larger is at least a half."""
    terms = [
        image.taken(place.cast(np.int64), axis).cast(np.float32)
        * _aligned(g, _rounded(g, weight, unit).cast(np.float32), axis)
        for place, weight in zip(places, weights, strict=True)
    ]
    half = g.constant(0.5, np.float32)
    level = (terms[0] + terms[1]) * (_real(g, 1) / unit).cast(np.float32) + half
    return g.op("Floor", level).cast(np.uint8)


class _Taps(NamedTuple):
    """Up to T pixels that a resized pixel is made of."""

    first: Value
    """(n,) int64"""
    weights: Value
    """(T,n) float64, 0 for those that there are not."""
    number: Value
    """T, int64."""


def _triangle(g: Graph, centre: Value, old: Value, new: Value) -> _Taps:
    one, half = _real(g, 1), _real(g, 0.5)
    reach = g.op("Max", old / new, one)
    first = g.op("Floor", g.op("Max", centre - reach + half, _real(g, 0)))
    end = g.op("Min", g.op("Floor", centre + reach + half), old)
    count = g.op("Ceil", reach) * _real(g, 2) + one
    place = _numbers(g, count).reshaped(-1, 1) + first
    height = one - g.op("Abs", (place - centre + half) * (one / reach))
    weights = g.op("Where", place < end, g.op("Max", height, _real(g, 0)), _real(g, 0))
    total = g.op("ReduceSum", weights, g.constant([0], np.int64), keepdims=1)
    return _Taps(first.cast(np.int64), weights / total, count.cast(np.int64))


def _weigh_many(g: Graph, image: Value, axis: int, taps: _Taps, old: Value) -> Value:
    """One pixel of all after another, so that memory does not grow with their number; in 32 bits, which is exact."""
    unit = _unit(g, g.op("ReduceMax", taps.weights, keepdims=0))
    weights = _rounded(g, taps.weights, unit).cast(np.int32)
    last = (old - _real(g, 1)).cast(np.int64)
    half = (unit / _real(g, 2)).cast(np.int32)
    start = image.taken(taps.first, axis).cast(np.int32) * g.constant(0, np.int32) + half
    total = _loop(g, f"axis_{axis}", image, axis, taps, weights, last, start)
    return (total / unit.cast(np.int32)).cast(np.uint8)


def _loop(
    g: Graph, name: str, image: Value, axis: int, taps: _Taps, weights: Value, last: Value, start: Value
) -> Value:
    body = Graph(f"{g.name}/{name}", inside=g)
    number, going, total = (body.input(f"{body.name}/{one}") for one in ("number", "going", "total"))
    place = body.op("Min", Value(body, taps.first.name) + number, last)
    weight = _aligned(body, Value(body, weights.name).taken(number), axis)
    pixels = Value(body, image.name).taken(place, axis).cast(np.int32)
    body.output(total + pixels * weight, f"{body.name}/sum")
    body.output(going, f"{body.name}/still")
    flag, wide = Kind(np.bool_, ()), Kind(np.int32, ("rows", "columns", 3))
    given = [Kind(np.int64, ()).info(number.name), flag.info(going.name), wide.info(total.name)]
    made = [flag.info(f"{body.name}/still"), wide.info(f"{body.name}/sum")]
    graph = helper.make_graph(body.nodes, body.name, given, made)
    return g.op("Loop", taps.number, g.constant(True, np.bool_), start, body=graph)
