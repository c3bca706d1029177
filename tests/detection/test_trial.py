"""A method of one's own that would lose something in silence is refused by name; a shipped one never is."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tood.config.blocks import read_block
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.config.parts import is_own
from tood.detection.detector import build_criterion
from tood.detection.trial.method import try_method
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"
QUICK = ("atss", "free_anchor", "gfl", "paa", "pisa", "tood")
METHODS = sorted(path.stem for path in (PARAMS / "methods").glob("*.yaml"))
FILE = "extensions/mine.py"
LOSSES, TARGETS = f"{FILE}:Losses", f"{FILE}:Targets"

IMPORTS = """
import functools, itertools, random
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import nn
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.criteria.base import Criterion, LossTerm
from tood.detection.criteria.focal import FocalCriterion
from tood.detection.assigners.base import Assigner
"""
SCALED = "return [replace(term, per_location=term.per_location * {by}) for term in super().losses(batch, assignment)]"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "extensions").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def method(code: str, criterion: dict[str, Any] | None = None, **head: Any) -> MethodConfig:
    """A method whose criterion is by default ``Losses`` of this code, written to ``extensions/mine.py``."""
    Path(FILE).write_text(IMPORTS + code)
    content = {
        "name": "mine",
        "head": {"kind": "parallel", "boxes": "distance", **head},
        "criterion": criterion or {"kind": LOSSES},
    }
    found: MethodConfig = validate(MethodConfig, content, "params/methods/mine.yaml")
    return found


def refused(found: MethodConfig, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        try_method(found, **options)
    for sentence in caught.value.sentences:
        assert re.match(r"extensions/mine\.py: class \w+ ", sentence), sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")
    return "\n".join(caught.value.sentences)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in METHODS]
)
@pytest.mark.parametrize(("classes", "epochs"), [(3, 12), pytest.param(1, 1, marks=pytest.mark.long)])
def test_every_shipped_method_passes(name: str, classes: int, epochs: int) -> None:
    found = validate(MethodConfig, read_block(PARAMS, "methods", name, MethodConfig, name), name)
    assert try_method(found, classes=classes, epochs=epochs) == []


@pytest.mark.parametrize(
    ("head", "criterion"),
    [
        ({"kind": "task_aligned", "boxes": "distance"}, {"kind": "gfl", "dfl_weight": None}),
        ({"kind": "parallel", "boxes": "delta", "alignment": True}, {"kind": "focal", "assigner": {"kind": "max_iou"}}),
        ({"kind": "parallel", "boxes": "delta"}, {"kind": "paa", "unfitted": "background"}),
        ({"kind": "parallel", "boxes": "delta"}, {"kind": "mal", "selection": "whole_bag", "depression": False}),
    ],
)
def test_shipped_parts_in_other_compositions_pass(head: dict[str, Any], criterion: dict[str, Any]) -> None:
    assert try_method(method("", criterion, **head)) == []


def test_a_method_without_fault_passes_with_all_that_it_may_keep() -> None:
    """Constants, caches of what depends on sizes, helpers, loggers, layers without weights."""
    code = """
import logging
log = logging.getLogger(__name__)
TABLE = {"a": [1, 2], "b": torch.tensor([1.0, 2.0])}
RULE = nn.SmoothL1Loss(reduction="none")

@functools.cache
def grid(n: int) -> torch.Tensor:
    return torch.linspace(1, 1, n)

@functools.lru_cache(maxsize=2)
def last_grids(n: int, step: int) -> torch.Tensor:
    return torch.linspace(1, 1, n) + 0 * step

class Targets(Assigner):
    k: int = 9
    weights: list[float] = [1.0, 2.0]
    def assign(self, batch):
        return AtssAssigner(topk=self.k).assign(batch)

