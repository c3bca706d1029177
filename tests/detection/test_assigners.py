"""Both assigners against plain loops over images and objects, and their invariances."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.assigners.assignment import Assignment, settle_conflicts
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.task_aligned import (
    Conflict,
    TaskAlignedAssigner,
    alignment_metric,
    normalise_metric,
)
from tood.detection.boxes import box_area, inner_margin, pairwise_iou
from tood.detection.points import STRIDES, Points, make_points, valid_points
from tood.detection.targets import Targets

MakeScene = Callable[..., Any]


def atss(scene: Any) -> Assignment:
    return AtssAssigner(topk=9).assign_points(scene.points, scene.targets, scene.valid)


def tal(scene: Any, conflict: Conflict = "min_area", alpha: float = 1.0, beta: float = 6.0, **bound: int) -> Assignment:
    assigner = TaskAlignedAssigner(topk=13, alpha=alpha, beta=beta, conflict=conflict)
    return assigner.assign_predictions(scene.scores, scene.boxes, scene.points, scene.targets, scene.valid, **bound)


RULES: dict[str, Callable[[Any], Assignment]] = {
    "atss": atss,
    "min_area": lambda scene: tal(scene, "min_area"),
    "max_iou": lambda scene: tal(scene, "max_iou"),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def loop_atss(scene: Any, topk: int = 9) -> Tensor:
    """Algorithm 1 of the ATSS paper, image by image and object by object."""
    result = torch.full(scene.valid.shape, -1)
    for image in range(len(result)):
        best = torch.full((len(scene.points.centres),), -1.0, dtype=torch.float64)
        for gt in range(scene.targets.valid.shape[1]):
            if not scene.targets.valid[image, gt]:
                continue
            box = scene.targets.boxes[image, gt]
            candidates: list[int] = []
            for level in range(5):
                members = ((scene.points.strides == STRIDES[level]) & scene.valid[image]).nonzero()[:, 0]
                distance = (scene.points.centres[members] - (box[:2] + box[2:]) / 2).norm(dim=1)
                candidates += members[distance.argsort()[:topk]].tolist()
            iou = pairwise_iou(scene.points.anchors[candidates], box[None])[:, 0]
            threshold = iou.mean() + iou.std()
            for location, overlap in zip(candidates, iou, strict=True):
                inside = inner_margin(scene.points.centres[location], box) > 0.01
                if overlap >= threshold and inside and overlap > best[location]:
                    best[location] = overlap
                    result[image, location] = gt
    return result


def loop_tal(scene: Any, conflict: str, topk: int = 13) -> tuple[Tensor, Tensor]:
    """Section 3.2 of the TOOD paper, image by image and object by object."""
    result = torch.full(scene.valid.shape, -1)
    target = torch.zeros(scene.valid.shape, dtype=torch.float64)
    for image in range(len(result)):
        wanted: dict[int, list[int]] = {}
        members = scene.valid[image].nonzero()[:, 0]
        iou = pairwise_iou(scene.boxes[image], scene.targets.boxes[image])
        score = scene.scores[image][:, scene.targets.labels[image]]
        metric = score * iou**6
        for gt in scene.targets.valid[image].nonzero()[:, 0].tolist():
            order = metric[members, gt].argsort(descending=True)[:topk]
            for location in members[order].tolist():
                inside = inner_margin(scene.points.centres[location], scene.targets.boxes[image, gt]) > 0.01
                if metric[location, gt] > 0 and inside:
                    wanted.setdefault(location, []).append(gt)
        area = box_area(scene.targets.boxes[image])
        for location, gts in wanted.items():
            cost = (area if conflict == "min_area" else -iou[location]).tolist()
            result[image, location] = min(gts, key=cost.__getitem__)
        for gt in range(scene.targets.valid.shape[1]):
            mine = (result[image] == gt).nonzero()[:, 0]
            if len(mine):
                t = metric[mine, gt]
                target[image, mine] = t / (t.max() + 1e-7) * iou[mine, gt].max()
    return result, target


def one_location(at: float) -> Points:
    """A single location at (``at``, ``at``) with stride 8."""
    centre = torch.tensor([[at, at]])
    anchor = torch.cat([centre - 32, centre + 32], dim=1)
    return Points(centres=centre, strides=torch.tensor([8.0]), anchors=anchor, level_sizes=((1, 1),))


@pytest.mark.parametrize("seed", range(8))
def test_atss_equals_the_loop(make_scene: MakeScene, seed: int) -> None:
    scene = make_scene(seed, objects=7)
    assignment = atss(scene)
    assert torch.equal(assignment.gt_index, loop_atss(scene))
    assert assignment.positive.any()


@pytest.mark.parametrize("conflict", ["min_area", "max_iou"])
@pytest.mark.parametrize("seed", range(8))
def test_task_aligned_equals_the_loop(make_scene: MakeScene, seed: int, conflict: Conflict) -> None:
    scene = make_scene(seed, objects=7)
    assignment = tal(scene, conflict)
    expected, target = loop_tal(scene, conflict)
    assert torch.equal(assignment.gt_index, expected)
    torch.testing.assert_close(assignment.target, target)
    assert assignment.positive.any()


@every_rule
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), objects=st.integers(1, 8))
def test_order_of_objects_does_not_matter(make_scene: MakeScene, rule: str, seed: int, objects: int) -> None:
    scene = make_scene(seed, objects=objects)
    order = torch.randperm(objects, generator=torch.Generator().manual_seed(seed))
    t = scene.targets
    shuffled = Targets(t.boxes[:, order], t.labels[:, order], t.valid[:, order])
    first = RULES[rule](scene)
    second = RULES[rule](scene.with_targets(shuffled))
    renamed = torch.where(second.gt_index >= 0, order[second.gt_index.clamp(min=0)], -1)
    assert torch.equal(first.gt_index, renamed)
    torch.testing.assert_close(first.target, second.target)


@every_rule
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_positives_are_valid_inside_and_of_filled_slots(make_scene: MakeScene, rule: str, seed: int) -> None:
    scene = make_scene(seed)
    assignment = RULES[rule](scene)
    boxes, _ = scene.targets.take(assignment.gt_index)
    positive = assignment.positive
    assert not (positive & ~scene.valid).any()
    assert (inner_margin(scene.points.centres, boxes)[positive] > 0.01).all()
    filled = scene.targets.valid.gather(1, assignment.gt_index.clamp(min=0))
    assert filled[positive].all()
    for values in (assignment.iou, assignment.metric, assignment.target):
        assert (values[~positive] == 0).all()
        assert ((values >= 0) & (values <= 1 + 1e-9)).all()


@every_rule
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), extra=st.integers(1, 4))
def test_empty_slots_change_nothing(make_scene: MakeScene, rule: str, seed: int, extra: int) -> None:
    scene = make_scene(seed)
    t = scene.targets
    rubbish = torch.rand(2, extra, 4, dtype=torch.float64) * 50
    padded = Targets(
        torch.cat([t.boxes, rubbish], dim=1),
        torch.cat([t.labels, torch.zeros(2, extra, dtype=torch.int64)], dim=1),
        torch.cat([t.valid, torch.zeros(2, extra, dtype=torch.bool)], dim=1),
    )
    first = RULES[rule](scene)
    second = RULES[rule](scene.with_targets(padded))
    assert torch.equal(first.gt_index, second.gt_index)
    assert torch.equal(first.target, second.target)


@every_rule
def test_images_of_a_batch_do_not_see_each_other(make_scene: MakeScene, rule: str) -> None:
    scene = make_scene(3, images=3)
    together = RULES[rule](scene)
    for i in range(3):
        alone = RULES[rule](scene.image(i))
        assert torch.equal(alone.gt_index[0], together.gt_index[i])
        assert torch.equal(alone.target[0], together.target[i])


@pytest.mark.parametrize("elements", [1, 700, 2000])
@pytest.mark.parametrize("rates", [(1.0, 6.0), (0.5, 2.5)])
def test_memory_bound_changes_nothing(make_scene: MakeScene, elements: int, rates: tuple[float, float]) -> None:
    scene = make_scene(5, objects=9)
    alpha, beta = rates
    whole = tal(scene, alpha=alpha, beta=beta)
    chunked = tal(scene, alpha=alpha, beta=beta, dense_elements=elements)
    for one, other in zip(vars(whole).values(), vars(chunked).values(), strict=True):
        assert one is other is None or torch.equal(one, other)
    assert whole.positive.any()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), topk=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_nearest_cells_are_those_of_all_cells(data: st.DataObject, topk: int, seed: int) -> None:
    """Rows and columns first, cells then, against all cells of a level: also in corners, outside, on thin maps."""
    side = st.integers(1, 160)
    sizes = torch.tensor(data.draw(st.lists(st.tuples(side, side), min_size=1, max_size=3)))
    height, width = (-(-sizes.amax(dim=0) // 32) * 32).tolist()
    level_sizes = tuple((-(-height // stride), -(-width // stride)) for stride in STRIDES)
    points = make_points(level_sizes, STRIDES, torch.device("cpu"), torch.float64)
    valid = valid_points(points, sizes)
    draw = torch.Generator().manual_seed(seed)
    extent = torch.tensor([width, height])
    centres = (torch.rand(len(sizes), 6, 2, generator=draw, dtype=torch.float64) * 1.4 - 0.2) * extent
    centres[:, 0], centres[:, 1], centres[:, 2] = 0, extent, torch.tensor([-9.0, height + 9.0])
    boxes = torch.cat([centres - 8, centres + 8], dim=2)
    targets = Targets(boxes, torch.zeros(len(sizes), 6, dtype=torch.int64), torch.ones(len(sizes), 6) > 0)
    found = AtssAssigner(topk=topk).candidates(points, targets, valid)
    distance = (centres[:, :, None] - points.centres).square().sum(dim=-1).masked_fill(~valid[:, None], torch.inf)
    best = [level.sort(dim=2).values[..., :topk] for level in points.split(distance, dim=2)]
    assert torch.equal(distance.gather(2, found.locations), torch.cat(best, dim=2))
    assert torch.equal(found.nearest, torch.cat(best, dim=2) < torch.inf)
    assert all(len(set(row.tolist())) == len(row) for row in found.locations.flatten(0, 1))


@pytest.mark.parametrize("exponent", [0.5, 1, 2, 3.0, 4, 5, 6.0, 7, 8, 9])
def test_metric_is_the_product_of_powers(exponent: float) -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(alignment_metric(values, values, exponent, 1), values.pow(exponent) * values)
    torch.testing.assert_close(alignment_metric(values, values, 1, exponent), values * values.pow(exponent))


@every_rule
@pytest.mark.parametrize("slots", [0, 3])
def test_no_objects_means_all_background(make_scene: MakeScene, rule: str, slots: int) -> None:
    scene = make_scene(1)
    nothing = Targets(
        torch.zeros(2, slots, 4, dtype=torch.float64),
        torch.zeros(2, slots, dtype=torch.int64),
        torch.zeros(2, slots, dtype=torch.bool),
    )
    assignment = RULES[rule](scene.with_targets(nothing))
    assert not assignment.positive.any()
    assert not assignment.target.any()


@every_rule
def test_fewer_locations_than_wanted(make_scene: MakeScene, rule: str) -> None:
    scene = make_scene(2, size=(16, 16), objects=2)
    assert len(scene.points.centres) < 13
    assert RULES[rule](scene).gt_index.shape == scene.valid.shape


def test_a_single_candidate_has_no_deviation_and_no_positive() -> None:
    points = one_location(8.0)
    targets = Targets(torch.tensor([[[0.0, 0, 16, 16]]]), torch.tensor([[0]]), torch.tensor([[True]]))
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert not AtssAssigner(topk=9).assign_points(points, targets, valid).positive.any()


def test_atss_takes_45_candidates_from_a_full_size_image(make_scene: MakeScene) -> None:
    scene = make_scene(size=(800, 1344), images=1, objects=1)
    found = AtssAssigner(topk=9).candidates(scene.points, scene.targets, scene.valid)
    assert found.nearest.sum() == 45


def test_target_example_of_the_specification() -> None:
    metric = torch.tensor([[0.2, 0.1, 0.05, 0.0]])
    iou = torch.tensor([[0.8, 0.9, 0.6, 0.0]])
    target = normalise_metric(metric, iou, torch.tensor([[0, 0, 0, -1]]), num_objects=1)
    torch.testing.assert_close(target, torch.tensor([[0.9, 0.45, 0.225, 0.0]]), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("conflict", "owner"), [("min_area", 1), ("max_iou", 0)])
def test_conflict_example_of_the_specification(conflict: Conflict, owner: int) -> None:
    points = one_location(40.0)
    targets = Targets(
        torch.tensor([[[0.0, 0, 100, 100], [20.0, 20, 60, 60]]]), torch.tensor([[0, 0]]), torch.ones(1, 2) > 0
    )
    assignment = TaskAlignedAssigner(topk=13, alpha=1, beta=6, conflict=conflict).assign_predictions(
        torch.full((1, 1, 1), 0.5),
        torch.tensor([[[0.0, 0, 90, 90]]]),
        points,
        targets,
        torch.ones(1, 1, dtype=torch.bool),
    )
    assert assignment.gt_index.tolist() == [[owner]]
    assert assignment.iou.item() == pytest.approx([0.81, 0.1975][owner], abs=1e-4)


def test_equal_claims_go_to_the_lower_index() -> None:
    locations = torch.tensor([[[0, 1], [1, 0], [1, 2]]])
    accepted = torch.tensor([[[True, True], [True, True], [True, False]]])
    cost = torch.tensor([[[1.0, 2.0], [2.0, 0.5], [2.0, 0.0]]])
    assert settle_conflicts(locations, accepted, cost, 4).tolist() == [[1, 0, -1, -1]]
