"""The order of equal values, the same on every device and in every version: the first ones are better.

``Tensor.topk`` leaves open which of several equal values it takes, and CPUs and GPUs choose differently. On a regular
grid about half of all objects have equally good anchors at the end of their bag, and the choice changes a loss in its
third digit; of scores that were bfloat16 many are equal.
"""

import torch
from torch import Tensor


def top_first(values: Tensor, k: int, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) of the last dimension, best first, and their indices: (..., n) -> (..., k) each.

    Of equal values the lower index comes first. Where something is not a number, some are given.
    """
    length = values.shape[-1]
    best, index = values.topk(k, dim=-1, largest=largest)
    last = best[..., -1:]
    places = torch.arange(length, 0, -1, dtype=torch.int32, device=values.device)
    first = length - torch.where(values == last, places, 0).topk(k, dim=-1).values
    tied = best == last  # the last ones
    earlier = (~tied).sum(dim=-1, keepdim=True)
    nth = (torch.arange(k, device=values.device) - earlier).clamp(min=0)
    index = torch.where(tied, first.gather(-1, nth).long(), index).sort(dim=-1).values
    ordered = values.gather(-1, index).sort(dim=-1, descending=largest, stable=True)
    return ordered.values, index.gather(-1, ordered.indices)


def best_first(scores: Tensor, count: int, places: Tensor | None = None) -> Tensor:
    """Indices (..., min(count, n)) of the highest scores (..., n), best first and equal ones by their places.

    ``places`` (..., n) are int64 in [0, 2^32) and differ, by default the indices themselves. Scores are not negative,
    but for one common value below all others. Reads no value.
    """
    count = min(count, scores.shape[-1])
    if places is None:
        places = torch.arange(scores.shape[-1], device=scores.device)
    if scores.dtype == torch.float32:
        # As integers, the bits of numbers that are not negative are in the order of the numbers.
        keys = scores.view(torch.int32).long() * 2**32 - places
        return keys.topk(count).indices
    by_place = places.expand_as(scores).argsort(dim=-1)
    order = scores.gather(-1, by_place).sort(dim=-1, descending=True, stable=True).indices
    return by_place.gather(-1, order[..., :count])
