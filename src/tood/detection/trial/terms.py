"""Refusal of loss terms that do not enter the loss as they are meant to, and of outputs that no term trains."""

from collections.abc import Iterator, Sequence

import torch

from tood.config.parts import Part
from tood.detection.criteria.base import LossTerm, combine
from tood.detection.trial.call import Call, arrives, gradients
from tood.detection.trial.naming import named
from tood.io.errors import UserError, listed

RESERVED = frozenset({"loss", "step", "epoch", "time", "lr", "images_per_second"})
"""Columns of a training's history besides the terms."""
_ROUNDING = 1e-3
_BOXES = ("boxes", "deltas", "bins")
_SPOKEN = {
    ("class_logits",): "class logits (predictions.class_logits)",
    ("alignment_logits",): "alignment logits (which predictions.scores() and log_probabilities() take in)",
    ("quality",): "quality logits (predictions.quality)",
    _BOXES: "boxes",
}


def refuse_malformed(part: type[Part], call: Call) -> None:
    """Raise UserError for terms with shapes, names or numbers that would be taken for something else."""
    terms, predictions = call.terms, call.batch.predictions
    if not isinstance(terms, list | tuple) or not terms or not all(isinstance(term, LossTerm) for term in terms):
        raise UserError(f"{named(part)} must return a list of LossTerm from losses, and at least one.")
    names = [term.name for term in terms]
    problems = [
        f"gives two terms the name '{name}', and one would replace the other; give each a name of its own"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    problems += [
        f"gives a term the name '{name}', which is a column of history.csv already; choose another, as in 'loss_cls'"
        for name in names
        if name in RESERVED or name.startswith("val_") or not name
    ]
    images, locations = predictions.boxes.shape[:2]
    slots = call.batch.targets.boxes.shape[1]
    for term in terms:
        problems += _malformed(term, images, {locations, slots, max(1, slots)})
    if not problems:
        problems += [
            f"gives the term '{name}' that divided by its normaliser is not finite {when(call)}; give it a "
            "floor or an epsilon"
            for name, loss in combine(terms).items()
            if not loss.isfinite()
        ]
    if problems:
        raise UserError(*(f"{named(part)} {problem}." for problem in problems))


def _malformed(term: LossTerm, images: int, lengths: set[int]) -> Iterator[str]:
    values, divisor, said = term.per_location, term.normaliser, f"gives the term '{term.name}'"
    if values.dim() != 2 or values.shape[0] != images or values.shape[1] not in lengths:
        yield (
            f"{said} per_location of shape {tuple(values.shape)}, which must be (images, locations) or (images, "
            "objects): neither summed nor broadcast"
        )
    elif not values.isfinite().all():
        yield f"{said} values that are not finite on ordinary objects, or on none at all"
    if tuple(divisor.shape) != (images,):
        yield f"{said} a normaliser of shape {tuple(divisor.shape)}, which must be (images,): what each contributes"
    elif not divisor.dtype.is_floating_point:
        yield f"{said} a normaliser of {divisor.dtype}, which must be a float; convert it with .to(dtype)"
    elif divisor.requires_grad:
        yield (
            f"{said} a normaliser with gradient, which would be lost, for processes add theirs up; detach it, or "
            "divide per_location itself"
        )
    elif not (divisor.isfinite() & (divisor >= 0)).all():
        yield f"{said} a normaliser of {float(divisor.min()):g}, which must be finite and not below 0"


def refuse_other_names(part: type[Part], calls: Sequence[Call]) -> None:
    """Raise UserError if the terms are not the same in every step."""
    first = [term.name for term in calls[0].terms]
    for call in calls[1:]:
        names = [term.name for term in call.terms]
        if names != first:
            raise UserError(
                f"{named(part)} returns the terms {', '.join(first)} {when(calls[0])}, but {', '.join(names)} "
                f"{when(call)}; return the same terms in every step, multiplied by 0 where they shall not count."
            )


def refuse_company(part: type[Part], together: Call, alone: Sequence[Sequence[LossTerm]]) -> None:
    """Raise UserError if images get other terms ``alone`` than together, or divisors."""
    problems = []
    for place, term in enumerate(together.terms):
        apart = torch.stack([terms[place].per_location.detach().sum() for terms in alone])
        shares = torch.cat([terms[place].normaliser for terms in alone])
        both = term.per_location.detach().sum(1)
        if not torch.allclose(apart, both, rtol=_ROUNDING, atol=_ROUNDING * float(both.abs().max())):
            problems.append(f"gives the term '{term.name}' values that depend on the images beside")
        elif not torch.allclose(shares, term.normaliser, rtol=_ROUNDING):
            problems.append(f"gives the term '{term.name}' a normaliser that depends on the images beside")
    if problems:
        remedy = (
            "so the number of processes would change the result; leave dividing to normaliser, which adds up what each "
            "image contributes, or compare the images of one group alone (batch.group_of()) and return 'group' from "
            "the property over"
        )
        raise UserError(*(f"{named(part)} {problem}, {remedy}." for problem in problems))


def refuse_without_effect(part: type[Part], calls: Sequence[Call], *, own: bool) -> None:
    """Raise UserError for outputs, parameters or features without gradient, and of ``own`` parts for terms without.

    A shipped criterion has such a term only where an option turns it off, which is how ablations are made.
    """
    problems = list(_idle_terms(calls)) if own else []
    untrained = list(_untrained_outputs(calls))
    problems += untrained or list(_unreached_parameters(calls))
    problems += _cut_features(calls)
    if problems:
        raise UserError(*(f"{named(part)} {problem}." for problem in problems))


def when(call: Call) -> str:
    progress = call.batch.progress
    objects = "" if call.batch.targets.boxes.shape[1] else ", in images without objects"
    return f"in epoch {progress.epoch + 1} (step {progress.step + 1} of {progress.total_steps}{objects})"


def _with_objects(calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.batch.targets.boxes.shape[1]]


def _idle_terms(calls: Sequence[Call]) -> Iterator[str]:
    shown = _with_objects(calls)
    for place, name in enumerate(term.name for term in calls[0].terms):
        values = [call.terms[place].per_location for call in shown]
        if not any(value.requires_grad for value in values):
            yield (
                f"returns the term '{name}' without gradient, so that it trains nothing; compute it from "
                "batch.predictions, neither detached nor within torch.no_grad()"
            )
        elif not any(value.any() for value in values):
            yield (
                f"returns the term '{name}' as 0 whatever the objects and predictions are; correct its formula or "
                "weight, or leave it out"
            )
        elif not any(
            arrives(one) for call in shown for one in gradients([call.terms[place]], list(call.outputs().values()))
        ):
            yield (
                f"returns the term '{name}' with a gradient of 0 for every output, so that it trains nothing; correct "
                "its formula, or leave it out"
            )


def _untrained_outputs(calls: Sequence[Call]) -> Iterator[str]:
    reached: set[str] = set()
    predicted = calls[0].outputs()
    for call in calls:
        reached |= {name for name in call.outputs() if arrives(call.reached[name])}
    for names, spoken in _SPOKEN.items():
        if any(name in predicted for name in names) and reached.isdisjoint(names):
            yield f"has no term that trains the head's {spoken}; add one, or choose a head without"


def _unreached_parameters(calls: Sequence[Call]) -> Iterator[str]:
    for call in calls:
        missing = [name for name in call.parameters if call.reached[name] is None]
        if missing:
            yield (
                f"leaves the detector's {listed(missing, 3)} without a gradient {when(call)}, which several processes "
                "cannot train; let every output take part in every step, multiplied by 0 where it shall not count"
            )
            return


def _cut_features(calls: Sequence[Call]) -> Iterator[str]:
    for call in calls:
        given = call.scene.features
        if all(ours is theirs for ours, theirs in zip(given, call.features, strict=True)):
            continue
        if not any(arrives(call.reached[f"feature {level}"]) for level in range(len(given))):
            yield (
                f"cuts the gradient in features {when(call)}, so that neck and backbone learn nothing; do not detach "
                "what it returns"
            )
            return
