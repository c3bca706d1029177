"""Assignment by overlap and by centre: worked examples, plain loops, and what must never happen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.center_sampling import CenterSamplingAssigner
from tood.detection.assigners.max_iou import MaxIouAssigner
from tood.detection.points import SQUARE, STRIDES, AnchorShapes, Points, make_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

Box = tuple[float, float, float, float]
Assign = Callable[..., Assignment]
Scene = tuple[Points, Targets, Tensor]

NINE = AnchorShapes(4.0, 3, (0.5, 1.0, 2.0))
RULES: dict[str, Assign] = {
    "max_iou": MaxIouAssigner(positive=0.5, negative=0.4).assign_points,
    "center_sampling": CenterSamplingAssigner(radius=1.5).assign_points,
}
every_rule = pytest.mark.parametrize("rule", RULES)


def grid(sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, shapes: AnchorShapes = SQUARE) -> Points:
    return make_points(tuple(sizes), tuple(strides[: len(sizes)]), torch.device("cpu"), torch.float64, shapes)


def objects(*images: Sequence[Box]) -> Targets:
    """Objects of each image; shorter lists are filled up with empty slots."""
    slots = max(len(boxes) for boxes in images)
    filled = [[*boxes, *[(0.0, 0.0, 0.0, 0.0)] * (slots - len(boxes))] for boxes in images]
    boxes = torch.tensor(filled, dtype=torch.float64).reshape(len(images), slots, 4)
    valid = torch.tensor([[slot < len(boxes) for slot in range(slots)] for boxes in images]).reshape(boxes.shape[:2])
    return Targets(boxes, torch.zeros(boxes.shape[:2], dtype=torch.int64), valid)


def everywhere(points: Points, images: int = 1) -> Tensor:
    return torch.ones(images, len(points.centres), dtype=torch.bool)


def assert_same(ours: Assignment, expected: Assignment) -> None:
    for name in ("gt_index", "iou", "metric", "target", "ignored"):
        first, second = getattr(ours, name), getattr(expected, name)
        assert (first is None) == (second is None)
        assert first is None or torch.equal(first, second), name


# Anchors of 8 x 8 px side by side: x from -4 to 4, 4 to 12, 12 to 20, 20 to 28.
ROW = grid([(1, 4)], shapes=AnchorShapes(scale=1.0))


def overlap(*boxes: Box, positive: float = 0.5, negative: float = 0.4) -> Assignment:
    assigner = MaxIouAssigner(positive=positive, negative=negative)
    return assigner.assign_points(ROW, objects(boxes), everywhere(ROW))


def test_an_anchor_goes_to_the_object_it_overlaps_most() -> None:
    found = overlap((4, -4, 12, 4), (4, -4, 20, 4), (20, -4, 28, 4))
    # The second object has half of anchors 1 and 2 and claims both; it comes later than the first.
    assert found.gt_index.tolist() == [[-1, 1, 1, 2]]
    torch.testing.assert_close(found.iou, torch.tensor([[0, 0.5, 0.5, 1]], dtype=torch.float64))
    assert torch.equal(found.metric, found.iou)
    assert found.target.tolist() == [[0, 1, 1, 1]]
    assert found.ignored is not None
    assert not found.ignored.any()


def test_the_threshold_itself_is_positive_and_the_zone_below_it_does_not_count() -> None:
    found = overlap((8, -4, 24, 4), positive=0.5, negative=0.2)  # overlaps 0, 0.2, 0.5, 0.2
    assert found.gt_index.tolist() == [[-1, -1, 0, -1]]
    assert found.ignored is not None
    assert found.ignored.tolist() == [[False, True, False, True]]
    assert found.counted(everywhere(ROW)).tolist() == [[True, False, True, False]]
    strict = overlap((8, -4, 24, 4), positive=0.5, negative=0.3)
    assert strict.ignored is not None
    assert not strict.ignored.any()


def test_an_object_below_the_threshold_claims_all_anchors_that_overlap_it_most() -> None:
    found = overlap((16, -4, 24, 4), negative=0.1)  # a third of anchors 2 and 3
    assert found.gt_index.tolist() == [[-1, -1, 0, 0]]
    assert found.ignored is not None
    assert not found.ignored.any()


def test_of_two_claims_the_later_object_wins_even_with_less_overlap() -> None:
    exact, sliver = (4.0, -4.0, 12.0, 4.0), (6.0, -4.0, 8.0, 4.0)
    assert overlap(exact, sliver).gt_index.tolist() == [[-1, 1, -1, -1]]
    assert overlap(sliver, exact).gt_index.tolist() == [[-1, 1, -1, -1]]
    assert overlap(exact, sliver).iou[0, 1] == 0.25
    assert overlap(sliver, exact).iou[0, 1] == 1


@pytest.mark.parametrize("elements", [1, 1 << 24])
def test_without_claims_equal_overlaps_go_to_the_lower_object(elements: int) -> None:
    """Each object claims an anchor of its own; both share anchor 1 at a quarter, which is the threshold."""
    left, right = (-4.0, -4.0, 8.0, 4.0), (8.0, -4.0, 20.0, 4.0)
    for boxes, expected in (([left, right], [0, 0, 1, -1]), ([right, left], [1, 0, 0, -1])):
        found = MaxIouAssigner(positive=0.25, negative=0.2).assign_points(
            ROW, objects(boxes), everywhere(ROW), dense_elements=elements
        )
        assert found.gt_index.tolist() == [expected]
        assert found.ignored is not None
        assert not found.ignored.any()


@pytest.mark.parametrize("elements", [1, 1 << 24])
def test_the_threshold_finds_objects_of_any_piece(elements: int) -> None:
    """The second object's anchor 3 reaches the threshold, though its claim is anchor 2."""
    found = MaxIouAssigner(positive=0.3, negative=0.2).assign_points(
        ROW, objects([(4, -4, 12, 4), (12, -4, 26, 4)]), everywhere(ROW), dense_elements=elements
    )
    assert found.gt_index.tolist() == [[-1, 0, 1, 1]]


