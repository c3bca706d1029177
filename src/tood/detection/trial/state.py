"""Refusal of state: what a method would learn, draw or remember between steps without a checkpoint's knowing."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tood.config.parts import Part
from tood.detection.trial.kept import GENERATORS, Kept, Snapshot, changed, described
from tood.detection.trial.naming import named
from tood.io.errors import UserError

LEARNED = (
    "which no optimiser and no checkpoint knows, so that it would stay as it is; a learned value belongs to the "
    "detector's head, and one that stays is an option"
)
DRAWN = (
    "whose state no checkpoint keeps; draw from a torch.Generator that every call makes anew and seeds by "
    "batch.progress.step"
)
REMEMBERED = (
    "no checkpoint keeps it, so a training that was stopped would go on otherwise; what varies in time is a function "
    "of batch.progress, a running divisor is LossTerm.running, and functools.cache may keep what depends on sizes alone"
)


def refuse_unfit(snapshot: Snapshot) -> None:
    """Raise UserError for values that are state whatever they are used for."""
    found = [(kept, reason) for kept in snapshot.values() if (reason := _unfit(kept.value)) is not None]
    found.sort(key=lambda pair: len(pair[0].place))
    chosen: list[Kept] = []
    sentences = []
    for kept, reason in found:
        if not any(kept.value is one.value or _is_inside(kept, one) for one in chosen):
            chosen.append(kept)
            sentences.append(f"{named(kept.part)} holds {described(kept.value)} in {kept.place}, {reason}.")
    if sentences:
        raise UserError(*sentences)


def refuse_changes(snapshots: Sequence[Snapshot]) -> None:
    """Raise UserError for what differs between snapshots that were taken between calls."""
    found: dict[tuple[type[Part], str], Kept] = {}
    for index, before in enumerate(snapshots):
        for after in snapshots[index + 1 :]:
            for kept in changed(before, after):
                found.setdefault((kept.part, kept.place), kept)
    if found:
        raise UserError(*_remembered(found.values()))


def refuse_draws(part: type[Part], generators: Iterable[str]) -> None:
    """Raise UserError if a call drew from global generators."""
    names = sorted(set(generators))
    if names:
        raise UserError(f"{named(part)} draws from the global generator of {' and '.join(names)}, {DRAWN}.")


def refuse_leaves(part: type[Part], leaves: Sequence[Tensor], snapshot: Snapshot) -> None:
    """Raise UserError for tensors that a loss has a gradient for, though they are not the detector's."""
    if not leaves:
        return
    places = {id(kept.value): kept.place for kept in snapshot.values()}
    sentences = [
        f"{named(part)} has losses with a gradient for {described(leaf)}"
        f"{f' ({places[id(leaf)]})' if id(leaf) in places else ''}, {LEARNED}."
        for leaf in leaves
    ]
    raise UserError(*dict.fromkeys(sentences))


def _remembered(found: Iterable[Kept]) -> Iterator[str]:
    for kept in found:
        yield f"{named(kept.part)} changes {kept.place} ({described(kept.value)}) from step to step, and {REMEMBERED}."


def _is_inside(kept: Kept, outer: Kept) -> bool:
    return kept.part is outer.part and kept.place.startswith((f"{outer.place}.", f"{outer.place}["))


def _unfit(value: Any) -> str | None:
    if isinstance(value, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler):
        return "which no checkpoint keeps; the training has one optimiser, of the detector's parameters"
    if isinstance(value, nn.Module) and any(parameter.requires_grad for parameter in value.parameters()):
        return LEARNED
    if isinstance(value, Tensor) and value.is_leaf and value.requires_grad:
        return LEARNED
    if isinstance(value, GENERATORS):
        return DRAWN
    if isinstance(value, Iterator):
        return f"which remembers how far it was read, and {REMEMBERED}"
    return None
