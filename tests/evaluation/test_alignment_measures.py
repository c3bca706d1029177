"""Alignment before suppression: candidates, rank correlation and mean IoU, by hand and against scipy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.evaluation import alignment_measures as alignment
from tood.evaluation.alignment_measures import AVERAGED, RANKED, align_objects, average_ranks, rank_correlation

OBJECT = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
LABEL = torch.tensor([1])


def strips(*widths: float) -> Tensor:
    """Boxes as high as ``OBJECT`` of these widths, from its left side: IoU is width / 10."""
    return torch.tensor([[0.0, 0.0, width, 10.0] for width in widths])


def of_class(*scores: float) -> Tensor:
    """Scores (N,2) of class 1; class 0 has those of a very different ranking."""
    values = torch.tensor(scores)
    return torch.stack([1 - values, values], dim=1)


def test_candidates_are_ranked_by_the_score_of_the_objects_class() -> None:
    boxes = torch.cat([strips(2, 8, 5), torch.tensor([[50.0, 50.0, 60.0, 60.0]])])
    found = align_objects(of_class(0.1, 0.7, 0.3, 0.9), boxes, OBJECT, LABEL)
    assert found.valid.sum() == 3, "the box that does not overlap is no candidate"
    torch.testing.assert_close(found.scores[0, :3], torch.tensor([0.7, 0.3, 0.1]))
    torch.testing.assert_close(found.ious[0, :3], torch.tensor([0.8, 0.5, 0.2]))
    assert found.correlation.item() == 1
    assert found.top_iou.item() == pytest.approx(0.5)
    assert found.anchors.tolist() == [[1, 1]]


def test_misaligned_anchors_are_told_apart() -> None:
    found = align_objects(of_class(0.9, 0.5, 0.1), strips(1, 5, 9), OBJECT, LABEL)
    assert found.correlation.item() == -1
    assert found.anchors.tolist() == [[0, 2]]
    torch.testing.assert_close(found.anchor_scores, torch.tensor([[0.9, 0.1]]))
    torch.testing.assert_close(found.anchor_ious, torch.tensor([[0.1, 0.9]]))


def test_only_the_most_confident_count() -> None:
    count = RANKED + 20
    scores = torch.linspace(0.9, 0.1, count)
    widths = torch.cat([torch.linspace(9, 1, RANKED), torch.full((20,), 10.0)])  # the best located are not sure
    found = align_objects(of_class(*scores.tolist()), strips(*widths.tolist()), OBJECT, LABEL)
    assert found.valid.all()
    assert found.correlation.item() == 1
    assert found.top_iou.item() == pytest.approx(float(widths[:AVERAGED].mean()) / 10, abs=1e-6)


def test_of_equal_scores_the_earlier_anchor_comes_first() -> None:
    scores = of_class(*[0.5] * (RANKED + 10))
    widths = [5.0] * RANKED + [9.0] * 10
    found = align_objects(scores, strips(*widths), OBJECT, LABEL)
    assert found.top_iou.item() == pytest.approx(0.5)
    assert found.anchors.tolist() == [[0, RANKED]]


@pytest.mark.parametrize(
    ("scores", "widths"),
    [((0.9,), (5,)), ((0.5, 0.5, 0.5), (1, 2, 3)), ((0.1, 0.2, 0.3), (4, 4, 4))],
    ids=["one candidate", "one score", "one IoU"],
)
def test_correlation_of_nothing_that_varies_is_undefined(scores: tuple[float, ...], widths: tuple[float, ...]) -> None:
    found = align_objects(of_class(*scores), strips(*widths), OBJECT, LABEL)
    assert math.isnan(found.correlation.item())
    assert found.top_iou.item() > 0


def test_object_that_no_anchor_overlaps_has_no_candidates() -> None:
    inverted = torch.tensor([[8.0, 8.0, 2.0, 2.0]])
    found = align_objects(of_class(0.9), inverted, OBJECT, LABEL)
    assert not found.valid.any()
    assert math.isnan(found.correlation.item())
    assert math.isnan(found.top_iou.item())


def test_image_without_objects() -> None:
    found = align_objects(of_class(0.9), strips(5), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert found.correlation.shape == (0,)
    assert found.scores.shape == (0, RANKED)


def test_blocks_of_objects_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, 2, generator=generator).sort(dim=1).values * 100
    boxes, objects = corners.flatten(1), corners.flatten(1)[:23]
    scores, labels = torch.rand(300, 4, generator=generator), torch.randint(4, (23,), generator=generator)
    whole = align_objects(scores, boxes, objects, labels)
    monkeypatch.setattr(alignment, "_BLOCK", 5 * RANKED**2)
    parts = align_objects(scores, boxes, objects, labels)
    for name in ("scores", "ious", "correlation", "top_iou", "anchors"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name), rtol=0, atol=0, equal_nan=True)


def test_ranks_by_hand() -> None:
    values = torch.tensor([[0.3, 0.1, 0.3, 0.3, 0.9, -7.0]])
    valid = torch.tensor([[True] * 5 + [False]])
    assert average_ranks(values, valid)[0, :5].tolist() == [3, 1, 3, 3, 5]


numbers = st.integers(0, 6).map(lambda value: value / 6)  # few values, so that many are equal


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=RANKED))
def test_correlation_is_spearmans(pairs: list[tuple[float, float]]) -> None:
    first, second = torch.tensor(pairs, dtype=torch.float64).T
    filler = torch.rand(2, RANKED - len(pairs), dtype=torch.float64)
    valid = (torch.arange(RANKED) < len(pairs))[None]
    found = rank_correlation(torch.cat([first, filler[0]])[None], torch.cat([second, filler[1]])[None], valid).item()
    if first.unique().numel() == 1 or second.unique().numel() == 1:
        assert math.isnan(found)
    else:
        assert -1 <= found <= 1
        stats = pytest.importorskip("scipy.stats")  # takes long to import
        assert found == pytest.approx(stats.spearmanr(first.numpy(), second.numpy()).statistic, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)))
def test_the_scale_of_either_axis_does_not_matter(seed: int, scale: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(40, 2, 2, generator=generator, dtype=torch.float64).sort(dim=1).values * 50
    boxes, objects = corners.flatten(1)[5:], corners.flatten(1)[:5]
    scores, labels = torch.rand(35, 3, generator=generator), torch.randint(3, (5,), generator=generator)
    factors = torch.tensor([*scale, *scale], dtype=torch.float64)
    plain = align_objects(scores, boxes, objects, labels)
    scaled = align_objects(scores, boxes * factors, objects * factors, labels)
    torch.testing.assert_close(plain.ious, scaled.ious)
    torch.testing.assert_close(plain.correlation, scaled.correlation, equal_nan=True)
