"""Anchor bags: the anchors that overlap an object most."""

import torch
from bag_scenes import pyramid, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.detection.assigners.bags import Bags, anchor_bags
from tood.detection.boxes import aligned_iou, pairwise_iou
from tood.detection.points import AnchorShapes, make_points
from tood.detection.targets import Targets

# Anchors of 8 x 8 px side by side: x from -4 to 4, 4 to 12, 12 to 20, 20 to 28.
ROW = make_points(((1, 4),), (8,), torch.device("cpu"), torch.float64, AnchorShapes(scale=1.0))


def one_object(*box: float) -> Targets:
    boxes = torch.tensor([[box]], dtype=torch.float64)
    return Targets(boxes, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool))


def test_worked_example() -> None:
    # Overlaps 8 * 5, 8 * 3 and 0 px of two areas of 64 px: 40 / 88, 24 / 104.
    bags = anchor_bags(ROW, one_object(7.0, -4.0, 15.0, 4.0), None, size=2)
    assert bags.locations.tolist() == [[[1, 2]]]
    torch.testing.assert_close(bags.iou, torch.tensor([[[40 / 88, 24 / 104]]], dtype=torch.float64))
    assert bags.exists.all()


def test_an_anchor_that_takes_no_part_is_in_no_bag() -> None:
    valid = torch.tensor([[True, False, True, True]])
    bags = anchor_bags(ROW, one_object(7.0, -4.0, 15.0, 4.0), valid, size=4)
    assert bags.locations[bags.exists].tolist()[0] == 2
    assert sorted(bags.locations[bags.exists].tolist()) == [0, 2, 3]
    assert (bags.iou[~bags.exists] == 0).all()


def test_a_bag_holds_all_anchors_where_there_are_no_more() -> None:
    bags = anchor_bags(ROW, one_object(7.0, -4.0, 15.0, 4.0), None, size=50)
    assert sorted(bags.locations.flatten().tolist()) == [0, 1, 2, 3]
    assert bags.exists.all()


def test_without_objects_there_is_one_bag_of_nothing() -> None:
    none = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool))
    bags = anchor_bags(ROW, none, None, size=3)
    assert bags.exists.shape == (2, 1, 3)
    assert not bags.exists.any()


def same(first: Bags, second: Bags) -> bool:
    return all(torch.equal(getattr(first, n), getattr(second, n)) for n in ("locations", "iou", "exists"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 300), masked=st.booleans())
def test_bags_are_what_sorting_all_overlaps_gives(seed: int, size: int, masked: bool) -> None:
    points, batch = pyramid(), scene(seed, objects=3)
    targets, count = batch.targets, len(points.anchors)
    valid = torch.rand(2, count, generator=torch.Generator().manual_seed(seed)) < 0.5 if masked else None
    bags = anchor_bags(points, targets, valid, size=size)
    assert bags.locations.shape == (2, 3, min(size, count))
    for image in range(2):
        for slot in range(3):
            if not targets.valid[image, slot]:
                assert not bags.exists[image, slot].any()
                continue
            taking_part = [j for j in range(count) if valid is None or valid[image, j]]
            overlaps = pairwise_iou(targets.boxes[image, slot : slot + 1], points.anchors)[0]
            best = sorted((float(overlaps[j]) for j in taking_part), reverse=True)[:size]
            chosen = bags.locations[image, slot][bags.exists[image, slot]]
            assert len(set(chosen.tolist())) == len(chosen) == len(best)
            assert set(chosen.tolist()) <= set(taking_part)
            ours = bags.iou[image, slot, : len(best)]
            torch.testing.assert_close(ours, torch.tensor(best, dtype=torch.float64))
            own = aligned_iou(points.anchors[chosen], targets.boxes[image, slot])
            torch.testing.assert_close(bags.iou[image, slot][bags.exists[image, slot]], own)
    assert same(bags, anchor_bags(points, targets, valid, size=size, dense_elements=1))