def test_objects_that_overlap_no_anchor_claim_nothing() -> None:
    found = overlap((100, 100, 120, 120), (6, 0, 6, 0), (4, -4, 12, 4))
    assert found.gt_index.tolist() == [[-1, 2, -1, -1]]
    masked = everywhere(ROW)
    masked[0, 1] = False
    nobody = MaxIouAssigner(positive=0.5, negative=0.4).assign_points(ROW, objects([(4, -4, 12, 4)]), masked)
    assert not nobody.positive.any()


# One row of 8 px cells: centres at x = 0, 8, .., 56, y = 0.
CELLS = grid([(1, 8)])


def sample(points: Points, *boxes: Box, radius: float = 1.5) -> list[int]:
    found = CenterSamplingAssigner(radius=radius).assign_points(points, objects(boxes), everywhere(points))
    assert found.ignored is None
    owner: list[int] = found.gt_index[0].tolist()
    return owner


def test_locations_within_the_radius_of_the_centre_are_taken() -> None:
    wide = (-10.0, -30.0, 66.0, 30.0)  # its centre lies at x = 28
    assert sample(CELLS, wide) == [-1, -1, -1, 0, 0, -1, -1, -1]  # 16 and 40 lie on the border, not inside
    assert sample(CELLS, wide, radius=2.5) == [-1, -1, 0, 0, 0, 0, -1, -1]


def test_the_radius_ends_where_the_object_ends() -> None:
    assert sample(CELLS, (23, -30, 33, 30), radius=5.0) == [-1, -1, -1, 0, 0, -1, -1, -1]
    assert sample(CELLS, (24, -30, 32, 30), radius=5.0) == [-1] * 8
    assert sample(CELLS, (-10, 1, 66, 30), radius=5.0) == [-1] * 8


def test_a_location_wanted_by_several_goes_to_the_smallest_then_to_the_lower_index() -> None:
    large, small = (4.0, -30.0, 60.0, 30.0), (22.0, -8.0, 42.0, 8.0)  # both have their centre at x = 32
    assert sample(CELLS, large, small) == [-1, -1, -1, 1, 1, 1, -1, -1]
    assert sample(CELLS, small, large) == [-1, -1, -1, 0, 0, 0, -1, -1]
    assert sample(CELLS, large, large) == [-1, -1, -1, 0, 0, 0, -1, -1]
    turned = (22.0, -4.0, 42.0, 12.0)  # as large as the small one
    assert sample(CELLS, turned, small) == sample(CELLS, small, turned) == [-1, -1, -1, 0, 0, 0, -1, -1]


