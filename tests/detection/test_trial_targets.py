"""Targets that no loss reads, and code that fails, are refused by name; what a trial notes."""

import pytest
import torch
import yaml

from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.detection.trial.try_method import try_method
from tood.io.errors import UserError

from .own_methods import (
    FILE,
    LOSSES,
    PARAMS,
    TARGETS,
    changed_term,
    losses,
    method,
    project,  # noqa: F401
    refused,
)


def targets(change: str, before: str = "") -> str:
    return f"""
{before}
class Targets(Assigner):
    def assign(self, batch):
        found = AtssAssigner().assign(batch)
        return {change}
"""


FURTHER = """
@dataclass(frozen=True, eq=False)
class Further(Assignment):
    weight: torch.Tensor = None
"""
UNREAD = {
    "soft labels": (targets("replace(found, target=found.iou)"), "'target'", "soft targets"),
    "ignored": (targets("replace(found, ignored=found.iou > 0)"), None, None),
    "a field of its own": (
        targets(
            "Further(**vars(found), weight=torch.rand_like(found.iou, generator=None) * 0 + found.iou)", FURTHER
        ).replace("torch.rand_like(found.iou, generator=None) * 0 + ", ""),
        "'weight'",
        "leave it out",
    ),
    "a field of ones": (
        targets("Further(**vars(found), weight=torch.ones_like(found.iou))", FURTHER),
        "'weight'",
        "leave it out",
    ),
    "a field of numbers": (
        targets("Further(**vars(found), weight=found.gt_index + 1)", FURTHER),
        "'weight'",
        "leave it out",
    ),
}


@pytest.mark.parametrize("fault", UNREAD)
def test_targets_that_no_loss_reads(fault: str) -> None:
    code, field, remedy = UNREAD[fault]
    found = method(code, {"kind": "focal", "assigner": {"kind": TARGETS}})
    if field is None:
        assert try_method(found) == []
        return
    assert remedy is not None
    said = refused(found)
    assert f"{FILE}: class Targets gives {field}" in said
    assert "FocalCriterion" in said
    assert remedy in said


def test_a_field_of_its_own_that_the_losses_read_passes() -> None:
    code = targets("Further(**vars(found), weight=1 + found.iou)", FURTHER) + losses("assignment.weight")
    assert try_method(method(code, {"kind": LOSSES, "assigner": {"kind": TARGETS}})) == []


def test_ignored_locations_that_the_losses_count() -> None:
    code = targets(
        "replace(found, ignored=found.iou.gt(0) & ~found.positive | found.positive.roll(1, 1) & ~found.positive)"
    )
    code += """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        return super().losses(batch, replace(assignment, ignored=None))
"""
    said = refused(method(code, {"kind": LOSSES, "assigner": {"kind": TARGETS}}))
    assert "'ignored'" in said
    assert "assignment.counted(batch.valid)" in said


def test_what_an_assigner_ranks_by_is_noted() -> None:
    found = method(targets("replace(found, metric=found.iou * 2)"), {"kind": "focal", "assigner": {"kind": TARGETS}})
    (note,) = try_method(found)
    assert f"{FILE}: class Targets gives 'metric'" in note


def test_soft_targets_of_a_shipped_assigner_are_noted() -> None:
    """Only its choice of samples is used, which may be what is compared."""
    (note,) = try_method(method("", {"kind": "focal", "assigner": {"kind": "task_aligned"}}))
    assert "class TaskAlignedAssigner gives 'target'" in note


def test_losses_that_do_not_depend_on_what_was_assigned() -> None:
    code = """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        return super().losses(batch, AtssAssigner().assign(batch))
""" + targets("found")
    said = refused(method(code, {"kind": LOSSES, "assigner": {"kind": TARGETS}}))
    assert "class Losses has losses that do not depend on what Targets assigns" in said


def test_an_assignment_for_analysis_alone_is_noted() -> None:
    code = """
class Losses(Criterion):
    def assign(self, batch):
        return AtssAssigner().assign(batch)
    def losses(self, batch, assignment):
        return FocalCriterion().losses(batch, AtssAssigner().assign(batch))
"""
    (note,) = try_method(method(code))
    assert "class Losses has losses that do not depend on what Losses assigns: that is for analysis" in note


def test_a_criterion_that_says_that_it_compares_the_images_of_a_group_may() -> None:
    code = changed_term("per_location=term.per_location / term.normaliser.sum().clamp(min=1)")
    declared = code.replace(
        "    def losses", "    @property\n    def over(self):\n        return 'group'\n    def losses"
    )
    with pytest.raises(UserError, match="depend on the images beside"):
        try_method(method(declared))
    within = "torch.stack([term.normaliser[batch.group_of() == one].sum() for one in batch.group_of()])[:, None]"
    assert try_method(method(declared.replace("term.normaliser.sum()", within))) == []


def test_an_assigner_that_nothing_asks() -> None:
    code = (
        targets("found")
        + """
class Losses(FocalCriterion):
    def assign(self, batch):
        return AtssAssigner().assign(batch)
"""
    )
    said = refused(method(code, {"kind": LOSSES, "assigner": {"kind": TARGETS}}))
    assert "class Targets is an option of the criterion that no step uses" in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no\\nsuch')", "ValueError, line 19: no such"),
        ("return batch.nothing", "AttributeError, line 19"),
    ],
)
def test_own_code_that_fails_is_named_by_line(body: str, said: str) -> None:
    code = f"class Losses(FocalCriterion):\n    def losses(self, batch, assignment):\n\n        {body}\n"
    assert said in refused(method(code))


def test_what_fails_only_without_objects() -> None:
    body = "assert batch.targets.boxes.shape[1] > 0"
    assert "with_a_slot" in refused(method(losses("1", body=body)))


def test_as_many_classes_as_the_data_set_has() -> None:
    code = losses("1", body="assert batch.predictions.class_logits.shape[2] == 7")
    assert try_method(method(code), classes=7) == []
    assert "3 classes" in refused(method(code), classes=3)


def test_all_faults_of_the_terms_are_said_at_once() -> None:
    code = """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        return [replace(term, per_location=term.per_location.detach()) for term in super().losses(batch, assignment)]
"""
    said = refused(method(code))
    assert "'loss_cls'" in said
    assert "'loss_bbox'" in said


def test_an_option_that_leaves_an_output_untrained_is_refused_for_shipped_criteria_too() -> None:
    content = yaml.safe_load((PARAMS / "methods/free_anchor.yaml").read_text())
    content["criterion"]["alpha"] = 0
    found = validate(MethodConfig, {"name": "x", **content}, "x.yaml")
    with pytest.raises(UserError, match="class FreeAnchor has no term that trains the head's boxes"):
        try_method(found)


def test_the_methods_objects_are_left_as_they_were() -> None:
    found = method(losses("1"))
    before = found.model_dump(), torch.get_num_threads(), torch.get_rng_state()
    try_method(found)
    assert (found.model_dump(), torch.get_num_threads()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
