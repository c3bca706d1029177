"""Scenes and methods for the tests of the detection core."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tood.config.method import MethodConfig
from tood.detection.points import STRIDES, Points, make_points, valid_points
from tood.detection.targets import Targets


@dataclass(frozen=True, eq=False)
class Scene:
    """Random predictions and objects; ``scores`` are probabilities."""

    points: Points
    scores: Tensor
    boxes: Tensor
    targets: Targets
    valid: Tensor

    def with_targets(self, targets: Targets) -> "Scene":
        return replace(self, targets=targets)

    def image(self, index: int) -> "Scene":
        """One image alone."""
        one = slice(index, index + 1)
        t = self.targets
        return Scene(
            points=self.points,
            scores=self.scores[one],
            boxes=self.boxes[one],
            targets=Targets(t.boxes[one], t.labels[one], t.valid[one]),
            valid=self.valid[one],
        )


def build_scene(
    seed: int = 0, *, images: int = 2, objects: int = 5, classes: int = 3, size: tuple[int, int] = (96, 128)
) -> Scene:
    """Boxes scattered around their points, objects of all sizes, the last slots of odd images empty."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw, dtype=torch.float64)

    height, width = size
    level_sizes = tuple((-(-height // stride), -(-width // stride)) for stride in STRIDES)
    points = make_points(level_sizes, STRIDES, torch.device("cpu"), torch.float64)
    count = len(points.centres)
    reach = points.strides[:, None] * (0.5 + 3 * uniform(images, count, 4))
    boxes = torch.cat([points.centres - reach[..., :2], points.centres + reach[..., 2:]], dim=2)
    corner = uniform(images, objects, 2) * torch.tensor([0.7 * width, 0.7 * height])
    extent = 6 + uniform(images, objects, 2).square() * torch.tensor([0.8 * width, 0.8 * height])
    labels = torch.randint(classes, (images, objects), generator=draw)
    filled = torch.ones(images, objects, dtype=torch.bool)
    filled[1::2, objects // 2 + 1 :] = False
    sizes = torch.tensor([[height, width] if i % 2 == 0 else [height // 2, width] for i in range(images)])
    return Scene(
        points=points,
        scores=uniform(images, count, classes),
        boxes=boxes,
        targets=Targets(torch.cat([corner, corner + extent], dim=2), labels, filled),
        valid=valid_points(points, sizes),
    )


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    return build_scene


METHODS = {
    "tood": {"head": {"kind": "task_aligned"}, "criterion": {"kind": "task_aligned"}},
    "tood_anchor_based": {
        "head": {"kind": "task_aligned", "boxes": "delta"},
        "criterion": {"kind": "task_aligned"},
    },
    "atss": {
        "head": {"kind": "parallel", "boxes": "delta", "centerness": True},
        "criterion": {"kind": "focal"},
    },
    "gfl": {"head": {"kind": "parallel", "boxes": "bins"}, "criterion": {"kind": "gfl"}},
    "parallel_tal": {
        "head": {"kind": "parallel", "boxes": "distance"},
        "criterion": {"kind": "task_aligned"},
    },
}


@pytest.fixture(params=list(METHODS))
def method(request: pytest.FixtureRequest) -> MethodConfig:
    """Every composition in turn."""
    return MethodConfig.model_validate({"name": request.param, **METHODS[request.param]})


@pytest.fixture(scope="session")
def method_named() -> Callable[[str], MethodConfig]:
    return lambda name: MethodConfig.model_validate({"name": name, **METHODS[name]})
