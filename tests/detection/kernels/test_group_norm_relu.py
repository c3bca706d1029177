"""Group normalisation with ReLU: which way maps go, what the plain way computes, and that the kernels agree."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tood.detection.heads.layers import ConvNorm
from tood.detection.kernels import feature_stack, rows
from tood.detection.kernels import group_norm_relu as module
from tood.detection.kernels.feature_stack import FeatureStack
from tood.detection.kernels.group_norm_relu import group_norm_relu
from tood.detection.kernels.rows import Rows, rows_of, runs_fused, with_rows

HALF = torch.bfloat16
Make = Callable[[], Tensor]


def test_the_kernels_agree_with_the_plain_formula(run_file: Callable[..., None]) -> None:
    run_file("interpreted_group_norm_relu.py", TRITON_INTERPRET="1")


def gpu_maps(dtype: torch.dtype = HALF, images: int = 2) -> Tensor:
    return torch.empty(images, 64, 5, 7, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("make", "runs"),
    [
        (lambda: gpu_maps(), True),
        (lambda: gpu_maps(torch.float16), True),
        (lambda: gpu_maps(torch.float32), True),
        (lambda: gpu_maps(torch.float64), False),
        (lambda: gpu_maps().contiguous(), False),
        (lambda: gpu_maps(images=0), False),
        (lambda: torch.empty(2, 64, 5, 7, device="cpu").to(memory_format=torch.channels_last), False),
        (lambda: torch.empty(2, 64, device="cuda"), False),
    ],
)
def test_maps_that_the_kernels_take(make: Make, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "HAS_TRITON", True)
    with FakeTensorMode():
        weight = torch.empty(64, device="cuda")
        assert runs_fused(make(), weight) == runs
        for other in (weight.to(HALF), weight[:1].expand(64), torch.empty(64)):
            assert not runs_fused(make(), weight, other)
        monkeypatch.setattr(rows, "HAS_TRITON", False)
        assert not runs_fused(make(), weight)


INNERMOST = torch.arange(2 * 6 * 3 * 4).reshape(2, 6, 3, 4).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("maps", "rows"),
    [
        (INNERMOST, Rows(72, 6)),
        (INNERMOST[:, 2:4], Rows(72, 6)),
        (INNERMOST[:, :, :1], Rows(72, 6)),
        (INNERMOST[:, :, :, :1], Rows(72, 24)),
        (INNERMOST[:, :, :, :2], None),
        (INNERMOST[:, :, ::2], None),
        (INNERMOST[:, ::2], None),
        (INNERMOST.contiguous(), None),
        (INNERMOST.contiguous()[:, :1], Rows(72, 1)),
        (INNERMOST[:, :, :1, :1].expand(2, 6, 3, 4), Rows(72, 0)),
    ],
)
def test_maps_as_rows_of_channels(maps: Tensor, rows: Rows | None) -> None:
    assert rows_of(maps) == rows
    ready = with_rows(maps)
    assert torch.equal(ready, maps)
    assert (ready is maps) == (rows is not None)
    found = rows_of(ready)
    assert found is not None
    images, channels, height, width = maps.shape
    table = ready.as_strided((images, height * width, channels), (found.image, found.pixel, 1))
    assert torch.equal(table, maps.permute(0, 2, 3, 1).flatten(1, 2))


def test_a_fake_gpu_traces_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "HAS_TRITON", True)
    monkeypatch.setattr(module, "plain", lambda *_, **__: pytest.fail("went the plain way"))
    with FakeTensorMode():
        for wide in (gpu_maps(), torch.cat([gpu_maps(), gpu_maps()], dim=1)):
            x = wide[:, :64].detach().requires_grad_()
            weight, bias = (torch.empty(64, device="cuda", requires_grad=True) for _ in range(2))
            y = group_norm_relu(x, weight, bias, groups=4)
            assert (y.shape, y.dtype, y.device) == (x.shape, HALF, x.device)
            assert y.is_contiguous(memory_format=torch.channels_last)
            assert y.grad_fn is not None


def test_a_fake_gpu_traces_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "HAS_TRITON", True)
    monkeypatch.setattr(feature_stack.torch, "cat", lambda *_, **__: pytest.fail("concatenated"))
    with FakeTensorMode():
        stack, norm = FeatureStack(2), nn.GroupNorm(4, 64, device="cuda")
        stack.normalise(stack.normalise(gpu_maps(), norm), norm)
        joined = stack.joined()
        assert (joined.shape, joined.dtype) == ((2, 128, 5, 7), HALF)
        assert joined.is_contiguous(memory_format=torch.channels_last)
        assert joined.requires_grad


def used_norm() -> nn.GroupNorm:
    norm, numbers = nn.GroupNorm(4, 32), torch.Generator().manual_seed(1)
    nn.init.normal_(norm.weight, generator=numbers)
    nn.init.normal_(norm.bias, generator=numbers)
    return norm


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_cpu_it_is_pytorchs_own_to_the_bit(memory: torch.memory_format, autocast: bool) -> None:
    norm, numbers = used_norm(), torch.Generator().manual_seed(2)
    x = torch.randn(2, 32, 7, 5, generator=numbers).contiguous(memory_format=memory).requires_grad_()
    dy = torch.randn(2, 32, 7, 5, generator=numbers)
    with torch.autocast("cpu", dtype=HALF, enabled=autocast):
        one = group_norm_relu(x, norm.weight, norm.bias, groups=4, eps=norm.eps)
        other = torch.relu(norm(x))
    assert torch.equal(one, other)
    assert (one.dtype, one.stride()) == (other.dtype, other.stride())
    found, expected = (torch.autograd.grad(y, [x, *norm.parameters()], dy) for y in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_without_a_relu_negative_values_stay() -> None:
    norm, x = used_norm(), torch.randn(2, 32, 3, 3, generator=torch.Generator().manual_seed(3))
    kept = group_norm_relu(x, norm.weight, norm.bias, groups=4, relu=False)
    assert torch.equal(kept, norm(x))
    assert (kept < 0).any()


def test_a_heads_layer_takes_it() -> None:
    layer = ConvNorm(32, 32, groups=4)
    layer.gn = used_norm()
    layer.gn.eps = 0.1
    x = torch.randn(2, 32, 3, 3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(layer(x), torch.relu(layer.gn(layer.conv(x))))
    without = ConvNorm(32, 32, groups=None)
    assert torch.equal(without(x), torch.relu(without.conv(x)))


def test_a_stack_on_a_cpu_is_a_concatenation() -> None:
    norm, stack, x = used_norm(), FeatureStack(2), torch.randn(2, 32, 3, 3)
    first = stack.normalise(x, norm)
    second = stack.normalise(first, norm)
    assert torch.equal(first, torch.relu(norm(x)))
    assert torch.equal(stack.joined(), torch.cat([first, second], dim=1))
