"""The kernels of group normalisation with ReLU in Triton's interpreter; ``test_group_norm_relu.py`` runs this file."""

import pytest
import torch
from torch import Tensor, nn

from tood.detection.kernels import feature_stack, group_norm_relu_backward_triton, group_norm_relu_triton, rows
from tood.detection.kernels.feature_stack import FeatureStack
from tood.detection.kernels.group_norm_relu import fused, plain

ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}
"""Relative to the norm of what is compared."""
INNERMOST = torch.channels_last


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return values.contiguous(memory_format=INNERMOST) if len(shape) == 4 else values


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm())


def assert_as_plain(x: Tensor, dy: Tensor, *, groups: int, relu: bool = True, eps: float = 1e-5) -> None:
    """Output and gradients are those of the plain formula in float64, rounded."""
    channels = x.shape[1]
    inputs = [x.detach(), draw(channels, seed=1), draw(channels, seed=2)]
    exact = [tensor.double().requires_grad_() for tensor in inputs]
    for tensor in inputs:
        tensor.requires_grad_()
    y = fused(*inputs, groups=groups, eps=eps, relu=relu)
    expected = plain(*exact, groups=groups, eps=eps, relu=relu)
    assert y.dtype == x.dtype
    assert y.is_contiguous(memory_format=INNERMOST)
    assert error(y.detach(), expected.detach()) < ROUNDING[x.dtype]
    found = torch.autograd.grad(y, inputs, dy)
    right = torch.autograd.grad(expected, exact, dy.double())
    assert [gradient.dtype for gradient in found] == [x.dtype, torch.float32, torch.float32]
    assert error(found[0], right[0]) < ROUNDING[x.dtype]
    for gradient, other in zip(found[1:], right[1:], strict=True):
        assert error(gradient, other) < ROUNDING[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((2, 32, 7, 5), 4),
        ((1, 32, 7, 5), 32),  # one channel in a group
        ((2, 64, 1, 1), 1),
        ((1, 64, 3, 4), 32),
        ((1, 256, 12, 11), 4),  # two chunks
        ((1, 256, 1, 1), 32),
        ((2, 96, 3, 3), 8),  # no power of two
        ((1, 300, 3, 5), 3),  # more channels than a program takes
    ],
)
def test_as_the_plain_formula(shape: tuple[int, ...], groups: int, dtype: torch.dtype) -> None:
    assert_as_plain(draw(*shape, seed=3, dtype=dtype), draw(*shape, seed=4, dtype=dtype), groups=groups)


@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_without_a_relu(dtype: torch.dtype) -> None:
    maps = [draw(2, 32, 5, 3, seed=seed, dtype=dtype) for seed in (3, 4)]
    assert_as_plain(*maps, groups=4, relu=False, eps=0.1)