class Losses(FocalCriterion):
    _bins: torch.Tensor = PrivateAttr(default_factory=lambda: torch.arange(5.0))

    @functools.cached_property
    def table(self) -> torch.Tensor:
        return torch.ones(3)

    @torch.no_grad()
    def weight(self, batch):
        log.debug("x")
        draw = torch.Generator().manual_seed(batch.progress.step)
        return 1 + 0.1 * torch.rand((), generator=draw) + 0 * self.table.sum() + batch.progress.epoch

    def losses(self, batch, assignment):
        n = batch.predictions.boxes.shape[1]
        by = self.weight(batch) * grid(n) * last_grids(n, batch.progress.step)
        return [replace(term, per_location=term.per_location * by) for term in super().losses(batch, assignment)]
"""
    found = method(code, {"kind": LOSSES, "assigner": {"kind": TARGETS, "k": 7}})
    assert is_own(type(build_criterion(found)))
    assert try_method(found) == []
    assert try_method(found, classes=80, epochs=1) == []


def losses(by: str, *, head: str = "", body: str = "", before: str = "") -> str:
    """ATSS' losses multiplied ``by`` something."""
    return f"""
{before}
class Losses(FocalCriterion):
    {head or "pass"}
    def losses(self, batch, assignment):
        {body or "pass"}
        {SCALED.format(by=by)}
"""


LEARNED = {
    "private attribute": (
        losses("self._scale", head="_scale: Any = PrivateAttr(default_factory=lambda: nn.Parameter(torch.ones(())))"),
        "self._scale",
    ),
    "class attribute": (losses("self.scale", head="scale: ClassVar = nn.Parameter(torch.ones(()))"), "Losses.scale"),
    "after initialisation": (
        losses(
            "self._net(torch.ones(1))",
            head="_net: Any = None\n    def model_post_init(self, context): self._net = nn.Linear(1, 1)",
        ),
        "self._net",
    ),
    "global": (losses("SCALE", before="SCALE = torch.ones((), requires_grad=True)"), "SCALE"),
    "in a dictionary": (losses("KEPT['s'][0]", before="KEPT = {'s': [nn.Parameter(torch.ones(()))]}"), "KEPT['s'][0]"),
    "closure": (
        losses(
            "scale()",
            before="def make():\n    hidden = nn.Parameter(torch.ones(()))\n    return lambda: hidden\nscale = make()",
        ),
        "hidden",
    ),
    "default": (
        losses("scale()", before="def scale(value=nn.Parameter(torch.ones(()))):\n    return value"),
        "value (a default of scale)",
    ),
    "cache": (
        losses("scale()", before="@functools.cache\ndef scale():\n    return nn.Parameter(torch.ones(()))"),
        "scale",
    ),
    "attribute of a function": (
        losses("scale.value", before="def scale(): pass\nscale.value = nn.Parameter(torch.ones(()))"),
        "scale.value",
    ),
    "created in the first step": (
        losses(
            "self._scale", head="_scale: Any = None", body="self._scale = self._scale or nn.Parameter(torch.ones(()))"
        ),
        "self._scale",
    ),
    "created in every step": (losses("torch.ones((), requires_grad=True)"), "of shape ()"),
    "hidden in another module": (
        losses(
            "torch.mine",
            body="torch.mine = getattr(torch, 'mine', None) or nn.Parameter(torch.ones(()))",
        ),
        "of shape ()",
    ),
}


@pytest.mark.parametrize("place", LEARNED)
def test_a_learned_value_that_no_optimiser_knows(place: str) -> None:
    code, where = LEARNED[place]
    said = refused(method(code))
    assert f"{FILE}: class Losses " in said
    assert where in said
    assert "no optimiser and no checkpoint knows" in said
    assert "detector's head" in said
    vars(torch).pop("mine", None)


