"""Dense predictions: class logits, boxes and further outputs of a head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tood.detection.boxes import DeltaStds
from tood.detection.points import Points


@dataclass(frozen=True, eq=False)
class AlignmentDetails:
    """Inner quantities of the T-head, for analysis and reference checks."""

    cls_attention: Tensor
    """(L, B, S) layer attention of the classification branch for L levels and S stacked layers."""
    reg_attention: Tensor
    """(L, B, S) the same of the regression branch."""
    offsets: tuple[Tensor, ...]
    """Per level (B, 8, h, w) sampling offsets in cells; channel 2k is dy, 2k + 1 is dx of coordinate k."""
    boxes_before_sampling: Tensor
    """(B, N, 4) pixels."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Dense predictions for B images at N locations (or their anchors) of all levels, in at least float32."""

    points: Points
    class_logits: Tensor
    """(B, N, C) one independent logit per class."""
    boxes: Tensor
    """(B, N, 4) pixels of the network input, neither clipped nor filtered."""
    alignment_logits: Tensor | None = None
    """(B, N) T-head's task alignment M: score = sqrt(sigmoid(class) * sigmoid(alignment))."""
    quality: Tensor | None = None
    """(B, N) logit by which the class score is multiplied at test time (centerness), or ranked with (IoU in PAA)."""
    deltas: Tensor | None = None
    """(B, N, 4) anchor deltas, where the head represents boxes so."""
    delta_stds: DeltaStds | None = None
    """What the deltas are multiplied by when they are decoded."""
    bins: Tensor | None = None
    """(B, N, 4, K) logits over distances 0 .. K - 1 in strides, where the head represents boxes so."""
    alignment: AlignmentDetails | None = None

    def log_probabilities(self) -> tuple[Tensor, Tensor]:
        """log p and log(1 - p) of every class, (B, N, C) each, finite and with live gradients everywhere.

        With p^2 = s(x) s(y) for the two logits, 1 - p^2 = s(-x) + s(x) s(-y) is a sum of positive terms and
        1 - p = (1 - p^2) / (1 + p): nothing cancels, however extreme the logits are.
        """
        log_hit = F.logsigmoid(self.class_logits)
        log_miss = F.logsigmoid(-self.class_logits)
        if self.alignment_logits is None:
            return log_hit, log_miss
        alignment = self.alignment_logits[..., None]
        log_score = (log_hit + F.logsigmoid(alignment)) / 2
        log_miss = torch.logaddexp(log_miss, log_hit + F.logsigmoid(-alignment)) - log_score.exp().log1p()
        return log_score, log_miss

    @torch.no_grad()
    def best_scores(self) -> Tensor:
        """The highest class probability of every location, (B, N), without gradient."""
        return replace(self, class_logits=self.class_logits.amax(dim=2, keepdim=True)).scores().squeeze(2)

    def scores(self) -> Tensor:
        """Class probabilities (B, N, C)."""
        if self.alignment_logits is None:
            return self.class_logits.sigmoid()
        return ((F.logsigmoid(self.class_logits) + F.logsigmoid(self.alignment_logits)[..., None]) / 2).exp()


def flatten_levels(maps: Sequence[Tensor], anchors: int = 1) -> Tensor:
    """Maps (B, A * D, h, w) of all levels -> (B, N, D), the A anchors of a location one after the other."""
    levels = [m.permute(0, 2, 3, 1).flatten(1, 2) for m in maps]  # views where the channels lie innermost
    return torch.cat([torch.unflatten(level, 2, (anchors, -1)).flatten(1, 2) for level in levels], dim=1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Leave float64 and float32 as they are; raise half precisions to float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