@pytest.mark.parametrize(
    ("reach", "levels"),
    [
        (10, {8}),
        (63, {8}),
        (64, {8, 16}),  # the borders of a range belong to both levels
        (65, {16}),
        (128, {16, 32}),
        (200, {32}),
        (256, {32, 64}),
        (511, {64}),
        (513, {128}),
        (5000, {128}),
    ],
)
def test_the_farthest_side_chooses_the_level(reach: int, levels: set[int]) -> None:
    """An object around the location (128, 128), which is a cell of every level; its own sides are ``reach`` away."""
    points = grid([(-(-264 // stride), -(-264 // stride)) for stride in STRIDES])
    box = objects([(128 - reach, 128 - reach, 128 + reach, 128 + reach)])
    found = CenterSamplingAssigner(radius=0.1).assign_points(points, box, everywhere(points))
    taken = points.centres[found.positive[0]]
    assert (taken == 128).all()
    assert set(points.strides[found.positive[0]].int().tolist()) == levels


def loop_max_iou(scene: Scene, positive: float, negative: float) -> tuple[Tensor, Tensor]:
    """Section 4 of the RetinaNet paper, anchor by anchor: object and whether the anchor is ignored."""
    points, targets, valid = scene
    owner, ignored = torch.full(valid.shape, -1), torch.zeros(valid.shape, dtype=torch.bool)
    anchors = points.anchors.tolist()
    for image in range(len(valid)):
        present = [(i, targets.boxes[image, i].tolist()) for i in targets.valid[image].nonzero()[:, 0].tolist()]
        members = valid[image].nonzero()[:, 0].tolist()
        table = {(i, n): plain_iou(box, anchors[n]) for i, box in present for n in members}
        for n in members:
            best, chosen = 0.0, -1
            for i, _ in present:
                if table[i, n] > best:
                    best, chosen = table[i, n], i
            if best >= positive:
                owner[image, n] = chosen
            elif best >= negative:
                ignored[image, n] = True
        for i, _ in present:
            most = max((table[i, n] for n in members), default=0.0)
            for n in members:
                if most > 0 and table[i, n] == most:
                    owner[image, n], ignored[image, n] = i, False
    return owner, ignored


def plain_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def loop_center_sampling(scene: Scene, radius: float) -> Tensor:
    """FCOS with center sampling, location by location and object by object."""
    points, targets, valid = scene
    owner = torch.full(valid.shape, -1)
    strides = sorted(set(points.strides.tolist()))
    for image in range(len(valid)):
        for n in valid[image].nonzero()[:, 0].tolist():
            (x, y), stride = points.centres[n].tolist(), points.strides[n].item()
            shortest = 0.0 if stride == strides[0] else 4 * stride
            longest = float("inf") if stride == strides[-1] else 8 * stride
            least = float("inf")
            for i in targets.valid[image].nonzero()[:, 0].tolist():
                x1, y1, x2, y2 = targets.boxes[image, i].tolist()
                inside = x1 < x < x2 and y1 < y < y2
                near = abs(x - (x1 + x2) / 2) < radius * stride and abs(y - (y1 + y2) / 2) < radius * stride
                fits = shortest <= max(x - x1, y - y1, x2 - x, y2 - y) <= longest
                if inside and near and fits and (x2 - x1) * (y2 - y1) < least:
                    least, owner[image, n] = (x2 - x1) * (y2 - y1), i
    return owner


corner, extent = st.integers(-16, 90), st.integers(0, 120)
box = st.tuples(corner, corner, extent, extent).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@st.composite
def scenes(draw: st.DrawFn, shapes: Sequence[AnchorShapes] = (SQUARE,)) -> Scene:
    """Two images with whole numbers for coordinates, so that ties are common; some slots and locations are out."""
    points = grid([(5, 6), (3, 3), (2, 2)], shapes=draw(st.sampled_from(shapes)))
    slots = draw(st.integers(0, 4))
    boxes = draw(st.lists(box, min_size=2 * slots, max_size=2 * slots))
    filled = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=2 * slots, max_size=2 * slots))
    targets = Targets(
        torch.tensor(boxes, dtype=torch.float64).reshape(2, slots, 4),
        torch.zeros(2, slots, dtype=torch.int64),
        torch.tensor(filled, dtype=torch.bool).reshape(2, slots),
    )
    limit = torch.tensor([[draw(st.sampled_from([8, 25, 64])), draw(st.sampled_from([8, 25, 64]))] for _ in range(2)])
    return points, targets, (points.centres[None] < limit[:, None]).all(dim=-1)


@settings(max_examples=40, deadline=None)
@given(
    scenes((SQUARE, AnchorShapes(1.0), AnchorShapes(2.0, 2, (0.25, 1.0)))), st.sampled_from([(0.5, 0.4), (0.3, 0.1)])
)
def test_max_iou_equals_plain_loops(scene: Scene, thresholds: tuple[float, float]) -> None:
    positive, negative = thresholds
    found = MaxIouAssigner(positive=positive, negative=negative).assign_points(*scene)
    owner, ignored = loop_max_iou(scene, positive, negative)
    assert torch.equal(found.gt_index, owner)
    assert found.ignored is not None
    assert torch.equal(found.ignored, ignored)


@settings(max_examples=40, deadline=None)
@given(scenes(), st.sampled_from([0.5, 1.0, 1.5, 4.0]))
def test_center_sampling_equals_plain_loops(scene: Scene, radius: float) -> None:
    found = CenterSamplingAssigner(radius=radius).assign_points(*scene)
    assert torch.equal(found.gt_index, loop_center_sampling(scene, radius))


@every_rule
@settings(max_examples=25, deadline=None)
@given(scenes((SQUARE, AnchorShapes(1.0))), st.integers(1, 400))
def test_the_size_of_the_pieces_changes_nothing(rule: str, scene: Scene, elements: int) -> None:
    assert_same(RULES[rule](*scene, dense_elements=elements), RULES[rule](*scene))


@every_rule
@settings(max_examples=25, deadline=None)
@given(scenes(), box)
def test_empty_slots_never_win(rule: str, scene: Scene, ghost: Box) -> None:
    points, targets, valid = scene
    extra = torch.tensor(ghost, dtype=torch.float64).expand(2, 1, 4)
    padded = Targets(
        torch.cat([targets.boxes, extra, extra], dim=1),
        torch.cat([targets.labels, targets.labels.new_zeros(2, 2)], dim=1),
        torch.cat([targets.valid, torch.zeros(2, 2, dtype=torch.bool)], dim=1),
    )
    found = RULES[rule](points, padded, valid)
    assert_same(found, RULES[rule](points, targets, valid))
    owners = padded.valid.gather(1, found.gt_index.clamp(min=0))
    assert owners[found.positive].all()


@every_rule
@pytest.mark.parametrize("slots", [0, 3])
def test_images_without_objects_are_background(rule: str, slots: int) -> None:
    points = grid([(8, 8), (4, 4)])
    occupied = objects([(8, 8, 56, 56)] * max(1, slots), [(8, 8, 56, 56)] * max(1, slots))
    nothing = replace(occupied, valid=torch.zeros_like(occupied.valid))
    if slots == 0:
        nothing = Targets(occupied.boxes[:, :0], occupied.labels[:, :0], nothing.valid[:, :0])
    found = RULES[rule](points, nothing, everywhere(points, 2))
    assert (found.gt_index == -1).all()
    assert not found.iou.any()
    assert not found.target.any()
    assert found.counted(everywhere(points, 2)).all()


@every_rule
def test_one_image_does_not_see_the_other(rule: str) -> None:
    points = grid([(8, 8), (4, 4)])
    both = objects([(8, 8, 56, 40), (30, 2, 50, 60)], [(0, 0, 40, 30)])
    whole = RULES[rule](points, both, everywhere(points, 2))
    for image in range(2):
        one = slice(image, image + 1)
        alone = RULES[rule](points, Targets(both.boxes[one], both.labels[one], both.valid[one]), everywhere(points))
        assert torch.equal(alone.gt_index, whole.gt_index[one])
        assert torch.equal(alone.iou, whole.iou[one])
    assert whole.positive.any(dim=1).all()


def test_overlaps_of_nine_anchors_are_those_of_each_anchor() -> None:
    points = grid([(8, 8), (4, 4)], shapes=NINE)
    target = points.anchors[9 * 27 + 5]
    assigner = MaxIouAssigner(positive=0.5, negative=0.4)
    found = assigner.assign_points(points, objects([tuple(target.tolist())]), everywhere(points))
    assert found.iou[0, 9 * 27 + 5] == 1
    expected = torch.tensor([plain_iou(target.tolist(), anchor) for anchor in points.anchors.tolist()]).double()
    torch.testing.assert_close(found.iou[0], expected * found.positive[0])
    assert torch.equal(found.positive[0], expected >= 0.5)


@pytest.mark.parametrize(
    "rule",
    [AtssAssigner(topk=4), MaxIouAssigner(positive=0.6, negative=0.3), CenterSamplingAssigner(radius=1.25)],
)
def test_configuration_chooses_the_assigner_and_its_parameters(
    rule: AtssAssigner | MaxIouAssigner | CenterSamplingAssigner,
) -> None:
    points = grid([(16, 16), (8, 8), (4, 4)])
    targets = objects([(8, 8, 56, 40), (30, 2, 50, 90)], [(0, 0, 128, 100), (50, 50, 90, 90)])
    nothing = torch.zeros(2, len(points.centres), 4)
    predictions = Predictions(points=points, class_logits=nothing, boxes=nothing)
    batch = TrainingBatch(predictions, targets, everywhere(points, 2), Progress(epoch=0, step=0, total_steps=1))
    found = rule.assign(batch)
    assert_same(found, rule.assign_points(points, targets, everywhere(points, 2)))
    others = [
        AtssAssigner(),
        MaxIouAssigner(),
        CenterSamplingAssigner(),
    ]
    for other in others:
        different = other.assign(batch)
        assert not torch.equal(found.positive, different.positive), other
