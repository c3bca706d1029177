"""One call of a criterion on a scene: its terms, where their gradients arrive, and whether it draws random numbers."""

import pickle
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from tood.detection.criteria.base import Criterion, LossTerm
from tood.detection.training_batch import Progress, TrainingBatch
from tood.detection.trial.naming import named
from tood.detection.trial.scene import PER_IMAGE, Scene
from tood.io.errors import UserError


@dataclass(frozen=True, eq=False)
class Call:
    """What a criterion made of a scene."""

    scene: Scene
    batch: TrainingBatch
    features: tuple[Tensor, ...]
    """As the head got them."""
    terms: list[LossTerm]
    drew: tuple[str, ...]
    """The global random generators that it drew from."""
    parameters: dict[str, nn.Parameter]
    """Of the head, by their names in the detector."""

    def outputs(self) -> dict[str, Tensor]:
        """What the head predicts, by the name in ``Predictions``."""
        values = {name: getattr(self.batch.predictions, name) for name in PER_IMAGE}
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def reached(self) -> dict[str, Tensor | None]:
        """The gradient of all terms by output, parameter and ``feature <level>``; None where it is no part of them."""
        features = {f"feature {level}": feature for level, feature in enumerate(self.scene.features)}
        inputs = {**self.outputs(), **self.parameters, **features}
        return dict(zip(inputs, gradients(self.terms, list(inputs.values())), strict=True))

    def said(self) -> list[tuple[str, Tensor, Tensor]]:
        """The terms without gradient."""
        return plain(self.terms)


def call(criterion: Criterion, head: nn.Module, scene: Scene, progress: Progress) -> Call:
    """Call it as a training step does; UserError if it changes more of the features than values."""
    before = random_states()
    features = tuple(criterion.features(list(scene.features), progress))
    given, returned = ([tuple(one.shape) for one in maps] for maps in (scene.features, features))
    if given != returned:
        raise UserError(
            f"{named(type(criterion))} returns features of the shapes {returned}, but was given {given}; change their "
            "values alone."
        )
    batch = scene.batch(head(features), progress)
    terms = criterion(batch)
    drew = drawn_since(before)
    parameters = dict(head.named_parameters(prefix="bbox_head"))
    return Call(scene, batch, features, terms, drew, parameters)


def plain(terms: Sequence[LossTerm]) -> list[tuple[str, Tensor, Tensor]]:
    """Name, values and divisor of terms, without gradient."""
    return [(term.name, term.per_location.detach(), term.normaliser.detach()) for term in terms]


def same(first: Sequence[tuple[str, Tensor, Tensor]], second: Sequence[tuple[str, Tensor, Tensor]]) -> bool:
    """Whether two calls said the same to the last bit."""
    if [name for name, *_ in first] != [name for name, *_ in second]:
        return False
    pairs = [
        pair for ours, theirs in zip(first, second, strict=True) for pair in zip(ours[1:], theirs[1:], strict=True)
    ]
    return all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def unknown_leaves(terms: Sequence[LossTerm], known: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that the terms have a gradient for, and that are none of the ``known``."""
    numbers = {id(one) for one in known}
    values = [term.per_location for term in terms]
    found = [value for value in values if value.is_leaf and value.requires_grad and id(value) not in numbers]
    waiting = [value.grad_fn for value in values if value.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and id(leaf) not in numbers:
            found.append(leaf)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def gradients(terms: Sequence[LossTerm], inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradients of the sum of some terms; None where the input is no part of it."""
    sums = [term.per_location.sum() for term in terms if term.per_location.requires_grad]
    if not sums:
        return [None] * len(inputs)
    total = torch.stack([one.to(sums[0].dtype) for one in sums]).sum()
    return list(torch.autograd.grad(total, list(inputs), retain_graph=True, allow_unused=True))


def arrives(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave torch's, NumPy's and Python's generators and the number of threads as they were.

    One thread, because some sums of several depend on which is first.
    """
    threads, of_torch, of_numpy, of_python = (
        torch.get_num_threads(),
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
    )
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def drawn_since(before: Mapping[str, object]) -> tuple[str, ...]:
    """The global generators that are no longer in these states."""
    after = random_states()
    return tuple(name for name, state in before.items() if state != after[name])


def random_states() -> dict[str, object]:
    """The states of the global generators by the name of their library."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": pickle.dumps(np.random.get_state()),
        "random": random.getstate(),
    }
