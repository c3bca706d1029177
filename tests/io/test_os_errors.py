"""What the machine refuses is one sentence, whichever library says it and however deep it lies."""

import errno
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

from tood.cli.main import main
from tood.io.os_errors import machine_failure


def wrapped(error: Exception) -> Exception:
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("on top") from inner
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "make it writable"),
        (errno.EACCES, "let this user read and write it"),
        (errno.EIO, "the disk or its connection is failing"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_the_operating_system_s_refusals_name_the_place_and_what_to_do(code: int, remedy: str) -> None:
    said = machine_failure(wrapped(OSError(code, os.strerror(code), "results/x")))
    assert said is not None
    assert said.startswith(f"results/x: {os.strerror(code)}; ")
    assert remedy in said
    assert said.endswith("then repeat the command.")


def test_memory_is_named_with_what_helps() -> None:
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(1 << 55)
    for error in (MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), of_numpy.value):
        said = machine_failure(wrapped(error))
        assert said is not None
        assert said.startswith("the program ran out of memory; use fewer")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert "ran out of memory" in str(machine_failure(caught.value))
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    assert str(machine_failure(on_gpu)).startswith("the GPU ran out of memory")


def test_libraries_that_ran_out_of_memory_say_so_in_their_own_words(tmp_path: Path) -> None:
    unmapped = ImportError(f"{tmp_path}/libtorch_cpu.so: failed to map segment from shared object")
    for error in (RuntimeError("could not create a primitive"), unmapped):
        assert "the program ran out of memory" in str(machine_failure(wrapped(error)))


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        tmp_path.read_bytes()
    said = machine_failure(caught.value)
    assert said == (
        f"{tmp_path}: Is a directory; remove the folder that is in the place of a file, then repeat the command."
    )


def test_a_full_disk_below_a_database_is_one() -> None:
    said = machine_failure(wrapped(sqlite3.OperationalError("database or disk is full")))
    assert "its disk is full; free some space" in str(said)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "results/demo/x"), 2, "tood: results/demo/x: No space left"),
        (MemoryError(), 2, "tood: the program ran out of memory"),
        (KeyError("x"), 1, "tood: unexpected KeyError: 'x'"),
    ],
)
def test_the_command_line_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    status: int,
    sentence: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tood.verbs.show.show", fail)
    monkeypatch.setattr("sys.argv", ["tood", "show"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == status
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_mistakes_are_not_excused() -> None:
    assert machine_failure(KeyError("x")) is None
    assert machine_failure(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert machine_failure(RuntimeError("shape mismatch")) is None
    assert machine_failure(RuntimeError("could not create a primitive descriptor for a convolution")) is None
    assert machine_failure(ImportError("x.so: undefined symbol: y")) is None
    forbidden = ImportError("/tmp/x.so: failed to map segment from shared object: Operation not permitted")
    assert machine_failure(forbidden) is None
