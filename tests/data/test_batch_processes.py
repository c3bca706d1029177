"""Loader processes: whatever happens to one of them, to its batch or to this process ends at once, in one sentence."""

import errno
import gc
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.context import ForkProcess
from pathlib import Path

import psutil
import pytest
import torch
from batch_makers import (
    FAILS,
    Failing,
    Noting,
    Raising,
    Unreadable,
    batch,
    be_killed,
    be_slow,
    crash,
    last_long,
    leave,
    lose_memory,
    odd,
    sleep_after_the_first,
)
from torch import Tensor

from tood.data import batch_processes, loader_process
from tood.data.batch_processes import AHEAD, BatchProcesses
from tood.data.fork_server import ForkServer
from tood.data.loader_process import Make
from tood.io.errors import TransientError, UserError

BATCHES = range(7)
STARTS = ["fork", "server"]


@pytest.fixture(scope="module")
def one_server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture(params=STARTS)
def server(request: pytest.FixtureRequest, one_server: ForkServer) -> ForkServer | None:
    return one_server if request.param == "server" else None


def workers_of(server: ForkServer | None) -> list[int]:
    """Processes that make batches; the server that tests start programs from is of another kind."""
    if server is not None:
        return [child.pid for child in psutil.Process(server.pid).children()]
    return [child.pid or 0 for child in multiprocessing.active_children() if type(child) is ForkProcess]


def processes(make: Make = batch, count: int = 2, server: ForkServer | None = None) -> BatchProcesses:
    return BatchProcesses(make, count, name="data/images", describe=lambda number: f"image {number}.jpg", server=server)


def read(make: Make = batch, count: int = 2, server: ForkServer | None = None) -> list[list[Tensor]]:
    with processes(make, count, server) as pool:
        return list(pool.read(BATCHES))


