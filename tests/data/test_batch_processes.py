"""Loader processes: whatever happens to one of them, to its batch or to this process ends at once, in one sentence."""

import errno
import faulthandler
import gc
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tood.data import batch_processes
from tood.data.batch_processes import AHEAD, BatchProcesses, Make
from tood.io.errors import TransientError, UserError

BATCHES = 7


def own_children() -> list[ForkProcess]:
    """Processes that this one made by forking; the server that tests start programs from is of another kind."""
    return [child for child in multiprocessing.active_children() if type(child) is ForkProcess]


def batch(number: int) -> list[Tensor]:
    return [torch.full((2, 3), float(number)), torch.tensor([number]), torch.zeros(0, 4), torch.tensor([True, False])]


def processes(make: Make = batch, count: int = 2) -> BatchProcesses:
    return BatchProcesses(make, BATCHES, count, name="data/images", describe=lambda number: f"image {number}.jpg")


def read(make: Make = batch, count: int = 2) -> list[list[Tensor]]:
    with processes(make, count) as pool:
        return list(pool)


def failing(action: Callable[[], object]) -> Make:
    """Batches of which the fourth cannot be made."""

    def make(number: int) -> Sequence[Tensor]:
        if number == 3:
            action()
        return batch(number)

    return make


def crash() -> None:
    faulthandler.disable()  # pytest's, which would print
    os.kill(os.getpid(), signal.SIGSEGV)


def raising(error: Exception) -> Make:
    def act() -> None:
        raise error

    return failing(act)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_batches_arrive_in_order_and_whole(count: int) -> None:
    for number, found in enumerate(read(count=count)):
        for one, other in zip(found, batch(number), strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
    assert number == BATCHES - 1
    assert not own_children()


def test_batches_lie_in_memory_files_that_go_with_them() -> None:
    """Not in /dev/shm, which is small in containers."""
    read()
    gc.collect()
    open_before = os.listdir("/proc/self/fd")
    with processes() as pool:
        found = next(iter(pool))
        assert "memfd:tood-batch" in Path("/proc/self/maps").read_text()
    assert torch.equal(found[0], batch(0)[0]), "a batch outlives the process that made it"
    del found, pool
    gc.collect()
    assert "memfd:tood-batch" not in Path("/proc/self/maps").read_text()
    assert len(os.listdir("/proc/self/fd")) == len(open_before)


def test_no_more_is_made_than_is_kept_ahead(tmp_path: Path) -> None:
    def make(number: int) -> Sequence[Tensor]:
        (tmp_path / str(number)).touch()
        return batch(number)

    with processes(make, count=1) as pool:
        each = iter(pool)
        next(each)
        (worker,) = pool._workers
        assert worker.answers(60)
        assert {path.name for path in tmp_path.iterdir()} <= {str(number) for number in range(1 + AHEAD)}


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (raising(UserError("data/images/3.jpg: is broken; restore it.")), UserError, "data/images/3.jpg: is broken"),
        (raising(UserError("x" * 100_000)), UserError, "x" * 1000),
        (raising(MemoryError()), TransientError, "--workers"),
        (raising(OSError(errno.EMFILE, "Too many open files")), TransientError, "data/images.*ulimit -n"),
        (raising(KeyError("scale")), KeyError, "scale"),
        (failing(lambda: os.kill(os.getpid(), signal.SIGKILL)), TransientError, "data/images.*memory.*--workers"),
        (failing(crash), TransientError, r"SIGSEGV.*image 3\.jpg"),
        (failing(lambda: os._exit(7)), TransientError, r"status 7.*image 3\.jpg"),
    ],
)
def test_what_fails_in_a_process_arrives_where_its_batch_is_due(
    make: Make, kind: type[Exception], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with processes(make) as pool:
        each = iter(pool)
        for number in range(3):  # what was made before is used
            assert int(next(each)[1]) == number
        with pytest.raises(kind, match=said) as caught:
            next(each)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "nothing but the sentence"


class OddError(Exception):
    """Cannot be made of its message alone, as exceptions of libraries."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def test_an_exception_that_cannot_be_passed_on_is_told() -> None:
    with pytest.raises(RuntimeError, match="OddError: this and that") as caught:
        read(raising(OddError("this", "that")))
    assert "in act" in str(caught.value.__cause__), "the process's traceback, for --debug"


def test_memory_that_the_system_refuses_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TransientError, match=r"data/images: .*No space left on device"):
        read()


@contextmanager
def no_more_files(left: int) -> Iterator[None]:
    """Leave this process so many file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for file in taken:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", [0, 1, 2, 4])
def test_no_file_descriptors_left_is_said(left: int) -> None:
    with no_more_files(left), pytest.raises(TransientError, match=r"data/images.*Too many open files.*ulimit -n"):
        read()
    assert not own_children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_leave_stopping_to_their_parent(number: signal.Signals) -> None:
    with processes() as pool:
        each = iter(pool)
        found = [next(each)]
        for child in own_children():
            assert child.pid is not None
            os.kill(child.pid, number)
        assert len(found + list(each)) == BATCHES


def test_a_signal_while_processes_start_is_the_parents_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept until a new process ignores it, for that one has the parent's handlers at first."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(os.getpid()))
    work = batch_processes._work

    def early(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getppid(), signal.SIGTERM)
        work(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_processes, "_work", early)
    try:
        assert len(read()) == BATCHES
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard
    assert set(heard) == {os.getpid()}


@pytest.mark.parametrize("busy", [False, True])
def test_processes_end_with_a_parent_that_was_killed(busy: bool) -> None:
    reading, writing = os.pipe()  # at its end when the last process that has it is gone

    def make(number: int) -> Sequence[Tensor]:
        if busy and number > 0:
            time.sleep(600)
        return batch(number)

    def parent() -> None:
        with processes(make) as pool:
            next(iter(pool))
            os.write(writing, b"y")
            time.sleep(600)

    killed = multiprocessing.get_context("fork").Process(target=parent)
    killed.start()
    os.close(writing)
    assert os.read(reading, 1) == b"y"
    killed.kill()
    killed.join()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_leaving_waits_for_no_batch() -> None:
    with processes(failing(threading.Event().wait)) as pool:
        each = iter(pool)
        assert len([next(each) for _ in range(3)]) == 3
    assert not own_children()


def test_a_slow_batch_is_waited_for_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch_processes, "_SLOW", 0.05)
    caplog.set_level("INFO", logger="tood")
    assert len(read(failing(lambda: time.sleep(0.5)))) == BATCHES
    assert "image 3.jpg" in caplog.text
