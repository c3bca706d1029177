"""What a detector runs on a GPU under autocast, traced with tensors that have a device and no values."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from tood.config.backbone import BackboneConfig
from tood.config.method import MethodConfig
from tood.detection.detector import build_detector
from tood.detection.kernels import rows

INNERMOST = torch.channels_last
SIZES = [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)]


class Operators(TorchDispatchMode):
    """Counts them. Convolutions have the layout of cuDNN's, of which PyTorch without CUDA knows nothing."""

    def __init__(self, memory: torch.memory_format) -> None:
        super().__init__()
        self.memory = memory
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operator: Any, types: object, inputs: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        self.counts[operator.overloadpacket.__name__] += 1
        found = operator(*inputs, **(options or {}))
        if operator is torch.ops.aten.convolution.default:
            found = found.contiguous(memory_format=self.memory)
        return found


@pytest.fixture
def autocast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CUDA's, which ``torch.autocast`` refuses without a GPU."""
    monkeypatch.setattr(rows, "HAS_TRITON", True)
    kept = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    yield
    torch.set_autocast_enabled("cuda", False)
    torch.set_autocast_dtype("cuda", kept)


def on_gpu(
    net: nn.Module, inputs: Tensor | Sequence[Tensor], memory: torch.memory_format = INNERMOST
) -> tuple[Any, Counter[str]]:
    """The network's outputs and its operators, with its weights on the GPU."""
    net.to(memory_format=memory)
    state: dict[str, Tensor] = {name: torch.empty_like(value, device="cuda") for name, value in net.named_buffers()}
    for name, value in net.named_parameters():
        state[name] = nn.Parameter(torch.empty_like(value, device="cuda"), requires_grad=value.requires_grad)
    with Operators(memory) as operators:
        return functional_call(net, state, (inputs,)), operators.counts


def maps(channels: int, size: tuple[int, int], dtype: torch.dtype, memory: torch.memory_format = INNERMOST) -> Tensor:
    return torch.empty(2, channels, *size, device="cuda", dtype=dtype).to(memory_format=memory)


@pytest.mark.usefixtures("autocast")
@pytest.mark.parametrize(("kind", "passes"), [("resnet18", 17), ("resnet50", 49)])
def test_a_residual_backbone_takes_one_pass_after_each_convolution(
    kind: str, passes: int, method_named: Callable[[str], MethodConfig]
) -> None:
    """Shift, sum and ReLU are one; a projected shortcut's shift is the block's."""
    config = {"name": kind, "kind": kind, "norm": "frozen_statistics"}
    net = build_detector(method_named("atss"), BackboneConfig.model_validate(config), 3).backbone.train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        levels, operators = on_gpu(net, maps(3, (128, 160), torch.float32))
    assert operators["affine_relu"] == passes
    assert not any("batch_norm" in name or name in ("relu", "relu_", "add_") for name in operators)
    assert all(level.dtype == torch.bfloat16 for level in levels)
    assert all(level.is_contiguous(memory_format=INNERMOST) for level in levels)


@pytest.mark.usefixtures("autocast")
@pytest.mark.parametrize(
    ("name", "fused", "stacked", "plain"),
    [
        ("atss", 40, 0, 0),
        ("tood", 6, 30, 4),  # the tasks' features on maps of a few cells have their channels outermost
    ],
)
def test_heads_normalise_in_half_precision(
    name: str, fused: int, stacked: int, plain: int, method_named: Callable[[str], MethodConfig]
) -> None:
    config = BackboneConfig.model_validate({"name": "resnet18", "kind": "resnet18"})
    head = build_detector(method_named(name), config, 3).bbox_head
    with FakeTensorMode(allow_non_fake_inputs=True):
        predictions, operators = on_gpu(head, [maps(256, size, torch.bfloat16) for size in SIZES])
    assert operators["group_norm_relu"] == fused
    assert operators["group_norm_relu_into"] == stacked
    assert operators["native_group_norm"] == plain
    assert predictions.class_logits.dtype == torch.float32


@pytest.mark.usefixtures("autocast")
@pytest.mark.parametrize("reason", ["no Triton", "channels outermost"])
def test_else_it_is_pytorchs_own(
    reason: str, method_named: Callable[[str], MethodConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "HAS_TRITON", reason != "no Triton")
    memory = INNERMOST if reason == "no Triton" else torch.contiguous_format
    config = BackboneConfig.model_validate({"name": "resnet18", "kind": "resnet18", "norm": "frozen_statistics"})
    detector = build_detector(method_named("atss"), config, 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        levels, found = on_gpu(detector.backbone.train(), maps(3, (128, 160), torch.float32, memory), memory)
        inputs = [maps(256, size, torch.bfloat16, memory) for size in SIZES]
        _, operators = on_gpu(detector.bbox_head, inputs, memory)
    assert found["affine_relu"] == operators["group_norm_relu"] == 0
    assert sum(count for name, count in found.items() if "batch_norm" in name) == 20
    assert operators["native_group_norm"] == 40
    assert all(level.dtype == torch.bfloat16 for level in levels)
