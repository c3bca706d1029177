"""A method whose terms do not enter the loss, or leave a part untrained, is refused by name."""

from typing import Any

import pytest

from .own_methods import (
    FILE,
    changed_term,
    method,
    project,  # noqa: F401
    refused,
)

TERMS = {
    "twice the same name": ("name='loss_cls'", "'loss_cls'", "two terms"),
    "name of a column": ("name='lr'", "'lr'", "history.csv"),
    "name of an evaluation": ("name='val_AP'", "'val_AP'", "history.csv"),
    "detached": ("per_location=term.per_location.detach()", "'loss_bbox'", "without gradient"),
    "constant": ("per_location=torch.ones_like(term.per_location)", "'loss_bbox'", "without gradient"),
    "zero": ("per_location=term.per_location * 0", "'loss_bbox'", "as 0 whatever"),
    "zero gradient": ("per_location=term.per_location * 0 + 1", "'loss_bbox'", "a gradient of 0"),
    "summed": ("per_location=term.per_location.sum()", "'loss_bbox'", "of shape ()"),
    "averaged over images": ("per_location=term.per_location.mean(0)", "'loss_bbox'", "of shape ("),
    "broadcast": (
        "per_location=term.per_location[:, :, None] * term.per_location[:, None, :]",
        "'loss_bbox'",
        "of shape (2, ",
    ),
    "transposed": ("per_location=term.per_location.T", "'loss_bbox'", "which must be (images, locations)"),
    "not finite": ("per_location=term.per_location / 0", "'loss_bbox'", "not finite"),
    "divisor with gradient": (
        "normaliser=batch.predictions.scores().sum((1, 2))",
        "'loss_bbox'",
        "normaliser with gradient",
    ),
    "one divisor": ("normaliser=assignment.positive.sum().float()", "'loss_bbox'", "normaliser of shape ()"),
    "divisor of whole numbers": ("normaliser=assignment.positive.sum(1)", "'loss_bbox'", "torch.int64"),
    "divided by 0 without objects": (
        "floor=0.0, epsilon=0.0, per_location=1 + term.per_location",
        "'loss_bbox'",
        "floor or an epsilon",
    ),
    "averaged here": (
        "per_location=term.per_location / term.normaliser.sum().clamp(min=1)",
        "'loss_bbox'",
        "depend on the images beside",
    ),
    "divisor of all": (
        "normaliser=assignment.positive.sum().float().expand(len(assignment.positive))",
        "'loss_bbox'",
        "a normaliser that depends on the images beside",
    ),
    "divisor below 0": ("normaliser=-term.normaliser - 1", "'loss_bbox'", "not below 0"),
}


@pytest.mark.parametrize("fault", TERMS)
def test_a_term_that_does_not_enter_the_loss_as_meant(fault: str) -> None:
    change, name, reason = TERMS[fault]
    said = refused(method(changed_term(change)))
    assert f"{FILE}: class Losses " in said
    assert name in said
    assert reason in said


@pytest.mark.parametrize("returned", ["[]", "iter(super().losses(batch, assignment))", "[1]"])
def test_no_list_of_terms(returned: str) -> None:
    said = refused(method(f"class Losses(FocalCriterion):\n    def losses(self, batch, assignment): return {returned}"))
    assert "list of LossTerm" in said


def test_other_terms_in_other_steps() -> None:
    code = """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        terms = super().losses(batch, assignment)
        return terms if batch.progress.epoch < 6 else [replace(terms[0], name="loss_late"), *terms[1:]]
"""
    said = refused(method(code))
    assert "loss_cls, loss_bbox in epoch 1" in said
    assert "loss_late, loss_bbox in epoch 7" in said


def test_other_terms_without_objects() -> None:
    code = """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        terms = super().losses(batch, assignment)
        return terms if batch.targets.boxes.shape[1] else terms[:1]
"""
    assert "in images without objects" in refused(method(code))


def without_term(name: str) -> str:
    return f"""
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        return [term for term in super().losses(batch, assignment) if term.name != '{name}']
"""


@pytest.mark.parametrize(
    ("term", "output", "head"),
    [
        ("loss_cls", "class logits", {}),
        ("loss_bbox", "boxes", {}),
        ("loss_centerness", "quality logits", {"centerness": True}),
    ],
)
def test_an_output_that_no_term_trains(term: str, output: str, head: dict[str, Any]) -> None:
    said = refused(method(without_term(term), **head))
    assert f"class Losses has no term that trains the head's {output}" in said


def test_alignment_that_a_loss_of_class_logits_alone_leaves_untrained() -> None:
    code = """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        plain = replace(batch, predictions=replace(batch.predictions, alignment_logits=None))
        return super().losses(plain, assignment)
"""
    said = refused(method(code, kind="task_aligned"))
    assert "alignment logits" in said
    assert "predictions.scores()" in said


def test_parameters_that_only_an_output_beside_the_boxes_reaches() -> None:
    """The deltas before alignment: its offsets would never be learned, and several processes would fail."""
    code = """
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        terms = super().losses(batch, assignment)
        deltas = batch.predictions.deltas.abs().sum(dim=2) * assignment.positive
        return [terms[0], replace(terms[1], per_location=deltas)]
"""
    said = refused(method(code, boxes="delta", alignment=True))
    assert "bbox_head.reg_offset_module.0.weight" in said
    assert "without a gradient" in said


def test_features_that_cut_the_gradient() -> None:
    code = """
class Losses(FocalCriterion):
    def features(self, features, progress):
        return [feature.detach() * 1 for feature in features]
"""
    assert "class Losses cuts the gradient in features" in refused(method(code))


def test_features_of_other_shapes() -> None:
    code = """
class Losses(FocalCriterion):
    def features(self, features, progress):
        return features[:4]
"""
    assert "features of the shapes" in refused(method(code))
