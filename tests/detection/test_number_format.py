"""float32 is one thing on every device, whatever a library or a user switched on before."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tood.config.method import InferenceConfig, recorded_inference
from tood.detection import inference
from tood.detection.number_format import allow_tf32, computed_in, number_format
from tood.io.errors import UserError
from tood.training.precision import resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def switches() -> set[str]:
    cudnn = torch.backends.cudnn
    return {torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with number_format("float32", CPU):
        yield


@pytest.mark.parametrize(("given", "switched"), [("float32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_only_tf32_means_tf32(given: str, switched: str) -> None:
    allow_tf32(given != "tf32")
    before = switches()
    with number_format(given, CPU):
        assert switches() == {switched}
        assert torch.is_autocast_enabled("cpu") == (given == "bf16")
        old = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)  # which compilers still read
        assert old == ((True, True) if given == "tf32" else (False, False))
    assert switches() == before
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("given", ["float32", "tf32", "bf16"])
def test_detecting_computes_in_the_format_of_its_settings(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[str], torch.dtype]] = []
    layer = nn.Linear(3, 3)

    def detector(images: Tensor) -> Tensor:
        seen.append((switches(), layer(images).dtype))
        return images

    monkeypatch.setattr(inference, "postprocess", lambda *_: [])
    allow_tf32(given != "tf32")
    inference.detect(detector, torch.ones(1, 3), torch.ones(1, 2), None, InferenceConfig(precision=given))  # type: ignore[arg-type]
    assert seen == [({"tf32" if given == "tf32" else "ieee"}, torch.bfloat16 if given == "bf16" else torch.float32)]


def test_a_cpu_says_which_format_it_computes_in() -> None:
    assert [computed_in(one, CPU) for one in ("float32", "tf32", "bf16")] == ["float32", "float32", "bf16"]
    assert [computed_in(one, GPU) for one in ("float32", "tf32", "bf16")] == ["float32", "tf32", "bf16"]


def test_training_in_tf32_needs_a_gpu() -> None:
    assert resolve_precision("tf32", GPU) == "tf32"
    with pytest.raises(UserError, match=r"schedule.precision: 'tf32'"):
        resolve_precision("tf32", CPU)


def test_what_earlier_versions_measured_was_float32() -> None:
    assert recorded_inference({"nms_iou": 0.6}) == {"nms_iou": 0.6, "precision": "float32"}
    assert recorded_inference({"precision": "bf16"}) == {"precision": "bf16"}
    assert recorded_inference(None) == {"precision": "float32"}
