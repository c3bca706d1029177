"""The k largest values, of equal ones those that come first: the same choice on every device and in every version."""

import torch
from torch import Tensor


def top_first(values: Tensor, k: int, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) of the last dimension, best first, and their indices: (..., n) -> (..., k) each.

    Of equal values the lower index comes first, and nothing is not a number. ``Tensor.topk`` leaves the choice open,
    and CPUs and GPUs choose differently; on a regular grid about half of all objects have equally good anchors at the
    end of their bag, and the choice changes a loss in its third digit.
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
