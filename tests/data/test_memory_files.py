"""Memory files: tensors and objects come out as they went in, and arrays are shared until somebody changes them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tood.data.memory_files import file_of_object, file_of_tensors


def test_tensors_of_every_kind_come_out_as_they_went_in() -> None:
    noise = torch.Generator().manual_seed(0)
    tensors = [
        torch.rand(3, 5, generator=noise),
        torch.zeros(0, 4),
        torch.tensor(7),
        torch.tensor([[True], [False]]),
        torch.randint(0, 256, (2, 3, 7), dtype=torch.uint8, generator=noise).transpose(0, 2),
        torch.rand(2, dtype=torch.float64, generator=noise),
    ]
    file, layout = file_of_tensors(tensors)
    found = layout.tensors(file)
    os.close(file)
    for one, other in zip(found, tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert one.data_ptr() % 64 == 0 or not one.numel()


def test_an_object_is_loaded_with_arrays_of_its_own_that_lie_in_the_file() -> None:
    value = {
        "boxes": np.random.default_rng(0).random((1000, 4)),
        "none": np.zeros((0, 2), np.int64),
        "fixed": np.frombuffer(b"names", np.uint8),
        "slice": np.arange(100)[::3],
        "path": Path("images"),
    }
    file, pickled = file_of_object(value)
    size = os.fstat(file).st_size
    one, other = pickled.load(file), pickled.load(file)
    os.close(file)
    assert value["boxes"].nbytes < size < value["boxes"].nbytes + 10_000, "the arrays are there once"
    for found in (one, other):
        assert found["path"] == Path("images")
        for name in ("boxes", "none", "fixed", "slice"):
            assert found[name].dtype == value[name].dtype
            np.testing.assert_array_equal(found[name], value[name])
            assert found[name].flags.writeable == value[name].flags.writeable
    one["boxes"][:] = 0
    np.testing.assert_array_equal(other["boxes"], value["boxes"])


def test_a_file_that_cannot_be_written_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "pwrite", full)
    for make in (file_of_object, lambda value: file_of_tensors([torch.tensor(value)])):
        with pytest.raises(OSError, match="No space left"):
            make([1])
    assert len(os.listdir("/proc/self/fd")) == len(before)