def assert_same(found: list[list[Tensor]], numbers: range = BATCHES) -> None:
    assert len(found) == len(numbers)
    for tensors, number in zip(found, numbers, strict=True):
        for one, other in zip(tensors, batch(number), strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_batches_arrive_in_order_and_whole(server: ForkServer | None, count: int) -> None:
    assert_same(read(count=count, server=server))
    assert not workers_of(server)


def test_the_same_processes_make_the_batches_of_every_pass(server: ForkServer | None, tmp_path: Path) -> None:
    make = Noting(tmp_path)
    with processes(make, server=server) as pool:
        for numbers in (range(4), range(6, 60), range(5, 6), range(0), range(4)):
            assert_same(list(pool.read(numbers)), numbers)
        assert set(workers_of(server)) == set(make.noted().values())
        assert len(make.noted()) == 59


def test_a_pass_that_is_not_read_to_its_end_leaves_nothing_to_the_next(
    server: ForkServer | None, tmp_path: Path
) -> None:
    make = Noting(tmp_path)
    with processes(make, server=server) as pool:
        left = pool.read(BATCHES)
        next(left)
        before = set(make.noted().values())
        left.close()
        assert not workers_of(server)
        assert_same(list(pool.read(range(20, 30))), range(20, 30))
        assert not before & set(workers_of(server))


def test_processes_with_batches_ahead_wait_and_compute_nothing(server: ForkServer | None) -> None:
    with processes(server=server) as pool:
        list(pool.read(BATCHES))
        each = pool.read(BATCHES)
        next(each)
        workers = [psutil.Process(pid) for pid in workers_of(server)]

        def still() -> bool:
            before = [worker.cpu_times()[:2] for worker in workers]
            time.sleep(0.3)
            return [worker.cpu_times()[:2] for worker in workers] == before

        assert wait_until(still)
        assert len(workers) == 2


def test_batches_lie_in_memory_files_that_go_with_them(server: ForkServer | None) -> None:
    """Not in /dev/shm, which is small in containers."""
    read(server=server)
    gc.collect()
    open_before = os.listdir("/proc/self/fd")
    with processes(server=server) as pool:
        found = next(pool.read(BATCHES))
        assert "memfd:tood-batch" in Path("/proc/self/maps").read_text()
    assert torch.equal(found[0], batch(0)[0]), "a batch outlives the process that made it"
    del found, pool
    gc.collect()
    assert "memfd:tood-batch" not in Path("/proc/self/maps").read_text()
    assert len(os.listdir("/proc/self/fd")) == len(open_before)


def test_no_more_is_made_than_is_kept_ahead(server: ForkServer | None, tmp_path: Path) -> None:
    make = Noting(tmp_path)
    with processes(make, count=1, server=server) as pool:
        each = pool.read(BATCHES)
        next(each)
        (worker,) = pool._workers
        assert worker.channel.answers(60)
        assert set(make.noted()) <= set(range(1 + AHEAD))


@pytest.mark.parametrize(
    ("action", "kind", "said"),
    [
        (
            Raising(UserError("data/images/3.jpg: is broken; restore it.")),
            UserError,
            "data/images/3.jpg: is broken",
        ),
        (Raising(UserError("x" * 100_000)), UserError, "x" * 1000),
        (Raising(MemoryError()), TransientError, "--workers"),
        (Raising(OSError(errno.EMFILE, "Too many open files")), TransientError, "data/images.*ulimit -n"),
        (Raising(KeyError("scale")), KeyError, "scale"),
        (be_killed, TransientError, "data/images.*memory.*--workers"),
        (crash, TransientError, r"SIGSEGV.*image 3\.jpg"),
        (leave, TransientError, r"status 7.*image 3\.jpg"),
        (lose_memory, TransientError, r"data/images: .*No space left on device"),
    ],
)
def test_what_fails_in_a_process_arrives_where_its_batch_is_due(
    server: ForkServer | None,
    action: Callable[[], object],
    kind: type[Exception],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with processes(Failing(action), server=server) as pool:
        each = pool.read(BATCHES)
        for number in range(FAILS):  # what was made before is used
            assert int(next(each)[1]) == number
        with pytest.raises(kind, match=said) as caught:
            next(each)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "nothing but the sentence"


def test_an_exception_that_cannot_be_passed_on_is_told(server: ForkServer | None) -> None:
    with pytest.raises(RuntimeError, match="OddError: this and that") as caught:
        read(Failing(odd), server=server)
    assert "in odd" in str(caught.value.__cause__), "the process's traceback, for --debug"


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
def test_no_file_descriptors_left_is_said(server: ForkServer | None, left: int) -> None:
    forks = server is None
    with no_more_files(left), pytest.raises(TransientError, match=r"data/images.*Too many open files.*ulimit -n"):
        read(count=2 if forks else 5, server=server)  # a forked one needs another for its end
    assert not workers_of(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_leave_stopping_to_their_parent(server: ForkServer | None, number: signal.Signals) -> None:
    with processes(server=server) as pool:
        each = pool.read(BATCHES)
        found = [next(each)]
        for pid in workers_of(server) + ([] if server is None else [server.pid]):
            os.kill(pid, number)
        assert len(found + list(each)) == len(BATCHES)
        assert len(list(pool.read(BATCHES))) == len(BATCHES)


def test_a_signal_while_processes_start_is_the_parents_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept until a new process ignores it, for that one has the parent's handlers at first."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(os.getpid()))
    work = loader_process.work

    def early(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getppid(), signal.SIGTERM)
        work(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loader_process, "work", early)
    try:
        assert len(read()) == len(BATCHES)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard
    assert set(heard) == {os.getpid()}


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("start", STARTS)
def test_processes_end_with_a_parent_that_was_killed(start: str, busy: bool, tmp_path: Path) -> None:
    make = Noting(tmp_path, sleep_after_the_first if busy else batch)
    reading, writing = os.pipe()

    def parent() -> None:
        with ForkServer() if start == "server" else nullcontext() as own, processes(make, server=own) as pool:
            each = pool.read(BATCHES)
            next(each)
            os.write(writing, f"{own.pid if own else 0}\n".encode())
            time.sleep(600)

    killed = multiprocessing.get_context("fork").Process(target=parent)
    killed.start()
    server = int(os.read(reading, 100))
    wait_until(lambda: {0, 1} <= make.noted().keys())
    others = {*make.noted().values(), *([server] if server else [])}
    ran = [runs(pid) for pid in others]
    killed.kill()
    killed.join()
    assert ran == [True] * (2 + bool(server))
    assert wait_until(lambda: not any(runs(pid) for pid in others))
    os.close(reading)
    os.close(writing)


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(happened: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    return happened()


def test_leaving_waits_for_no_batch(server: ForkServer | None) -> None:
    with processes(Failing(last_long), server=server) as pool:
        each = pool.read(BATCHES)
        assert len([next(each) for _ in range(FAILS)]) == FAILS
    assert not workers_of(server)


def test_a_slow_batch_is_waited_for_and_named(
    server: ForkServer | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch_processes, "_SLOW", 0.05)
    caplog.set_level("INFO", logger="tood")
    assert len(read(Failing(be_slow), server=server)) == len(BATCHES)
    assert "image 3.jpg" in caplog.text


def test_what_cannot_be_loaded_in_a_process_is_told(one_server: ForkServer) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        read(Unreadable(), server=one_server)


def test_a_server_that_is_asked_to_stop_while_it_starts_goes_on() -> None:
    with ForkServer() as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(server.pid, number)
        assert_same(read(server=server))
        assert runs(server.pid)
    assert not runs(server.pid)


def test_the_death_of_a_server_is_told_and_ends_what_it_forked() -> None:
    with ForkServer() as server, processes(Failing(last_long), server=server) as pool:
        each = pool.read(BATCHES)
        next(each)
        workers = workers_of(server)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(TransientError, match=r"data/images: a process reading images was killed.*--workers"):
            list(each)
        assert wait_until(lambda: not any(runs(pid) for pid in workers))
        with pytest.raises(TransientError, match=r"data/images: cannot start 2 .*the process that starts them is gone"):
            pool.read(BATCHES)
