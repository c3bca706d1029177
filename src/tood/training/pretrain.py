"""Pretraining of a backbone by classifying generated crops, as a substitute for ImageNet weights."""

import logging
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tood.config.backbone import PixelsConfig, PretrainingConfig
from tood.data.normalisation import normalise
from tood.detection.backbones import Backbone
from tood.detection.number_format import autocast

log = logging.getLogger(__name__)


class _Classifier(nn.Module):
    """A linear read-out of every pyramid input, so that C3 and C4 learn to tell classes apart too."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.readouts = nn.ModuleList(nn.Linear(channels, classes) for channels in backbone.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,H,W) -> logits (L,B,K) of each of L levels."""
        features = self.backbone(images)
        pooled = [feature.float().mean((2, 3)) for feature in features]
        return torch.stack([readout(pool) for readout, pool in zip(self.readouts, pooled, strict=True)])


def pretrain_backbone(
    backbone: Backbone,
    crops: Tensor,
    labels: Tensor,
    config: PretrainingConfig,
    pixels: PixelsConfig,
    precision: str,
) -> float:
    """Train ``backbone`` in place to tell the classes of crops apart.

    crops (n,3,S,S) uint8, labels (n,). One cycle of SGD with a cosine rate; flips are the only augmentation,
    since crops are drawn afresh as often as one likes. Returns the accuracy over the last tenth of the steps.
    """
    classes = int(labels.max()) + 1
    model = _Classifier(backbone, classes).train()
    optimiser = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, weight_decay=1e-4, nesterov=True, fused=True
    )
    steps = config.epochs * (len(crops) // config.batch)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=config.lr, total_steps=steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(config.seed)
    device = torch.device("cpu")
    hits: list[Tensor] = []
    printed = time.monotonic()
    step = 0
    for _ in range(config.epochs):
        order = torch.randperm(len(crops), generator=generator)
        for start in range(0, len(order) - config.batch + 1, config.batch):
            chosen = order[start : start + config.batch]
            images = normalise(crops[chosen], pixels)
            if torch.rand((), generator=generator) < 0.5:
                images = images.flip(3)
            with autocast(device, precision):
                logits = model(images)
            target = labels[chosen]
            loss = torch.stack([F.cross_entropy(level, target) for level in logits.float()]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            scheduler.step()
            hits.append((logits[-1].argmax(1) == target).float().mean())
            step += 1
            if time.monotonic() - printed > 5:
                printed = time.monotonic()
                recent = torch.stack(hits[-20:]).mean()
                log.info("backbone        step %d/%d  accuracy %.3f", step, steps, recent)
    return float(torch.stack(hits[-max(1, steps // 10) :]).mean())
