"""Which GPUs a command takes, by the names that CUDA knows them by; PyTorch's own answers are stood in for."""

from pathlib import Path

import pytest
import torch

from tood.io.errors import UserError
from tood.training.processes import devices
from tood.training.processes.devices import lease_gpus, one_device, resolve_gpus

PARTS = "MIG-1111,MIG-2222"


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[torch.device]:
    """The devices that became current; two whole GPUs are there."""
    found: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "PYTORCH_NVML_BASED_CUDA_CHECK"):
        monkeypatch.setenv(name, "")  # so that it is as before when the test has ended
        monkeypatch.delenv(name)
    return found


def visible() -> str | None:
    return devices.os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("names", "second"), [(None, "1"), ("4,7", "7"), ("GPU-aaaa, GPU-bbbb", "GPU-bbbb"), (PARTS, "MIG-2222")]
)
def test_a_command_sees_the_gpu_that_it_leased_and_no_other(
    used: list[torch.device], monkeypatch: pytest.MonkeyPatch, names: str | None, second: str
) -> None:
    if names is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    with lease_gpus(1), one_device("auto") as device:
        assert device == torch.device("cuda", 0)
        assert used == [device], "it is current, also in threads that this process starts"
        assert visible() == second


def test_parts_of_a_gpu_train_one_run_each(used: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", PARTS)
    assert resolve_gpus("auto") == 1
    with pytest.raises(UserError, match="gpu: 2 asked for but this machine has 1"):
        resolve_gpus("2")
    assert not used


def test_counting_does_not_start_cuda(used: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started it could not choose any more which GPU it sees."""
    assert resolve_gpus("auto") == 2
    assert devices.os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    assert not used


def test_a_gpu_that_pytorch_cannot_use_is_said(used: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: torch.device) -> None:
        raise RuntimeError("The NVIDIA driver on your system\nis too old")

    monkeypatch.setattr(torch.cuda, "set_device", refuse)
    with (
        pytest.raises(UserError, match=r"gpu: this machine shows GPU 0, .*The NVIDIA driver on your system is too old"),
        one_device("1"),
    ):
        pass
    assert not used
