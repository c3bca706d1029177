"""Post-processing of images together: the same detections as one by one, and no value read before the one copy."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tood.config.blocks import read_block
from tood.config.messages import validate
from tood.config.method import InferenceConfig, MethodConfig
from tood.detection import postprocess as module
from tood.detection.points import Points, make_points
from tood.detection.postprocess import Detections, detect_one_by_one, in_original_pixels, postprocess, read_slots
from tood.detection.predictions import Predictions
from tood.detection.slots import detection_slots

PARAMS = Path(__file__).parents[2] / "params"
METHODS = sorted(path.stem for path in (PARAMS / "methods").glob("*.yaml"))
SIZES = torch.tensor([[64, 80], [60, 75], [64, 50], [33, 80]])


def exact_logits() -> Tensor:
    """Few values, so that many scores are equal, whose scores are the same to the last bit in any place.

    A CPU may compute what is left over after whole vectors in another way.
    """
    logits = torch.arange(-24, 17) / 4
    for values in (Tensor.sigmoid, F.logsigmoid):
        logits = logits[same_anywhere(values, logits)]
    sums = (F.logsigmoid(logits)[:, None] + F.logsigmoid(logits)) / 2
    return logits[same_anywhere(Tensor.exp, sums.flatten()).reshape(sums.shape).all(dim=1)]


def same_anywhere(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    alone = torch.cat([function(one) for one in values.split(1)])
    return alone == function(values.repeat_interleave(16))[::16]


LOGITS = exact_logits()


def scene(seed: int, *, quality: bool = False, alignment: bool = False, empty: tuple[int, ...] = ()) -> Predictions:
    """Four images with 92 locations in three levels, boxes in whole pixels around few objects, many equal scores."""
    draw = torch.Generator().manual_seed(seed)
    points = make_points(((8, 10), (3, 3), (1, 3)), (8, 16, 32), torch.device("cpu"), torch.float32)

    def logits(*shape: int) -> Tensor:
        return LOGITS[torch.randint(len(LOGITS), shape, generator=draw)]

    classes = logits(4, 92, 3)
    for image in empty:
        classes[image] = -20
    centre = torch.randint(10, 60, (5, 2), generator=draw)[torch.randint(5, (4, 92), generator=draw)]
    centre = centre + torch.randint(-3, 4, (4, 92, 2), generator=draw)
    half = torch.randint(-1, 9, (4, 92, 2), generator=draw)
    return Predictions(
        points=points,
        class_logits=classes,
        boxes=torch.cat([centre - half, centre + half], dim=2).float(),
        alignment_logits=logits(4, 92) if alignment else None,
        quality=logits(4, 92) if quality else None,
    )


def assert_same(found: list[Detections], expected: list[Detections], *, voted: bool = False) -> None:
    """To the last bit; boxes that have been voted on are sums, whose order is not the same."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.scores, theirs.scores)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.labels.dtype == theirs.labels.dtype
        if voted:
            torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=1e-6, atol=1e-5)
        else:
            assert torch.equal(ours.boxes, theirs.boxes)


def compare(predictions: Predictions, config: InferenceConfig, **limits: int) -> list[Detections]:
    """Together against one by one, all certain; the detections."""
    slots = detection_slots(predictions, config, **limits)
    assert slots[:, -1, 1].tolist() == [1] * len(predictions.boxes)
    found = read_slots(predictions, slots, config)
    expected = detect_one_by_one(predictions, range(len(predictions.boxes)), config)
    assert_same(found, expected, voted=config.score_voting is not None)
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    quality=st.booleans(),
    alignment=st.booleans(),
    empty=st.sets(st.integers(0, 3)),
    threshold=st.sampled_from([0.0, 0.05, 0.5]),
    pre_nms_topk=st.sampled_from([1, 7, 50, 1000]),
    nms_iou=st.sampled_from([0.0, 0.5, 0.6, 1.0]),
    max_detections=st.sampled_from([1, 20, 100, 5000]),
    geometric=st.booleans(),
    voting=st.booleans(),
)
def test_the_same_detections_as_one_by_one(
    seed: int,
    quality: bool,
    alignment: bool,
    empty: set[int],
    threshold: float,
    pre_nms_topk: int,
    nms_iou: float,
    max_detections: int,
    geometric: bool,
    voting: bool,
) -> None:
    config = InferenceConfig(
        score_threshold=threshold,
        pre_nms_topk=pre_nms_topk,
        nms_iou=nms_iou,
        max_detections=max_detections,
        rank_by="geometric_mean" if geometric else "class",
        score_voting=0.025 if voting else None,
    )
    dense = scene(seed, quality=quality or geometric, alignment=alignment, empty=tuple(empty))
    found = compare(in_original_pixels(dense, SIZES, SIZES.flip(1) / 50, config), config)
    assert all(len(found[image].scores) == 0 for image in empty) or threshold == 0


def method_named(name: str) -> MethodConfig:
    method: MethodConfig = validate(MethodConfig, read_block(PARAMS, "methods", name, MethodConfig, name), name)
    return method


