"""All kernels compile for a GPU, which needs none: the interpreter takes Python that Triton's compiler refuses.

``test_compilation.py`` runs this file.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from tood.detection.kernels import affine_relu_triton, group_norm_relu_backward_triton, group_norm_relu_triton

HALF, SINGLE = torch.bfloat16, torch.float32


class NoGpu:
    """Stands for the driver of one of Nvidia's generation Hopper."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The PTX of every kernel that is launched, by its name; nothing runs."""
    found: dict[str, str] = {}
    run = JITFunction.run

    def only_compile(kernel: Any, *arguments: Any, warmup: bool, **options: Any) -> None:
        found[kernel.__name__] = run(kernel, *arguments, warmup=True, **options).asm["ptx"]

    monkeypatch.setattr(JITFunction, "run", only_compile)
    driver.set_active(NoGpu())
    yield found
    for name, ptx in found.items():
        assert not re.search(r"\b(ld|st)\.local", ptx), f"{name} spills registers"
        assert not re.search(r"\b(atom|red)\.", ptx), f"{name} adds in no fixed order"


def maps(channels: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros(2, channels, 5, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("twice", [False, True])
def test_group_normalisation(dtype: torch.dtype, twice: bool, compiled: dict[str, str]) -> None:
    x, weight, statistics = maps(256, dtype), torch.zeros(256), torch.zeros(2, 2, 32)
    slot = maps(512, dtype)[:, 256:] if twice else None
    group_norm_relu_triton.forward(x, weight, weight, groups=32, eps=1e-5, relu=True, slot=slot)
    group_norm_relu_backward_triton.backward(x, x, weight, weight, statistics, groups=32, relu=True, slot=slot)
    assert len(compiled) == 6
    for name in ("normalise", "input_gradient"):
        assert re.search(r"ld\.global\S*\.v4", compiled[name])
        assert re.search(r"st\.global\S*\.v4", compiled[name])


def test_group_normalisation_of_few_channels(compiled: dict[str, str]) -> None:
    """Sizes that are 1 or no power of two, which Triton treats apart."""
    for channels, groups in ((1, 1), (96, 8), (32, 32)):
        x, weight = torch.zeros(1, channels, 1, 1), torch.zeros(channels)
        group_norm_relu_triton.forward(x, weight, weight, groups=groups, eps=1e-5, relu=False)
        statistics = torch.zeros(2, 1, groups)
        group_norm_relu_backward_triton.backward(x, x, weight, weight, statistics, groups=groups, relu=False)
    assert len(compiled) == 6


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_affine_maps(dtype: torch.dtype, scaled: bool, added: bool, relu: bool, compiled: dict[str, str]) -> None:
    x, shift = maps(64, dtype), torch.zeros(64)
    scale, before = (shift, x) if scaled else (None, None)
    affine_relu_triton.forward(x, scale, shift, x if added else None, relu=relu)
    affine_relu_triton.backward(x, x if relu else None, before, scale, residual=added)
    assert len(compiled) == 2
    for ptx in compiled.values():
        assert re.search(r"ld\.global\S*\.v4", ptx)
        assert re.search(r"st\.global\S*\.v4", ptx)
