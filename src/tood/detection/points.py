"""The locations at which a dense detector predicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from tood.data.transforms import PAD_MULTIPLE

STRIDES = (8, 16, 32, 64, 128)
ANCHOR_SCALE = 8


@dataclass(frozen=True, eq=False)
class Points:
    """Locations of all pyramid levels, P3 first, row-major inside a level.

    The location of row r and column c at stride s lies at (c * s, r * s): there is no half-cell shift.
    """

    centres: Tensor
    """(N, 2) x and y in pixels."""
    strides: Tensor
    """(N,) in pixels, same dtype as the centres."""
    level_sizes: tuple[tuple[int, int], ...]
    """(h, w) of every level's map."""

    @property
    def level_counts(self) -> list[int]:
        return [height * width for height, width in self.level_sizes]

    def split(self, values: Tensor, dim: int = 1) -> tuple[Tensor, ...]:
        """Cut a tensor with all locations along ``dim`` into one per level."""
        return torch.split(values, self.level_counts, dim)

    @cached_property
    def anchors(self) -> Tensor:
        """(N, 4) square anchors of side 8 * stride around the centres."""
        with torch.inference_mode(False):
            half = (self.strides * (ANCHOR_SCALE / 2))[:, None]
            return torch.cat([self.centres - half, self.centres + half], dim=1)


@lru_cache(maxsize=512)
def make_points(
    level_sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> Points:
    """Locations for maps of the given (h, w); one shared object per size, device and dtype.

    Made on the device itself: nothing waits for a copy. The cache holds every size that scale jitter yields
    (about 0.6 MB each for a full-size image).
    """
    # A cached tensor made in inference mode could never be used in training.
    with torch.inference_mode(False):
        centres, steps = [], []
        for (height, width), stride in zip(level_sizes, strides, strict=True):
            rows = torch.arange(height, device=device)[:, None].expand(height, width)
            columns = torch.arange(width, device=device)[None, :].expand(height, width)
            centres.append(torch.stack([columns, rows], dim=-1).reshape(-1, 2) * stride)
            steps.append(torch.full((height * width,), stride, device=device, dtype=dtype))
        return Points(centres=torch.cat(centres).to(dtype), strides=torch.cat(steps), level_sizes=level_sizes)


def points_of(maps: Sequence[Tensor], strides: tuple[int, ...], dtype: torch.dtype) -> Points:
    """Locations of feature maps (B, C, h, w)."""
    sizes = tuple((int(m.shape[-2]), int(m.shape[-1])) for m in maps)
    return make_points(sizes, strides, maps[0].device, dtype)


def valid_points(points: Points, sizes: Tensor) -> Tensor:
    """(B, N) bool: the locations that lie in an image's own padding to multiples of 32.

    ``sizes`` (B, 2) are the (h, w) of the resized, un-padded images. Locations further out exist only
    because another image of the batch is larger; they take no part in assignment or loss.
    """
    padded = (sizes + (PAD_MULTIPLE - 1)) // PAD_MULTIPLE * PAD_MULTIPLE
    limit = padded.flip(-1).to(points.centres.device)
    return (points.centres[None] < limit[:, None]).all(dim=-1)