HELD = {
    "optimiser": ("OPTIMISER = torch.optim.SGD([torch.ones(1)], lr=1)", "OPTIMISER"),
    "torch's generator": ("DRAW = torch.Generator()", "DRAW"),
    "numpy's generator": ("DRAW = np.random.default_rng(0)", "DRAW"),
    "python's generator": ("DRAW = random.Random(0)", "DRAW"),
    "method of a generator": ("draw = np.random.default_rng(0).random", "draw"),
    "iterator": ("NUMBERS = itertools.count()", "NUMBERS"),
}


@pytest.mark.parametrize("kind", HELD)
def test_what_no_checkpoint_can_keep(kind: str) -> None:
    before, where = HELD[kind]
    said = refused(method(losses("1", before=before)))
    assert f"in {where}" in said
    assert "checkpoint" in said


REMEMBERED = {
    "counter": ("_steps: int = 0", "", "self._steps += 1", "self._steps"),
    "mean": (
        "_mean: Any = None",
        "",
        "value = batch.predictions.boxes.detach().mean()\n"
        "        self._mean = value if self._mean is None else 0.9 * self._mean + 0.1 * value",
        "self._mean",
    ),
    "list": ("_seen: list = PrivateAttr(default_factory=list)", "", "self._seen.append(1)", "self._seen"),
    "array": (
        "pass",
        "SUMS = np.zeros(3)",
        "SUMS[batch.targets.labels[0, 0] if batch.images and 0 else 1] += 1",
        "SUMS",
    ),
    "tensor in place": (
        "_sums: Any = PrivateAttr(default_factory=lambda: torch.zeros(2))",
        "",
        "self._sums.add_(1)",
        "self._sums",
    ),
    "class attribute": ("steps: ClassVar[int] = 0", "", "type(self).steps += 1", "Losses.steps"),
    "new class attribute": ("pass", "", "Losses.late = getattr(Losses, 'late', 0) + 1", "Losses.late"),
    "global": ("pass", "STEPS = 0", "global STEPS; STEPS += 1", "STEPS"),
    "dictionary": ("pass", "KEPT = {}", "KEPT['mean'] = batch.predictions.boxes.detach().mean()", "KEPT"),
    "only the first value": (
        "pass",
        "KEPT = {}",
        "KEPT.setdefault('first', batch.predictions.boxes.detach().mean())",
        "KEPT",
    ),
    "deque": ("pass", "LAST = deque(maxlen=2)", "LAST.append(batch.progress.step)", "LAST"),
    "set": ("pass", "SEEN = set()", "SEEN.add(batch.progress.step)", "SEEN"),
    "own object": (
        "pass",
        "class Mean:\n    value = 1.0\nMEAN = Mean()",
        "MEAN.value = MEAN.value * 0.9",
        "MEAN.value",
    ),
    "slots": (
        "pass",
        "class Mean:\n    __slots__ = ('value',)\nMEAN = Mean()\nMEAN.value = 0",
        "MEAN.value += 1",
        "MEAN.value",
    ),
    "class attribute of a helper": (
        "pass",
        "class Mean:\n    value = 1.0",
        "Mean.value = Mean.value * 0.9",
        "Mean.value",
    ),
    "class in a function": (
        "pass",
        "def make():\n n = [0]\n class Inner:\n  def go(self): n[0] += 1\n return Inner()\nINNER = make()",
        "INNER.go()",
        "n (a variable around make.<locals>.Inner.go)[0]",
    ),
    "two underscores": ("pass", "__STEPS = [0]", "globals()['__STEPS'][0] += 1", "__STEPS[0]"),
    "attribute of a function": (
        "pass",
        "def counted(): counted.calls += 1\ncounted.calls = 0",
        "counted()",
        "counted.calls",
    ),
    "closure": (
        "pass",
        "def make():\n calls = 0\n def count():\n  nonlocal calls; calls += 1\n return count\ncount = make()",
        "count()",
        "calls",
    ),
    "default": ("pass", "def count(calls=[0]): calls[0] += 1", "count()", "calls"),
    "cached object": ("pass", "@functools.cache\ndef kept(): return {'n': 0}", "kept()['n'] += 1", "kept"),
    "normalisation": (
        "pass",
        "NORM = nn.BatchNorm1d(1, affine=False)",
        "NORM(torch.arange(2.0)[:, None] + batch.progress.step)",
        "NORM",
    ),
}


