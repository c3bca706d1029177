"""A method that keeps, learns or draws what no checkpoint knows is refused by name."""

import random

import numpy as np
import pytest
import torch

from .own_methods import (
    FILE,
    TARGETS,
    losses,
    method,
    project,  # noqa: F401
    refused,
)

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
