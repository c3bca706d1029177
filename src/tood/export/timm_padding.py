"""TensorFlow's padding in timm's convolutions, which depends on the size of a map, as constants.

The sides of the input are multiples of 32, so those of every map are multiples of the strides that are left. Then what
the padding depends on cancels. Traced with sides of any length, it would be a formula that grows from layer to layer.
"""

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from tood.detection.timm_folding import _FoldingConvSame


def pad_by_constants(backbone: nn.Module) -> None:
    """Change the convolutions of a backbone in place; their outputs stay the same."""
    for module in backbone.modules():
        if type(module) in _CONSTANT:
            module.__class__ = _CONSTANT[type(module)]


def _padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    spans = [
        max(dilation * (kernel - 1) + 1 - stride, 0)
        for kernel, stride, dilation in zip(conv.weight.shape[-2:], conv.stride, conv.dilation, strict=True)
    ]
    (top, bottom), (left, right) = ((span // 2, span - span // 2) for span in spans)
    return F.pad(x, (left, right, top, bottom))


class _ConstantSame(Conv2dSame):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(_padded(self, x), self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class _ConstantFoldingSame(_FoldingConvSame):
    def padded(self, x: Tensor) -> Tensor:
        return _padded(self, x)


_CONSTANT: dict[type[nn.Module], type[nn.Module]] = {
    Conv2dSame: _ConstantSame,
    _FoldingConvSame: _ConstantFoldingSame,
}
