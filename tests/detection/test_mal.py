"""MAL: which anchors of a bag are learned from when, and which features are depressed."""

from dataclasses import replace

import pytest
import torch
from bag_scenes import gradients, scene, sums
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.assigners.bags import anchor_bags
from tood.detection.criteria.free_anchor import FreeAnchor
from tood.detection.criteria.mal import Mal, depress, depressed_tenths, selected
from tood.detection.training_batch import Progress


def at(step: int, total: int) -> Progress:
    return Progress(epoch=0, step=step, total_steps=total)


@pytest.mark.parametrize("step", [0, 50, 119])
def test_without_selection_and_depression_it_is_free_anchor(step: int) -> None:
    mal = Mal(bag=50, selection="whole_bag", depression=False)
    batch = scene(progress=at(step, 120))
    ours, expected = mal(batch), FreeAnchor()(batch)
    for a, b in zip(ours, expected, strict=True):
        assert (a.name, a.floor, a.epsilon) == (b.name, b.floor, b.epsilon)
        assert torch.equal(a.normaliser, b.normaliser)
        assert torch.equal(a.per_location, b.per_location)
    assert all(map(torch.equal, gradients(mal, batch), gradients(FreeAnchor(), batch)))
    maps = [torch.randn(1, 2, 3, 3)]
    assert mal.features(maps, at(50, 120)) is maps


def test_the_share_of_depressed_positions_rises_and_falls_in_twelve_equal_parts() -> None:
    assert [depressed_tenths(at(step, 12)) for step in range(12)] == [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]
    for part, tenths in enumerate([0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]):
        assert {depressed_tenths(at(step, 1200)) for step in range(part * 100, part * 100 + 100)} == {tenths}
    assert [depressed_tenths(at(step, 3)) for step in range(3)] == [0, 4, 3]
    assert depressed_tenths(at(0, 1)) == 0


def test_the_number_of_selected_anchors_falls_from_all_to_one() -> None:
    assert [selected(4, at(step, 9)) for step in range(9)] == [4, 4, 4, 3, 3, 2, 2, 1, 1]
    assert [selected(40, at(step, 5)) for step in range(5)] == [40, 31, 21, 11, 1]


@settings(max_examples=50)
@given(bag=st.integers(1, 60), total=st.integers(1, 1000))
def test_selection_never_grows_and_ends_with_the_best_alone(bag: int, total: int) -> None:
    counts = [selected(bag, at(step, total)) for step in range(total)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1
    assert total == 1 or counts[0] == bag
    assert min(counts) >= 1


def test_in_the_last_step_only_the_best_anchor_of_a_bag_is_learned_from() -> None:
    mal = Mal(bag=12)
    batch = scene(progress=at(119, 120))
    targets = batch.targets
    bags = anchor_bags(batch.predictions.points, targets, None, size=12)
    joint = FreeAnchor(box_weight=0.75, smooth_l1_beta=0.11).log_joint(batch.predictions, targets, bags)
    expected = -0.5 * joint.amax(dim=2) * targets.valid
    torch.testing.assert_close(mal(batch)[0].per_location, expected)
    _, by_deltas = gradients(mal, batch)
    assert (by_deltas.abs().sum(dim=2) > 0).sum() <= targets.valid.sum()


def test_half_way_the_better_half_is_learned_from() -> None:
    batch = scene(progress=at(60, 121))
    log_joint = torch.randn(2, 3, 12, dtype=torch.float64).sub(3).requires_grad_()
    chosen = Mal(bag=12).chosen(log_joint, batch.progress)
    expected = log_joint.sort(dim=2, descending=True).values[..., :7]
    torch.testing.assert_close(chosen, expected)


def test_selection_leaves_the_negative_loss_alone() -> None:
    first, last = scene(progress=at(0, 120)), scene(progress=at(119, 120))
    assert sums(Mal()(first))["negative_bag_loss"] == sums(Mal()(last))["negative_bag_loss"]
    assert sums(Mal()(first))["positive_bag_loss"] != sums(Mal()(last))["positive_bag_loss"]


def plain_depression(feature: Tensor, tenths: int) -> Tensor:
    """(3 f mask + f) / 4 by loops over images and positions."""
    found = feature.clone()
    for b, image in enumerate(feature):
        mean = image.mean(dim=(1, 2))
        strength = sum(mean[c] * image[c] for c in range(len(mean)))
        assert isinstance(strength, Tensor)
        order = strength.flatten().argsort(descending=True).tolist()
        for rank, position in enumerate(order):
            row, column = divmod(position, image.shape[2])
            mask = 0 if rank < len(order) * tenths // 10 else 1
            found[b, :, row, column] = (3 * image[:, row, column] * mask + image[:, row, column]) / 4
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), tenths=st.integers(0, 5), size=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_depression_is_that_of_plain_loops(seed: int, tenths: int, size: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(seed)
    feature = torch.randn(2, 4, *size, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(depress(feature, tenths), plain_depression(feature, tenths))


def test_gradient_passes_through_the_features_but_not_through_the_choice() -> None:
    feature = torch.rand(1, 1, 2, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(depress(feature, 3).sum(), feature)
    assert sorted(gradient.flatten().tolist()) == [0.25] * 3 + [1.0] * 7
    strongest = feature.detach().flatten().argsort(descending=True)[:3]
    assert (gradient.flatten()[strongest] == 0.25).all()


def test_positions_as_strong_as_the_first_that_is_kept_are_kept() -> None:
    feature = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0]).reshape(1, 1, 1, 5)
    assert depress(feature, 4).flatten().tolist() == [0.75, 1, 1, 1, 1]


def test_nothing_is_depressed_where_the_share_is_less_than_a_position() -> None:
    feature = torch.randn(2, 3, 1, 1)
    assert depress(feature, 5) is feature


def test_every_map_is_depressed_by_its_own_share_in_any_precision() -> None:
    maps = [torch.randn(2, 4, 8, 10, dtype=torch.bfloat16), torch.randn(2, 4, 2, 5)]
    found = Mal().features(maps, at(2, 12))
    for before, after, share in zip(maps, found, (16, 2), strict=True):
        assert after.dtype == before.dtype
        changed = (before != after).any(dim=1).flatten(1).sum(dim=1)
        assert changed.tolist() == [share, share]
    assert all(a is b for a, b in zip(Mal().features(maps, at(0, 12)), maps, strict=True))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), step=st.integers(0, 119))
def test_every_step_has_finite_losses_and_gradients(seed: int, step: int) -> None:
    batch = scene(seed, progress=at(step, 120))
    assert all(bool(total.isfinite()) for total in sums(Mal(bag=9)(batch)).values())
    assert all(gradient.isfinite().all() for gradient in gradients(Mal(bag=9), batch))


def test_a_bag_of_more_anchors_than_there_are_ends_with_the_best_too() -> None:
    batch = scene(progress=at(119, 120))
    few, many = Mal(bag=len(batch.predictions.points.anchors)), Mal(bag=5000)
    torch.testing.assert_close(few(batch)[0].per_location, many(batch)[0].per_location)
    half = replace(batch, progress=at(60, 120))
    torch.testing.assert_close(few(half)[0].per_location, many(half)[0].per_location)