@pytest.mark.parametrize("name", METHODS)
def test_every_method(name: str) -> None:
    method = method_named(name)
    dense = scene(3, quality="quality" in method.head.outputs, alignment=method.head.aligned, empty=(1,))
    found = compare(in_original_pixels(dense, SIZES, None, method.inference), method.inference)
    assert [len(one.scores) > 10 for one in found] == [True, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("images", [1, 3])
def test_parts_and_memory_layout_change_nothing(images: int, dtype: torch.dtype) -> None:
    dense = scene(4, quality=True)
    columns = dense.class_logits.transpose(1, 2).contiguous().transpose(1, 2)
    dense = replace(
        dense,
        class_logits=columns.to(dtype),
        boxes=dense.boxes.to(dtype),
        quality=None if dense.quality is None else dense.quality.to(dtype),
    )
    config = InferenceConfig()
    slots = detection_slots(dense, config)
    assert slots.dtype == dtype
    assert torch.equal(detection_slots(dense, config, scores_together=images * 92 * 3), slots)
    contiguous = replace(dense, class_logits=dense.class_logits.contiguous())
    assert torch.equal(detection_slots(contiguous, config), slots)


def test_the_best_pairs_suffice_where_they_leave_enough() -> None:
    """Of some 200 pairs above the threshold the best 60 decide on 5 detections, but not on 100."""
    dense = scene(5)
    compare(dense, InferenceConfig(max_detections=5), suppressed_together=60)
    many = InferenceConfig(max_detections=100)
    slots = detection_slots(dense, many, suppressed_together=60)
    assert slots[:, -1, 1].tolist() == [0] * 4
    assert_same(read_slots(dense, slots, many), detect_one_by_one(dense, range(4), many))


def test_only_images_that_are_not_certain_are_processed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of 40 boxes, each of which decides on the next, is too long for the rounds that are made."""
    dense = scene(6, empty=(0, 2))
    left = torch.arange(92.0) * 4
    chain = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)
    dense.boxes[1], dense.class_logits[1] = chain, -20
    dense.class_logits[1, :40, 0] = torch.linspace(3, -1, 40)
    config = InferenceConfig(nms_iou=0.3, clip_boxes=False)
    slots = detection_slots(dense, config)
    assert slots[:, -1, 1].tolist() == [1, 0, 1, 1]
    asked = []

    def watched(predictions: Predictions, images: Sequence[int], config: InferenceConfig) -> list[Detections]:
        asked.append(images)
        return detect_one_by_one(predictions, images, config)

    monkeypatch.setattr(module, "detect_one_by_one", watched)
    found = read_slots(dense, slots, config)
    assert asked == [[1]]
    assert_same(found, detect_one_by_one(dense, range(4), config))
    assert found[1].boxes[:, 0].tolist() == left[:40:2].tolist()


@pytest.mark.parametrize("voting", [None, 0.025])
def test_more_pairs_at_the_best_locations_than_are_taken(voting: float | None) -> None:
    """Without a vote the best of them may be enough."""
    dense = scene(7, quality=True)
    config = InferenceConfig(rank_by="geometric_mean", max_detections=3, score_voting=voting)
    slots = detection_slots(dense, config, most_pairs=50)
    assert slots[:, -1, 1].tolist() == [float(voting is None)] * 4
    expected = detect_one_by_one(dense, range(4), config)
    assert_same(read_slots(dense, slots, config), expected, voted=voting is not None)
    many = config.model_copy(update={"max_detections": 100})
    slots = detection_slots(dense, many, most_pairs=50)
    assert slots[:, -1, 1].tolist() == [0] * 4
    assert_same(read_slots(dense, slots, many), detect_one_by_one(dense, range(4), many), voted=voting is not None)


def test_postprocess_does_so_where_images_are_processed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, config = scene(8, quality=True), InferenceConfig()
    one_by_one = postprocess(dense, SIZES, SIZES.flip(1) / 50, config)
    monkeypatch.setattr(module, "detects_together", lambda _: True)
    read = []

    def watched(predictions: Predictions, slots: Tensor, config: InferenceConfig) -> list[Detections]:
        read.append(slots.shape)
        return read_slots(predictions, slots, config)

    monkeypatch.setattr(module, "read_slots", watched)
    with torch.autocast("cpu", torch.bfloat16):
        together = postprocess(dense, SIZES, SIZES.flip(1) / 50, config)
    assert read == [(4, 101, 6)]
    assert_same(together, one_by_one)


def contentless(points: Points, method: MethodConfig) -> Predictions:
    count = len(points.strides)
    return Predictions(
        points=points,
        class_logits=torch.empty(2, count, 3),
        boxes=torch.empty(2, count, 4),
        alignment_logits=torch.empty(2, count) if method.head.aligned else None,
        quality=torch.empty(2, count) if "quality" in method.head.outputs else None,
    )


@pytest.mark.parametrize("name", METHODS)
def test_no_value_is_read(name: str) -> None:
    """On tensors without content, whatever would read a value raises, so nothing waits for a GPU or depends on data."""
    method = method_named(name)
    points = scene(0).points
    with FakeTensorMode():
        dense = contentless(points, method)
        dense = in_original_pixels(dense, torch.empty(2, 2), torch.empty(2, 2), method.inference)
        slots = detection_slots(dense, method.inference)
    assert slots.shape == (2, method.inference.max_detections + 1, 6)
