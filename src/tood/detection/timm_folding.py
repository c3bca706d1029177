"""Folding of batch normalisations with frozen statistics into the convolutions of timm's models (see ``folding``).

timm's models call their layers themselves, so the two layers change their behaviour in place: a convolution applies
the normalisation behind it, which then applies its activation alone.
"""

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tood.detection.folding import folded_into


def fold(conv: nn.Module, norm: nn.Module) -> None:
    """Fold a batch normalisation into the convolution before it wherever it uses its running statistics.

    Both keep their names and parameters. Modules of other kinds stay as they are.
    """
    if type(conv) in _FOLDED and type(norm) in _FOLDED:
        conv.__class__, norm.__class__ = _FOLDED[type(conv)], _FOLDED[type(norm)]
        assert isinstance(conv, _FoldingConv)
        assert isinstance(norm, _BatchNorm)
        conv.behind = (norm,)


def _uses_running_statistics(norm: _BatchNorm, x: Tensor) -> bool:
    """Whether it is folded; not under autocast, which would round the shift to half precision."""
    return not norm.training and not torch.is_autocast_enabled(x.device.type)


class _FoldingConv(nn.Conv2d):
    """A convolution that applies the batch normalisation behind it."""

    behind: tuple[_BatchNorm]
    """In a tuple, so that it is no part of this module."""

    def forward(self, x: Tensor) -> Tensor:
        (norm,) = self.behind
        if not _uses_running_statistics(norm, x):
            return super().forward(x)
        out: Tensor = self._conv_forward(self.padded(x), *folded_into(self, norm))
        return out

    def padded(self, x: Tensor) -> Tensor:
        return x


class _FoldingConvSame(_FoldingConv, Conv2dSame):
    """The same with TensorFlow's padding."""

    def padded(self, x: Tensor) -> Tensor:
        padded: Tensor = pad_same(x, list(self.weight.shape[-2:]), list(self.stride), list(self.dilation))
        return padded


class _FoldedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return x if _uses_running_statistics(self, x) else super().forward(x)


class _FoldedNormAct(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        if not _uses_running_statistics(self, x):
            normalised: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return normalised
        active: Tensor = self.act(self.drop(x))
        return active


_FOLDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _FoldingConv,
    Conv2dSame: _FoldingConvSame,
    nn.BatchNorm2d: _FoldedNorm,
    BatchNormAct2d: _FoldedNormAct,
}
