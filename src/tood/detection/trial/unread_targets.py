"""Refusal of targets that an assigner gives and no loss reads."""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from tood.config.parts import Part, is_own
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.base import Assigner
from tood.detection.criteria.base import Criterion
from tood.detection.trial.call import Call, plain, same
from tood.detection.trial.naming import named
from tood.io.errors import UserError

_SAID_BY = {"iou": "the overlap", "metric": "what it ranks by"}


class Callers:
    """The assigners whose ``assign`` is called in a block; Python's profiler is told of every call."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.assigners = [part for part in parts if isinstance(part, Assigner) and is_own(type(part))]
        self._codes = {_code(type(assigner).assign): type(assigner) for assigner in self.assigners}
        self._called: list[Any] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        if not self.assigners or sys.getprofile() is not None:  # another profiler is at work, and stays
            self._called += self.assigners
            yield
            return
        sys.setprofile(self._on_call)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in self._codes:
            self._called.append(frame.f_locals.get(frame.f_code.co_varnames[0]))

    def refuse_idle(self) -> None:
        """Raise UserError for assigners that nothing asked; a copy with other options counts for all of its class."""
        known = {id(one) for one in self.assigners}
        for assigner in self.assigners:
            of_its_class = [one for one in self._called if type(one) is type(assigner)]
            if not any(one is assigner or id(one) not in known for one in of_its_class):
                raise UserError(
                    f"{named(type(assigner))} is an option of the criterion that no step uses; let the criterion's "
                    "assign call it, or leave the option out."
                )


def _code(function: Callable[..., Any]) -> Any:
    return inspect.unwrap(function).__code__


def unread(criterion: Criterion, calls: Sequence[Call]) -> list[str]:
    """Names of the assignment's fields that say something and do not change any term, in any of these calls.

    Empty for criteria that assign nothing before they compute.
    """
    if type(criterion).__call__ is not Criterion.__call__:
        return []
    saying: set[str] = set()
    read: set[str] = set()
    for call in calls:
        with torch.no_grad():
            assignment = criterion.assign(call.batch)
        for field in fields(assignment):
            value = getattr(assignment, field.name)
            if field.name not in read and _says_something(assignment, field.name, value):
                saying.add(field.name)
                other = _otherwise(field.name, value)
                if other is None or _changes(criterion, call, replace(assignment, **{field.name: other})):
                    read.add(field.name)
    return sorted(saying - read)


def refuse_unread(criterion: Criterion, parts: Sequence[Part], names: Sequence[str]) -> list[str]:
    """Raise UserError where own code gives targets for nothing; returns notes of what may be meant so."""
    learner = type(criterion).__name__
    assigner = next((part for part in parts if isinstance(part, Assigner)), None)
    giver = type(criterion) if assigner is None else type(assigner)
    if "gt_index" in names:
        said = f"{named(type(criterion))} has losses that do not depend on what {giver.__name__} assigns"
        if assigner is None:
            return [f"{said}: that is for analysis"]
        raise UserError(f"{said}; compute them from the assignment that they are given, or do without an assigner.")
    sentences = {
        name: f"{named(giver)} gives '{name}' in its assignment, which no loss of {learner} reads" for name in names
    }
    problems = [
        f"{said}; {_remedy(name, learner)}."
        for name, said in sentences.items()
        if is_own(giver) and name not in _SAID_BY
    ]
    if problems:
        raise UserError(*problems)
    shown = sentences if is_own(giver) else {name: said for name, said in sentences.items() if name not in _SAID_BY}
    return [
        f"{said}{f': {_SAID_BY[name]} is for analysis' if name in _SAID_BY else ''}" for name, said in shown.items()
    ]


def _remedy(name: str, learner: str) -> str:
    if name == "ignored":
        return f"multiply the losses of {learner} by assignment.counted(batch.valid), or ignore nothing"
    if name == "target":
        return "choose a criterion that learns soft targets, or give 1 for objects and 0 for background"
    return f"let the losses of {learner} use it, or leave it out"


def _says_something(assignment: Assignment, name: str, value: Any) -> bool:
    """Whether a field holds more than what can be told from the objects chosen."""
    if not isinstance(value, Tensor):
        return False
    if name == "target":
        return not torch.equal(value, assignment.positive.to(value.dtype))
    if name == "metric" and assignment.metric is assignment.iou:
        return False
    if name == "ignored":
        return bool(value.any())
    return name != "iou" and (name not in ("gt_index", "metric") or bool((assignment.positive).any()))


def _otherwise(name: str, value: Tensor) -> Tensor | None:
    """The field with other values of the same kind."""
    if name == "gt_index":
        return torch.full_like(value, -1)
    if value.dtype == torch.bool:
        return torch.zeros_like(value) if value.any() else torch.ones_like(value)
    if value.dtype.is_floating_point:
        share = torch.rand(value.shape, generator=torch.Generator().manual_seed(7), dtype=value.dtype)
        return value * (0.2 + 0.6 * share)
    rolled = value.flatten().roll(1).view_as(value)
    return None if torch.equal(rolled, value) else rolled


def _changes(criterion: Criterion, call: Call, assignment: Assignment) -> bool:
    try:
        terms = criterion.losses(call.batch, assignment)
    except Exception:  # whatever fails on other values has read them
        return True
    return not same(call.said(), plain(terms))
