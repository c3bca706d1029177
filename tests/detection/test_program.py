"""What of the progress a criterion says that its operations depend on is all that they depend on."""

from collections.abc import Hashable
from pathlib import Path

import equality
import pytest
import torch
import yaml
from torch import Tensor

from tood.config.method import MethodConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.criteria.base import Criterion, LossTerm, program_of
from tood.detection.criteria.focal import FocalCriterion
from tood.detection.criteria.mal import Mal
from tood.detection.detector import build_criterion
from tood.detection.points import STRIDES, fewest_locations, points_of
from tood.detection.training_batch import Progress, TrainingBatch
from tood.training.step import step_gradient

PARAMS = Path(__file__).parents[2] / "params/methods"
METHODS = sorted(path.stem for path in PARAMS.glob("*.yaml"))
LOCATIONS = fewest_locations(64, 64)
TWO_PHASES = ("tood", "tood_anchor_based", "tood_dcn", "parallel_tal", "parallel_tal_tap")
CHANGING = {"mal": 5, **dict.fromkeys(TWO_PHASES, 2)}
"""Programs in the steps that are looked at."""


def at(step: int) -> Progress:
    """Forty steps an epoch: the ATSS phase ends with the fourth."""
    return Progress(epoch=step // 40, step=step, total_steps=400)


def method(name: str) -> MethodConfig:
    return MethodConfig.model_validate({"name": name, **yaml.safe_load((PARAMS / f"{name}.yaml").read_text())})


@pytest.mark.parametrize("name", METHODS)
def test_steps_of_equal_programs_have_equal_losses(name: str) -> None:
    batch, criterion = equality.make_batch(5), build_criterion(method(name))
    detector = equality.make_detector(name).requires_grad_(False)
    detector.bbox_head.requires_grad_()
    found: dict[Hashable, list[Tensor]] = {}
    for step in (0, 1, 156, *range(158, 170), 399):
        step_losses = step_gradient(detector, criterion, [batch], at(step), group=equality.alone(), groups=4).losses
        program = program_of(criterion, at(step), LOCATIONS)
        assert program is not None
        found.setdefault(program, []).append(torch.stack(list(step_losses.values())))
    assert all(torch.equal(one, losses[0]) for losses in found.values() for one in losses)
    distinct = {tuple(losses[0].tolist()) for losses in found.values()}
    assert len(distinct) == len(found), "a program of its own for nothing"
    assert len(found) == CHANGING.get(name, 1)


class Inheriting(FocalCriterion):
    """Of one's own: who knows what else it reads."""

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        return super().losses(batch, assignment)


class Declaring(Inheriting):
    unknown: bool = False

    def program(self, progress: Progress, locations: int) -> Hashable | None:
        return None if self.unknown else progress.step // 100


class Further(Declaring):
    """Declares nothing of its own."""


class OwnAssigner(AtssAssigner):
    """Likewise."""


class DeclaringAssigner(OwnAssigner):
    def program(self, progress: Progress, locations: int) -> Hashable:
        return "always"


def test_a_class_of_ones_own_has_to_say_itself() -> None:
    def program(criterion: Criterion, step: int) -> Hashable | None:
        return program_of(criterion, at(step), LOCATIONS)

    assert program(FocalCriterion(), 0) == program(FocalCriterion(), 399) is not None
    assert program(Declaring(), 0) == program(Declaring(), 99) != program(Declaring(), 100)
    assert program(FocalCriterion(assigner=DeclaringAssigner()), 0) is not None
    unknown = (
        Inheriting(),
        Further(),
        Declaring(unknown=True),
        FocalCriterion(assigner=OwnAssigner()),
        Declaring(assigner=OwnAssigner()),
    )
    assert [program(one, 0) for one in unknown] == [None] * len(unknown)


def test_how_many_are_selected_of_a_bag_that_is_not_full_is_no_program() -> None:
    """It depends on how many are in it, on which no criterion can count before."""
    mal, log_joint = Mal(bag=40, depression=False), torch.randn(1, 2, 30)
    counts: dict[Hashable, set[int]] = {}
    for step in range(1000):
        progress = Progress(epoch=0, step=step, total_steps=1000)
        chosen = mal.chosen(log_joint, progress).shape[2]
        counts.setdefault(mal.program(progress, 30), set()).add(chosen)
    assert all(len(chosen) == 1 for chosen in counts.values())


def test_locations_are_counted_before_they_are_made() -> None:
    for height, width in ((64, 96), (32, 32), (160, 224)):
        maps = [torch.empty(1, 1, -(-height // stride), -(-width // stride)) for stride in STRIDES]
        assert len(points_of(maps, STRIDES, torch.float32).strides) == fewest_locations(height, width)
