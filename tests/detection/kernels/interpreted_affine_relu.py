"""The kernels of scale, shift, residual and ReLU in Triton's interpreter; ``test_affine_relu.py`` runs this file."""

import pytest
import torch
from torch import Tensor

from tood.detection.kernels import affine_relu_triton
from tood.detection.kernels.affine_relu import fused, plain

ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}
"""Relative to the norm of what is compared."""
INNERMOST = torch.channels_last


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return values.contiguous(memory_format=INNERMOST) if len(shape) == 4 else values


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm())


def assert_as_plain(
    shape: tuple[int, ...], dtype: torch.dtype, *, scaled: bool, added: bool, relu: bool, dy: Tensor | None = None
) -> None:
    """Output and gradients are those of the plain formula in float64, rounded."""
    channels = shape[1]
    x, shift = draw(*shape, seed=1, dtype=dtype), draw(channels, seed=2)
    scale = draw(channels, seed=3) if scaled else None
    residual = draw(*shape, seed=4, dtype=dtype) if added else None
    dy = draw(*shape, seed=5, dtype=dtype) if dy is None else dy
    ours = [None if one is None else one.requires_grad_() for one in (x, scale, shift, residual)]
    exact = [None if one is None else one.detach().double().requires_grad_() for one in ours]
    y, expected = fused(*ours, relu=relu), plain(*exact, relu=relu)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=INNERMOST)
    assert error(y.detach(), expected.detach()) < ROUNDING[dtype]
    inputs = [one for one in ours if one is not None]
    found = torch.autograd.grad(y, inputs, dy)
    right = torch.autograd.grad(expected, [one for one in exact if one is not None], dy.double())
    for tensor, gradient, other in zip(inputs, found, right, strict=True):
        assert gradient.dtype == tensor.dtype
        assert error(gradient, other) < ROUNDING[tensor.dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_as_the_plain_formula(dtype: torch.dtype, scaled: bool, added: bool, relu: bool) -> None:
    assert_as_plain((2, 32, 7, 5), dtype, scaled=scaled, added=added, relu=relu)


@pytest.mark.parametrize("shape", [(1, 64, 1, 1), (2, 96, 3, 4), (1, 300, 3, 3), (3, 256, 6, 5)])
def test_sizes(shape: tuple[int, ...]) -> None:
    for dtype in ROUNDING:
        assert_as_plain(shape, dtype, scaled=True, added=True, relu=True)


@pytest.mark.parametrize("programs", [1, 3])
def test_programs_share_the_rows_of_a_sum(programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles each, the last program fewer."""
    monkeypatch.setattr(affine_relu_triton, "_PROGRAMS", programs)
    assert_as_plain((2, 256, 8, 7), torch.float32, scaled=True, added=False, relu=True)


def test_gradients_of_any_layout() -> None:
    whole = draw(2, 64, 4, 3, seed=6)
    for dy in (whole[:, 32:], whole[:, 32:].contiguous(), whole[:, 32:, :1, :1].expand(2, 32, 4, 3)):
        assert_as_plain((2, 32, 4, 3), torch.float32, scaled=True, added=True, relu=True, dy=dy)


def test_values_that_are_no_numbers_stay_so() -> None:
    x = draw(1, 32, 2, 3, seed=7)
    x[0, 5, 1, 1] = torch.nan
    assert fused(x, None, torch.zeros(32), None, relu=True).isnan().nonzero().tolist() == [[0, 5, 1, 1]]


def test_the_shift_is_not_rounded_to_half_precision() -> None:
    """Added to maps that cancel it, its last digits remain, as they would not in half precision."""
    shift = torch.full((32,), 1 + 2.0**-12)
    x = torch.full((1, 32, 2, 2), -1.0, dtype=torch.bfloat16).contiguous(memory_format=INNERMOST)
    assert (fused(x, None, shift, None, relu=True) == 2.0**-12).all()


def test_the_operators_keep_pytorchs_rules() -> None:
    """Their schema, their gradients' registration, and what they say of fake tensors."""
    x, residual = (draw(2, 32, 3, 2, seed=seed).requires_grad_() for seed in (8, 9))
    scale, shift = (draw(32, seed=seed).requires_grad_() for seed in (10, 11))
    for inputs in ((x, scale, shift, residual, True), (x, None, shift, None, True)):
        torch.library.opcheck(torch.ops.tood.affine_relu.default, inputs)
    maps = [tensor.detach() for tensor in (x, residual)]
    for backward in ((*maps, x.detach(), scale.detach(), True), (*maps, None, None, True)):
        torch.library.opcheck(torch.ops.tood.affine_relu_backward.default, backward)


def test_kernels_are_interpreted_here() -> None:
    """Else nothing above has run a kernel of Triton's."""
    assert type(affine_relu_triton.affine).__name__ == "InterpretedFunction"
    assert type(affine_relu_triton.affine_gradients).__name__ == "InterpretedFunction"
