"""Of equally good locations the first ones are chosen, on every device."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.bags import anchor_bags
from tood.detection.assigners.task_aligned import TaskAlignedAssigner
from tood.detection.boxes import box_area, rows_iou
from tood.detection.points import AnchorShapes, make_points
from tood.detection.ranking import top_first
from tood.detection.targets import Targets

CPU = torch.device("cpu")


@given(
    st.lists(st.sampled_from([-torch.inf, -2.5, -1.0, -0.0, 0.0, 1e-30, 1.0, 2.5, torch.inf]), min_size=1, max_size=30),
    st.data(),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_it_is_the_beginning_of_a_stable_sort(
    numbers: list[float], data: st.DataObject, dtype: torch.dtype, largest: bool
) -> None:
    values = torch.tensor([numbers, numbers[::-1]], dtype=dtype)
    k = data.draw(st.integers(1, len(numbers)))
    found, index = top_first(values, k, largest=largest)
    expected = values.sort(dim=1, descending=largest, stable=True)
    assert torch.equal(found, expected.values[:, :k])
    assert torch.equal(index, expected.indices[:, :k])


def reversed_topk(values: Tensor, k: int, *, dim: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """``Tensor.topk`` of a device that prefers the last of equal values."""
    found = values.flip(dim).sort(dim=dim, descending=largest, stable=True)
    return found.values.narrow(dim, 0, k), values.shape[dim] - 1 - found.indices.narrow(dim, 0, k)


class Topk(tuple[Tensor, Tensor]):
    @property
    def values(self) -> Tensor:
        return self[0]

    @property
    def indices(self) -> Tensor:
        return self[1]


SIZES = ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
STRIDES = (8, 16, 32, 64, 128)
TARGETS = Targets(
    boxes=torch.tensor([[[16.0, 16, 48, 48], [8, 8, 88, 56], [40, 24, 56, 40]]]),  # centred on the grid: full of ties
    labels=torch.tensor([[0, 1, 0]]),
    valid=torch.ones(1, 3, dtype=torch.bool),
)
VALID = torch.ones(1, 129, dtype=torch.bool)


def bags() -> list[Tensor]:
    shapes = AnchorShapes(4.0, 3, (0.5, 1.0, 2.0))
    found = anchor_bags(make_points(SIZES, STRIDES, CPU, torch.float32, shapes), TARGETS, None, size=20)
    return [found.locations, found.iou]


def atss() -> list[Tensor]:
    points = make_points(SIZES, STRIDES, CPU, torch.float32)
    found = AtssAssigner(topk=9).candidates(points, TARGETS, VALID)
    return [found.locations, found.accepted]


def aligned() -> list[Tensor]:
    points = make_points(SIZES, STRIDES, CPU, torch.float32)
    scores = torch.full((1, 129, 2), 0.5)
    found = TaskAlignedAssigner(topk=7).candidates(scores, points.anchors[None], points, TARGETS, VALID)
    return [found.locations, found.accepted]


@pytest.mark.parametrize("chosen", [bags, atss, aligned])
def test_a_device_that_prefers_others_chooses_the_same(
    chosen: Callable[[], list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = chosen()
    monkeypatch.setattr(
        Tensor,
        "topk",
        lambda values, k, dim=-1, largest=True: Topk(reversed_topk(values, k, dim=dim, largest=largest)),
    )
    for one, other in zip(here, chosen(), strict=True):
        assert torch.equal(one, other)


def test_half_of_the_bags_end_with_equal_overlaps() -> None:
    """Why a rule is needed: not only for objects that lie on the grid."""
    torch.manual_seed(0)
    corners = torch.rand(1, 60, 2) * torch.tensor([500.0, 300.0])
    boxes = torch.cat([corners, corners + 20 + 130 * torch.rand(1, 60, 2)], dim=2)
    sizes = tuple((-(-448 // stride), -(-640 // stride)) for stride in STRIDES)
    anchors = make_points(sizes, STRIDES, CPU, torch.float32, AnchorShapes(4.0, 3, (0.5, 1.0, 2.0))).anchors
    iou = rows_iou(boxes, anchors.T.contiguous()[None], box_area(anchors)[None])
    best = iou.topk(51, dim=2).values
    assert 0.2 < float((best[..., 49] == best[..., 50]).float().mean()) < 0.8
