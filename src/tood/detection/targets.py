"""Targets: ground-truth objects of a batch of images in padded slots."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """Objects of B images in G padded slots, so that nothing downstream loops over images."""

    boxes: Tensor
    """(B, G, 4) pixels of the network input."""
    labels: Tensor
    """(B, G) int64 in 0 .. C - 1; anything in empty slots."""
    valid: Tensor
    """(B, G) bool, false for empty slots."""

    def with_a_slot(self) -> "Targets":
        """The same objects with at least one (empty) slot, which spares every user the case G = 0."""
        if self.boxes.shape[1] > 0:
            return self
        images = self.boxes.shape[0]
        return Targets(
            boxes=self.boxes.new_zeros(images, 1, 4),
            labels=self.labels.new_zeros(images, 1),
            valid=torch.zeros(images, 1, dtype=torch.bool, device=self.valid.device),
        )

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4) and labels (B, N) of the objects ``index`` (B, N); -1 gives an arbitrary one."""
        index = index.clamp(min=0)
        boxes = self.boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return boxes, self.labels.gather(1, index)
