"""Which objects contain a location of the pyramid, held against the locations themselves and the assigners."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tood.config.parts import CriterionPart
from tood.config.study import load_study
from tood.detection.assigners.assignment import CENTRE_MARGIN
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.center_sampling import CenterSamplingAssigner
from tood.detection.boxes import inner_margin
from tood.detection.points import STRIDES, Points, make_points, valid_points
from tood.detection.reach import centre_margin, contain_location
from tood.detection.targets import Targets

MAPS = (224, 160)  # width and height px that the maps are made for: another image of the batch is larger


def points() -> Points:
    sizes = tuple((-(-MAPS[1] // stride), -(-MAPS[0] // stride)) for stride in STRIDES)
    return make_points(sizes, STRIDES, torch.device("cpu"), torch.float32)


def small_boxes(width: int, height: int, count: int = 6000) -> Tensor:
    """Boxes of a few px inside an image, many with sides on whole and hundredth pixels."""
    rng = np.random.default_rng(width)
    corner = rng.uniform(0, [width, height], (count, 2))
    boxes = np.concatenate([corner, np.minimum(corner + rng.exponential(6, (count, 2)), [width, height])], axis=1)
    boxes[::3], boxes[1::3] = boxes[::3].round(), boxes[1::3].round(2)
    return torch.from_numpy(boxes).float()


@pytest.mark.parametrize("margin", [0.0, CENTRE_MARGIN])
@pytest.mark.parametrize("size", [(130, 97), (200, 64), (33, 129)])
def test_it_is_what_the_points_say(size: tuple[int, int], margin: float) -> None:
    every, boxes = points(), small_boxes(*size)
    valid = valid_points(every, torch.tensor([[size[1], size[0]]]))
    expected = ((inner_margin(every.centres[None], boxes[:, None]) > margin) & valid).any(dim=1)
    assert expected.any()
    assert not expected.all()
    found = contain_location(boxes, torch.tensor(size).expand(len(boxes), 2), margin)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(("assigner", "margin"), [(AtssAssigner(), CENTRE_MARGIN), (CenterSamplingAssigner(), 0.0)])
def test_an_object_without_location_never_has_a_sample(
    assigner: AtssAssigner | CenterSamplingAssigner, margin: float
) -> None:
    every, size = points(), (200, 130)
    boxes = small_boxes(*size, count=900)
    reached = contain_location(boxes, torch.tensor(size).expand(len(boxes), 2), margin)
    alone = Targets(boxes[:, None], torch.zeros(len(boxes), 1, dtype=torch.int64), torch.ones(len(boxes), 1).bool())
    valid = valid_points(every, torch.tensor([[size[1], size[0]]]).expand(len(boxes), 2))
    chosen = (assigner.assign_points(every, alone, valid).gt_index >= 0).any(dim=1)
    assert chosen.any()
    assert not (chosen & ~reached).any()


@pytest.mark.parametrize(
    ("study", "run", "margin"),
    [
        ("demo", "tood", CENTRE_MARGIN),
        ("demo", "atss", CENTRE_MARGIN),
        ("demo", "gfl", CENTRE_MARGIN),
        ("paper/table2", "center_sampling", 0.0),
        ("family", "paa_s0", None),
        ("family", "free_anchor_s0", None),
        ("family", "pisa_s0", None),
        ("family", "noisy_anchor_s0", None),
    ],
)
def test_methods_that_need_a_location_inside(study: str, run: str, margin: float | None) -> None:
    criterion: CriterionPart = load_study(study).run(run).method.criterion
    assert centre_margin(criterion) == margin