@pytest.mark.parametrize("groups", [1, 4])
def test_many_chunks(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are put together at once, the last one not full."""
    for module in (group_norm_relu_triton, group_norm_relu_backward_triton):
        monkeypatch.setattr(module, "SUMMED", 1)
        monkeypatch.setattr(module, "WRITTEN", 1)
    monkeypatch.setattr(rows, "_TILE", 128)
    monkeypatch.setattr(rows, "_GATHERED", 64)
    assert_as_plain(draw(2, 32, 9, 7, seed=5), draw(2, 32, 9, 7, seed=6), groups=groups)


def test_a_mean_far_from_zero_costs_no_digits_of_the_deviations() -> None:
    x = draw(2, 32, 7, 5, seed=7) + 1000
    y = fused(x, torch.ones(32), torch.zeros(32), groups=4, eps=1e-5, relu=False)
    expected = plain(x.double(), torch.ones(32).double(), torch.zeros(32).double(), groups=4, eps=1e-5, relu=False)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=5e-4)


def test_values_that_are_no_numbers_stay_so() -> None:
    x = draw(2, 32, 2, 3, seed=8)
    x[1, 5, 1, 1] = torch.nan
    y = fused(x, torch.ones(32), torch.zeros(32), groups=4, eps=1e-5, relu=True)
    assert y[1, :8].isnan().all()
    assert y.isnan().sum() == 8 * 2 * 3


def test_channels_of_wider_maps_and_gradients_of_any_layout() -> None:
    """As a split gives them, a concatenation leaves them, a mean spreads them."""
    wide = draw(2, 80, 4, 3, seed=9)
    x = wide[:, 16:48]
    assert not x.is_contiguous(memory_format=INNERMOST)
    whole = draw(2, 64, 4, 3, seed=10)
    for dy in (whole[:, 32:], whole[:, 32:].contiguous(), whole[:, 32:, :1, :1].expand(2, 32, 4, 3)):
        assert_as_plain(x, dy, groups=4)


def test_autocast_leaves_the_number_format() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for dtype in (torch.bfloat16, torch.float32):
            assert_as_plain(draw(1, 32, 2, 3, seed=11, dtype=dtype), draw(1, 32, 2, 3, seed=12, dtype=dtype), groups=4)


def test_equal_inputs_give_equal_bits() -> None:
    x, weight = draw(2, 32, 7, 5, seed=13, dtype=torch.bfloat16).requires_grad_(), draw(32, seed=14).requires_grad_()
    first, again = (
        torch.autograd.grad(fused(x, weight, weight, groups=4, eps=1e-5, relu=True).square().sum(), [x, weight])
        for _ in range(2)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_the_operators_keep_pytorchs_rules() -> None:
    """Their schema, their gradients' registration, and what they say of fake tensors."""
    x = draw(2, 32, 3, 2, seed=15).requires_grad_()
    weight, bias = draw(32, seed=16).requires_grad_(), draw(32, seed=17).requires_grad_()
    torch.library.opcheck(torch.ops.tood.group_norm_relu.default, (x, weight, bias, 4, 1e-5, True))
    with torch.no_grad():
        statistics = torch.ops.tood.group_norm_relu(x, weight, bias, 4, 1e-5, True)[1]
        kept = [tensor.detach() for tensor in (x, weight, bias)]
        gradient = draw(2, 32, 3, 2, seed=18)
        for more in (None, gradient):
            torch.library.opcheck(
                torch.ops.tood.group_norm_relu_backward.default, (gradient, *kept, statistics, 4, True, more)
            )
        place = draw(2, 64, 3, 2, seed=19)[:, 32:]
        torch.library.opcheck(torch.ops.tood.group_norm_relu_into.default, (*kept, place, 4, 1e-5))


class Tower(nn.Module):
    """Layers whose outputs are stacked, as in T-head."""

    def __init__(self, layers: int, channels: int) -> None:
        super().__init__()
        torch.manual_seed(20)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(layers))
        self.norms = nn.ModuleList(nn.GroupNorm(4, channels) for _ in range(layers))
        self.formats: list[torch.dtype] = []
        for norm in self.norms:
            assert isinstance(norm, nn.GroupNorm)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stack and the last layer's output."""
        stack = FeatureStack(len(self.convs))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(norm, nn.GroupNorm)
            x = stack.normalise(conv(x).contiguous(memory_format=INNERMOST), norm)
        return stack.joined(), x


@pytest.mark.parametrize(
    ("uses", "on_gpu"),
    [
        ("both", (True, True, True)),
        ("stack", (True, True, True)),
        ("last", (True, True, True)),
        ("both", (True, False, True)),
        ("stack", (False, True, True)),
    ],
)
def test_a_stack_equals_a_concatenation(uses: str, on_gpu: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads it, and if a layer goes the plain way."""
    layers = len(on_gpu)
    answers = iter((*on_gpu, *(False,) * layers))
    monkeypatch.setattr(feature_stack, "runs_fused", lambda *_: next(answers))
    net, exact = Tower(layers, 16), Tower(layers, 16).double()
    found, expected = [], []
    for tower, values in ((net, found), (exact, expected)):
        x = draw(2, 16, 3, 4, seed=21, dtype=next(tower.parameters()).dtype).requires_grad_()
        joined, last = tower(x)
        loss = torch.zeros(())
        if uses != "last":
            loss = loss + (joined * draw(2, 48, 3, 4, seed=22)).sum()
        if uses != "stack":
            loss = loss + (last * draw(2, 16, 3, 4, seed=23)).sum()
        loss.backward()
        values += [joined.detach(), x.grad, *(parameter.grad for parameter in tower.parameters())]
    assert found[0].is_contiguous(memory_format=INNERMOST)
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        assert error(one, other) < 5e-6


def test_a_stack_keeps_half_precision_and_sums_gradients_before_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_stack, "runs_fused", lambda *_: True)
    x, norm = draw(1, 16, 3, 2, seed=24, dtype=torch.bfloat16).requires_grad_(), nn.GroupNorm(4, 16)
    stack = FeatureStack(1)
    y = stack.normalise(x, norm)
    joined = stack.joined()
    assert joined.dtype == torch.bfloat16
    assert torch.equal(joined, y)
    one, other = (draw(1, 16, 3, 2, seed=seed, dtype=torch.bfloat16) for seed in (25, 26))
    found = torch.autograd.grad([y, joined], [x, norm.weight], [one, other])
    exact = x.detach().double().requires_grad_()
    double = nn.GroupNorm(4, 16).double()
    right = torch.autograd.grad(torch.relu(double(exact)), [exact, double.weight], one.double() + other.double())
    assert error(found[0], right[0]) < ROUNDING[torch.bfloat16]
    assert error(found[1], right[1]) < ROUNDING[torch.float32]


def test_kernels_are_interpreted_here() -> None:
    """Else nothing above has run a kernel of Triton's."""
    assert type(group_norm_relu_triton.normalise).__name__ == "InterpretedFunction"
    assert type(group_norm_relu_backward_triton.input_gradient).__name__ == "InterpretedFunction"
