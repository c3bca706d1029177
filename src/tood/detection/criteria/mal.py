"""Multiple anchor learning (MAL; Ke et al. 2020): selection of fewer and fewer anchors of a bag, feature depression."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tood.config.base import PositiveInt
from tood.detection.criteria.free_anchor import BagCriterion
from tood.detection.predictions import at_least_float32
from tood.detection.training_batch import Progress

STAIRCASE = (0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0)
"""Tenths of the positions that are depressed, for equal parts of the training."""


class Mal(BagCriterion):
    """FreeAnchor's losses with selection and depression, as far as MAL can be recovered.

    From the released code: FreeAnchor's losses and their constants, bags of 40, a prior probability of 0.02, and
    the feature depression with its staircase of ratios. It learns from whole bags (``selection: whole_bag``).

    From the paper: the selection "all to top-1", phi(t) = |A| (1 - t / T) + 1 anchors of a bag by joint
    confidence. The paper leaves open how phi is rounded and where t ends; here it is rounded down and t / T reaches
    1 in the last step, so that phi falls from all of the bag to the best anchor alone.

    Not recovered: the loss of the paper over selected anchors, and how it combines the two confidences. Here it is
    FreeAnchor's mean-max over the selected ones, by P_cls * P_loc; the negative loss does not know of the selection.
    The paper reports bags of 50.
    """

    kind: str = "mal"
    bag: PositiveInt = Field(40, description="Anchors of largest overlap in an object's bag.")
    selection: Literal["all_to_top1", "whole_bag"] = Field(
        "all_to_top1", description="Fewer and fewer anchors of a bag until the best is left; or always all."
    )
    depression: bool = Field(True, description="Weaken the features that respond most, most so half-way through.")

    def program(self, progress: Progress, locations: int) -> tuple[int, int]:
        tenths = depressed_tenths(progress) if self.depression else 0
        if self.selection == "whole_bag":
            return 0, tenths
        # How many are selected of a bag that is not full depends on how many are in it.
        return selected(self.bag, progress) if self.bag <= locations else progress.step, tenths

    def chosen(self, log_joint: Tensor, progress: Progress) -> Tensor:
        if self.selection == "whole_bag":
            return log_joint
        return log_joint.topk(selected(log_joint.shape[2], progress), dim=2).values

    def features(self, features: Sequence[Tensor], progress: Progress) -> Sequence[Tensor]:
        if not self.depression:
            return features
        return [depress(feature, depressed_tenths(progress)) for feature in features]


def selected(bag: int, progress: Progress) -> int:
    """phi(t): how many anchors of a bag are learned from; all in the first step, one in the last."""
    last = progress.total_steps - 1
    if progress.step >= last:
        return 1
    return min(bag, bag * (last - progress.step) // last + 1)


def depressed_tenths(progress: Progress) -> int:
    """The share of positions that are depressed, in tenths."""
    part = progress.step * len(STAIRCASE) // max(1, progress.total_steps)
    return STAIRCASE[min(part, len(STAIRCASE) - 1)]


def depress(feature: Tensor, tenths: int) -> Tensor:
    """A quarter of the feature (B, C, h, w) at the strongest positions of every image, all of it elsewhere.

    Strength is sum over c of f_c * mean of f_c over the map; the given share of positions, rounded down, is
    depressed, less those that are as strong as the first that is not.
    """
    count = feature.shape[2] * feature.shape[3] * tenths // 10
    if count == 0:
        return feature
    # Under autocast the product would be rounded to bf16, in which many positions are equally strong.
    with torch.no_grad(), torch.autocast(feature.device.type, enabled=False):
        full = at_least_float32(feature.detach())
        strength = torch.einsum("bchw,bc->bhw", full, full.mean(dim=(2, 3)))
        strongest = strength.flatten(1).topk(count + 1, dim=1).values
        kept = (strength <= strongest[:, -1, None, None])[:, None]
    return torch.where(kept, feature, feature / 4)
