"""How far rounding alone moves a result: the conditioning of each value.

The last bits of a float32 result depend on the processor. Two places in a head magnify them far beyond the tolerances:
group normalisation over two nearly equal values (P7 has one to four cells), and a rectifier whose input rounding takes
across zero, which adds or removes a whole path of the gradient. A wider tolerance for all would hide real errors, so a
value gets the room that it needs: how far it moves in float64 when features and weights change by some float32
roundings. That measures the mathematics and not the float32 computation that is being checked, and it is the same on
every processor.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from reference_check.rows import Arrays, Report, Tolerance, Values, as_array

PERTURBATION = 2.0**-22
"""Relative; four times what storing a number in float32 loses at most, as every layer rounds its own sums again."""
PATTERNS = 4
"""Of random signs, each taken both ways, so that a rectifier close to zero comes to lie on either side."""
MULTIPLE = 2
"""The recorded numbers are rounded as well as our own."""

Evaluation = Callable[[Report, nn.Module, Sequence[Tensor]], None]
"""Compares what a head makes of features."""


@dataclass
class _Kept(Report):
    """Keeps our own values instead of comparing them."""

    values: dict[str, list[Arrays]] = field(default_factory=dict)

    def compare_all(
        self, quantity: str, ours: Sequence[Values], expected: Sequence[Values], tolerance: Tolerance
    ) -> None:
        self.values[quantity] = [as_array(values) for values in ours]


def room_for_rounding(evaluate: Evaluation, head: nn.Module, features: Sequence[Tensor]) -> dict[str, list[Arrays]]:
    """By quantity that is compared: how far each of its values may be off for rounding alone."""
    exact = _evaluate(evaluate, head, features, 0.0, seed=0)
    room = {quantity: [np.zeros_like(values) for values in arrays] for quantity, arrays in exact.items()}
    for seed in range(PATTERNS):
        for step in (PERTURBATION, -PERTURBATION):
            moved = _evaluate(evaluate, head, features, step, seed)
            for quantity, arrays in room.items():
                for most, there, here in zip(arrays, moved[quantity], exact[quantity], strict=True):
                    change = MULTIPLE * np.abs(there - here)
                    np.maximum(most, np.where(np.isfinite(change), change, 0.0), out=most)
    return room


def _evaluate(
    evaluate: Evaluation, head: nn.Module, features: Sequence[Tensor], step: float, seed: int
) -> dict[str, list[Arrays]]:
    """The values in float64 with every number of features and weights changed by ``step``, relative, up or down."""
    generator = torch.Generator().manual_seed(seed)

    def perturbed(values: Tensor) -> Tensor:
        signs = torch.randint(0, 2, values.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return values.detach().double() * (1 + step * signs)

    head = deepcopy(head).double()
    for parameter in head.parameters():
        parameter.data = perturbed(parameter)
    kept = _Kept("perturbed")
    evaluate(kept, head, [perturbed(feature).requires_grad_() for feature in features])
    return kept.values
