"""A method tried before it trains: what would be lost without a word is refused, by name and with the remedy."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from tood.config.method import MethodConfig
from tood.config.parts import Part, is_own, parts_of
from tood.detection.criteria.base import Criterion, LossTerm
from tood.detection.detector import build_criterion
from tood.detection.training_batch import Groups, Progress
from tood.detection.trial.call import Call, call, drawn_since, random_states, same, undisturbed, unknown_leaves
from tood.detection.trial.kept import Snapshot, caches, look
from tood.detection.trial.naming import failures_named, named
from tood.detection.trial.scene import Scene, alone, moments, scene, trial_head
from tood.detection.trial.state import REMEMBERED, refuse_changes, refuse_draws, refuse_leaves, refuse_unfit
from tood.detection.trial.terms import (
    refuse_company,
    refuse_malformed,
    refuse_other_names,
    refuse_without_effect,
    when,
)
from tood.detection.trial.unread_targets import Callers, refuse_unread, unread
from tood.io.errors import UserError

_CLASSES = 20
"""Only own code can depend on how many there are."""


def try_method(method: MethodConfig, *, classes: int = 3, epochs: int = 12) -> list[str]:
    """Call a method's criterion on a few made-up objects, at several moments of a training of so many ``epochs``.

    Returns notes on what it gives and does not use. Raises UserError if it keeps state that no checkpoint knows, gives
    targets that no loss reads, or has terms, outputs or parameters that do not take part in the training. Everything
    is computed on the CPU with the method's own head in narrow; random generators are left as they were.
    """
    criterion = build_criterion(method)
    own = any(is_own(type(part)) for part in (criterion, *parts_of(criterion)))
    with undisturbed():
        return _Trial(method, criterion, classes if own else min(classes, _CLASSES), epochs, own=own).run()


class _Trial:
    def __init__(self, method: MethodConfig, criterion: Criterion, classes: int, epochs: int, *, own: bool) -> None:
        self.own = own
        self.criterion, self.classes = criterion, classes
        self.parts: list[Part] = [criterion, *parts_of(criterion)]
        self.callers = Callers(self.parts)
        self.head = trial_head(method.head, classes)
        self.moments = moments(epochs)

    def run(self) -> list[str]:
        start, *later = self.moments
        before = look(self.parts)
        refuse_unfit(before)
        first = self.call(scene(0, self.classes), start)
        snapshots = [before, look(self.parts)]
        again = self.call(first.scene, start)
        self.refuse_state(snapshots, [first])
        self.refuse_memory(first, again)
        calls = [first, *(self.call(scene(1, self.classes), moment) for moment in later)]
        empty = self.call(scene(2, self.classes, empty=True), start)
        self.refuse_state(snapshots, [*calls, empty])
        for cache in caches(self.parts):  # what was kept of the first call would be of another one after a stop
            cache.cache_clear()
        self.refuse_memory(calls[-1], self.call(calls[-1].scene, calls[-1].batch.progress))
        refuse_other_names(type(self.criterion), [*calls, empty])
        states = random_states()
        with failures_named(self.parts, "when its losses are differentiated"):
            refuse_without_effect(type(self.criterion), [*calls, empty], own=self.own)
        self.refuse_state(snapshots, [])  # by what the gradients called
        refuse_draws(type(self.criterion), drawn_since(states))
        for one in (calls[0], calls[-1]):
            together = one if self.criterion.over == "step" else self.each_a_group(one)
            refuse_company(type(self.criterion), together, self.image_by_image(together))
        self.callers.refuse_idle()
        return refuse_unread(self.criterion, self.parts, unread(self.criterion, calls))

    def call(self, shown: Scene, moment: Progress) -> Call:
        """One call, whose terms are well-formed."""
        objects = "objects" if shown.targets.boxes.shape[1] else "no object (batch.targets.with_a_slot() has a slot)"
        step = f"step {moment.step + 1} of {moment.total_steps}"
        with (
            failures_named(self.parts, f"on images with {objects}, {self.classes} classes, in {step},"),
            self.callers.watched(),
        ):
            found = call(self.criterion, self.head, shown, moment)
            refuse_malformed(type(self.criterion), found)
        return found

    def each_a_group(self, one: Call) -> Call:
        """The same with every image in a group of its own, which no other image may change."""
        groups = Groups(torch.arange(one.scene.images), one.scene.images, 1)
        batch = replace(one.batch, groups=groups)
        return replace(one, batch=batch, terms=self.criterion(batch))

    def image_by_image(self, together: Call) -> list[list[LossTerm]]:
        """The terms of each image, computed by itself."""
        with failures_named(self.parts, "on a single image"):
            return [self.criterion(alone(together.batch, image)) for image in range(together.scene.images)]

    def refuse_state(self, snapshots: Sequence[Snapshot], calls: Sequence[Call]) -> None:
        """Raise UserError for what the calls after these snapshots kept, drew or learned."""
        part, now = type(self.criterion), look(self.parts)
        refuse_unfit(now)
        refuse_changes([*snapshots, now])
        refuse_draws(part, [name for one in calls for name in one.drew])
        known = [*self.head.parameters(), *(feature for one in calls for feature in one.scene.features)]
        refuse_leaves(part, unknown_leaves([term for one in calls for term in one.terms], known), now)

    def refuse_memory(self, first: Call, again: Call) -> None:
        """Raise UserError if the same images did not get the same losses again."""
        if not same(first.said(), again.said()):
            raise UserError(
                f"{named(type(self.criterion))} gives the same images other losses when it sees them again, "
                f"{when(first)}: something that it uses remembers, but {REMEMBERED}."
            )
