"""The order of scores, the same on every device: equal scores in the order of their places."""

import torch
from torch import Tensor


def best_first(scores: Tensor, count: int, places: Tensor | None = None) -> Tensor:
    """Indices (..., min(count, n)) of the highest scores (..., n), best first and equal ones by their places.

    ``places`` (..., n) are int64 in [0, 2^32) and differ, by default the indices themselves. Which of several equal
    values torch's own ``topk`` takes is not defined, and with logits of bfloat16 many are equal. Scores are not
    negative, but for one common value below all others. Reads no value.
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
