"""Number formats in which a detector's convolutions and matrix products are computed.

``float32`` is IEEE's on every device, so that a GPU and a CPU agree to rounding. GPUs have a faster one, TF32, with ten
bits instead of 23 for what is multiplied; PyTorch takes it for convolutions unless told otherwise. It is never meant by
``float32`` here, but has to be asked for as ``tf32``.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

NumberFormat = Literal["float32", "tf32", "bf16"]


def allow_tf32(allowed: bool) -> None:
    """Let float32 convolutions and matrix products use TF32 on GPUs that have it, from now on, or not."""
    _switch(["tf32" if allowed else "ieee"] * len(_operations()))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast when asked for; head mathematics stays in float32 by itself."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def number_format(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in this format until the end of the block; a CPU, which has no TF32, takes float32 for it."""
    before = [operations.fp32_precision for operations in _operations()]
    allow_tf32(precision == "tf32")
    try:
        with autocast(device, precision):
            yield
    finally:
        _switch(before)


def computed_in(precision: str, device: torch.device) -> str:
    """The format that ``number_format`` computes in on this device."""
    return "float32" if precision == "tf32" and device.type != "cuda" else precision


def _switch(values: Sequence[str]) -> None:
    # PyTorch's older switches, which its compiler still reads, first: reading them is an error where they differ.
    products, convolutions, _ = values
    torch.backends.cuda.matmul.allow_tf32 = products == "tf32"
    torch.backends.cudnn.allow_tf32 = convolutions == "tf32"
    for operations, value in zip(_operations(), values, strict=True):
        operations.fp32_precision = value


def _operations() -> list[Any]:
    """Matrix products, convolutions, recurrent layers."""
    cudnn: Any = torch.backends.cudnn
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
