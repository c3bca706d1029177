"""Scale, shift, residual and ReLU: the plain formula, which way maps go, and that the kernels agree."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tood.detection.kernels import affine_relu as module
from tood.detection.kernels import rows
from tood.detection.kernels.affine_relu import affine_relu

HALF = torch.bfloat16


def test_the_kernels_agree_with_the_plain_formula(run_file: Callable[..., None]) -> None:
    run_file("interpreted_affine_relu.py", TRITON_INTERPRET="1")


def test_the_formula() -> None:
    x = torch.tensor([[[[1.0, -2.0]], [[3.0, 4.0]]]])
    scale, shift, residual = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.5]), torch.ones(1, 2, 1, 2)
    assert affine_relu(x, scale, shift, relu=False).tolist() == [[[[3.0, -3.0]], [[-2.5, -3.5]]]]
    assert affine_relu(x, scale, shift).tolist() == [[[[3.0, 0.0]], [[0.0, 0.0]]]]
    assert affine_relu(x, scale, shift, 5 * residual).tolist() == [[[[8.0, 2.0]], [[2.5, 1.5]]]]
    assert affine_relu(x, None, shift, residual).tolist() == [[[[3.0, 0.0]], [[4.5, 5.5]]]]


def test_half_precision_is_rounded_once() -> None:
    x = torch.full((1, 1, 1, 1), -1.0, dtype=HALF)
    y = affine_relu(x, None, torch.tensor([1 + 2.0**-12]))
    assert y.dtype == HALF
    assert y.item() == 2.0**-12


def test_float64_stays_so() -> None:
    x = torch.full((1, 1, 1, 1), 1 / 3, dtype=torch.float64)
    assert affine_relu(x, None, torch.tensor([1.0], dtype=torch.float64)).item() == 1 + 1 / 3


def other(x: Tensor, change: str) -> Tensor | None:
    match change:
        case "none":
            return None
        case "alike":
            return torch.empty_like(x)
        case "channels outermost":
            return x.contiguous()
        case "another format":
            return x.float()
        case "broadcast":
            return x[:, :, :1, :1]
        case _:
            return x[:, :, :, :1].expand_as(x)


@pytest.mark.parametrize(
    ("residual", "runs"),
    [
        ("none", True),
        ("alike", True),
        ("channels outermost", False),
        ("another format", False),
        ("broadcast", False),
        ("expanded", False),
    ],
)
def test_the_kernel_takes_residuals_like_the_maps(residual: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(rows, "HAS_TRITON", True)
    kernel = module.fused
    monkeypatch.setattr(module, "fused", lambda *inputs, relu: (taken.append(1), kernel(*inputs, relu=relu))[1])
    with FakeTensorMode():
        x = torch.empty(2, 64, 5, 7, device="cuda", dtype=HALF).to(memory_format=torch.channels_last)
        x.requires_grad_()
        shift = torch.empty(64, device="cuda", requires_grad=True)
        y = affine_relu(x, None, shift, other(x, residual))
    assert bool(taken) == runs
    assert (y.shape, y.dtype, y.device.type) == (x.shape, HALF, "cuda")
    assert y.requires_grad
    if runs:
        assert y.stride() == x.stride()


def test_maps_in_the_middle_of_wider_ones_go_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are rows as for a group normalisation, but not one behind the other in memory."""
    monkeypatch.setattr(rows, "HAS_TRITON", True)
    monkeypatch.setattr(module, "fused", lambda *_, **__: pytest.fail("took the kernel"))
    with FakeTensorMode():
        wide = torch.empty(2, 128, 5, 7, device="cuda", dtype=HALF).to(memory_format=torch.channels_last)
        assert affine_relu(wide[:, :64], None, torch.empty(64, device="cuda")).shape == (2, 64, 5, 7)
