"""Which work is recorded as a graph, how many graphs are kept, and what happens where none can be."""

import logging
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from graph_stand_in import StandIn

from tood.detection import cuda_graphs
from tood.detection.cuda_graphs import IDLE, MOST, SIGHTS, Graphs, NotRepeatableError, recorder_on


class Store:
    """Finds graphs under numbers; each is the text that was recorded for it."""

    def __init__(self) -> None:
        self.recorder = StandIn()
        self.graphs: Graphs[str] = Graphs(self.recorder, logging.getLogger("tood.test"))
        self.recorded: list[int] = []
        self.fails: Callable[[], None] = lambda: None

    def find(self, key: int, times: int = 1) -> str | None:
        def record() -> str:
            self.fails()
            self.recorded.append(key)
            return f"graph of {key}"

        return [self.graphs.find(key, record, f"work {key}") for _ in range(times)][-1]


@pytest.fixture
def store(caplog: pytest.LogCaptureFixture) -> Store:
    caplog.set_level(logging.DEBUG, "tood.test")
    return Store()


def test_work_is_recorded_once_it_has_come_often_enough(store: Store) -> None:
    assert [store.find(7) for _ in range(SIGHTS - 1)] == [None] * (SIGHTS - 1)
    assert store.find(8) is None
    assert [store.find(7) for _ in range(3)] == ["graph of 7"] * 3
    assert store.recorded == [7]


def test_there_are_never_more_than_so_many_and_those_in_use_stay(store: Store) -> None:
    for key in range(MOST):
        store.find(key, SIGHTS)
    assert store.recorded == list(range(MOST))
    for _ in range(10):
        assert store.find(MOST) is None
        assert all(store.find(key) == f"graph of {key}" for key in range(MOST))
    assert len(store.recorded) == MOST


def test_the_one_that_was_not_used_for_longest_gives_way(store: Store) -> None:
    for key in range(MOST):
        store.find(key, SIGHTS)
    for _ in range(IDLE):
        store.find(0)
    assert store.find(MOST, SIGHTS) == f"graph of {MOST}"
    assert store.find(0) == "graph of 0"
    assert store.find(1) is None, "it gave way, and has to come as often as before"
    assert store.find(1, SIGHTS - 1) == "graph of 1"
    assert store.find(2) is None
    assert store.find(3) == "graph of 3"


def test_keys_that_come_once_are_forgotten(store: Store) -> None:
    store.find(-1, SIGHTS - 1)
    for key in range(2000):
        assert store.find(key) is None
    assert store.find(-1) is None
    assert not store.recorded


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("operation not permitted when stream is capturing\nmore"),
            "work 2 cannot be recorded: operation",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "work 2 cannot be recorded: CUDA out of memory"),
        (NotRepeatableError("it differs"), "work 2 cannot be recorded: it differs"),
    ],
)
def test_where_recording_fails_there_are_none_any_more(
    store: Store, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    def fail() -> None:
        raise error

    assert store.find(1, SIGHTS) == "graph of 1"
    store.fails = fail
    assert store.find(2, SIGHTS) is None
    assert store.find(1, SIGHTS) is None
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert messages[0].startswith("recorded work 1 as a CUDA graph (1 of at most")
    assert messages[1].startswith(f"goes on without CUDA graphs: {said}")
    assert "more" not in messages[1]
    assert len(messages) == 2


def test_other_errors_are_not_its_business(store: Store) -> None:
    def fail() -> None:
        raise KeyError("a mistake")

    store.fails = fail
    with pytest.raises(KeyError, match="a mistake"):
        store.find(1, SIGHTS)


def test_graphs_leave_the_memory_that_work_needs_without(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.recorder.needed, store.recorder.left = 80, 100
    assert store.find(1, SIGHTS) == "graph of 1"
    store.recorder.left = 99
    assert store.find(2, SIGHTS) is None
    assert store.find(1) is None
    assert "beside work 2 they leave too little memory" in caplog.messages[-1]


def test_only_the_first_recording_is_printed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    for key in range(3):
        store.find(key, SIGHTS)
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.DEBUG, logging.DEBUG]


def test_a_gpu_has_a_recorder_unless_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOOD_GRAPHS", raising=False)
    monkeypatch.setattr(cuda_graphs, "CudaRecorder", lambda device: device)
    assert recorder_on(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert recorder_on(torch.device("cpu")) is None
    monkeypatch.setenv("TOOD_GRAPHS", "0")
    assert recorder_on(torch.device("cuda", 1)) is None


FAILING = """
import torch
from tood.detection.cuda_graphs import CudaRecorder, recorder_on

here = torch.cuda.current_stream()
value = torch.ones(3, device="cuda")
recorder = CudaRecorder(here.device)
doubled = recorder.record(lambda: value * 2)
value.fill_(4)
doubled.replay()
assert doubled.outputs.tolist() == [8.0] * 3
try:
    recorder.record(lambda: value.sum().item())
except RuntimeError:
    assert torch.cuda.current_stream() == here
    assert float((value + 1).sum()) == 15
    assert recorder_on(here.device) is None
    print("refused")
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recording_that_fails_leaves_the_device_usable() -> None:
    """In a process of its own, which records nothing afterwards."""
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