@pytest.mark.parametrize("kind", REMEMBERED)
def test_what_changes_from_step_to_step(kind: str) -> None:
    head, before, body, where = REMEMBERED[kind]
    said = refused(method(losses("1", head=head, before=before, body=body)))
    assert f"changes {where}" in said
    assert "batch.progress" in said
    assert "LossTerm.running" in said


def test_what_changes_when_the_losses_are_differentiated() -> None:
    body = "batch.predictions.boxes.register_hook(lambda gradient: NORMS.append(gradient.norm()))"
    said = refused(method(losses("1", before="NORMS = []", body=body)))
    assert "changes NORMS" in said


def test_state_of_an_assigner_is_named_by_the_assigner() -> None:
    code = """
class Targets(Assigner):
    _steps: int = 0
    def assign(self, batch):
        self._steps += 1
        return AtssAssigner().assign(batch)
"""
    said = refused(method(code, {"kind": "focal", "assigner": {"kind": TARGETS}}))
    assert f"{FILE}: class Targets changes self._steps" in said


def test_memory_outside_of_the_file() -> None:
    """Wherever it is, the same images get other losses."""
    body = "np.mine = getattr(np, 'mine', 1.0) * 0.5"
    try:
        said = refused(method(losses("np.mine", body=body)))
    finally:
        vars(np).pop("mine", None)
    assert "class Losses gives the same images other losses" in said


def test_a_cache_that_keeps_the_first_batch() -> None:
    """It fills like any cache and never changes, but is another one after a stop."""
    before = "@functools.cache\ndef kept(): return {}"
    body = "kept().setdefault('first', batch.predictions.boxes.detach().mean())"
    said = refused(method(losses("kept()['first']", before=before, body=body)))
    assert "class Losses" in said


@pytest.mark.parametrize(
    ("draw", "generator"),
    [
        ("torch.rand(())", "torch"),
        ("float(np.random.random())", "numpy.random"),
        ("random.random()", "random"),
    ],
)
def test_global_random_numbers(draw: str, generator: str) -> None:
    states = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    said = refused(method(losses(f"(1 + {draw})")))
    assert f"class Losses draws from the global generator of {generator}" in said
    assert "batch.progress.step" in said
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (repr(np.random.get_state()), random.getstate())


def changed_term(change: str, place: int = 1) -> str:
    return f"""
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        terms = super().losses(batch, assignment)
        term = terms[{place}]
        terms[{place}] = replace(term, {change})
        return terms
"""


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
    "divisor with gradient": ("normaliser=batch.predictions.scores().sum()", "'loss_bbox'", "normaliser with gradient"),
    "divisor by image": ("normaliser=assignment.positive.sum(1).float()", "'loss_bbox'", "normaliser of shape (2,)"),
    "divisor of whole numbers": ("normaliser=assignment.positive.sum()", "'loss_bbox'", "torch.int64"),
    "divided by 0 without objects": (
        "floor=0.0, epsilon=0.0, per_location=1 + term.per_location",
        "'loss_bbox'",
        "floor or an epsilon",
    ),
    "averaged here": (
        "per_location=term.per_location / term.normaliser.clamp(min=1)",
        "'loss_bbox'",
        "depend on the images beside",
    ),
    "divisor that does not add up": ("normaliser=torch.tensor(2.0)", "'loss_bbox'", "does not add up"),
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


def test_a_criterion_that_says_that_it_ranks_the_whole_batch_may() -> None:
    code = changed_term("per_location=term.per_location / term.normaliser.clamp(min=1)")
    declared = code.replace("    def losses", "    ranks_whole_batch: ClassVar[bool] = True\n    def losses")
    assert try_method(method(declared)) == []


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
