"""The number of loader processes: as wanted, or as many as there is memory for, which is said."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tiny_run import history, reschedule, weights

from tood.config.study import RunConfig
from tood.data.dataset import DetectionDataset
from tood.training import workers
from tood.training.processes.distributed import Group
from tood.training.processes.machine import Machine
from tood.training.workers import affordable, largest_batch
from tood.verbs import train as verb
from tood.workflow.code_choice import CodeChoice


@pytest.mark.parametrize(("free", "count"), [(0, 0), (100, 0), (399, 0), (400, 1), (699, 1), (700, 2), (3100, 10)])
def test_a_worker_needs_room_for_three_batches_beside_the_one_in_use(free: int, count: int) -> None:
    assert affordable(100, free) == count


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (6, 6), (64, 8)])
def test_a_gpu_has_a_worker_for_each_thread_but_no_more_than_it_can_use(
    threads: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = cast(DetectionDataset, [0])
    config = cast(RunConfig, SimpleNamespace(schedule=SimpleNamespace(batch=4), run="atss"))
    monkeypatch.setattr(workers, "largest_batch", lambda *_: 400)
    monkeypatch.setattr(workers, "free_memory", lambda: 25 * 100)  # of bytes, a quarter of what floats would take
    gpu = Group(rank=0, world=1, device=torch.device("cuda"))
    assert workers.count_workers(config, dataset, Machine(threads=threads), gpu) == count


@pytest.mark.parametrize(("wanted", "batches", "count"), [(2, 7, 2), (2, 4, 1)])
def test_too_little_memory_costs_workers_and_no_result(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wanted: int,
    batches: int,
    count: int,
) -> None:
    monkeypatch.chdir(project)
    reschedule(project, epochs=1, evaluate_every=1, milestones=[])
    each = 4 * 3 * 64 * 64 * 4
    seen: list[tuple[int, int]] = []

    def count_workers(config: RunConfig, dataset: DetectionDataset, machine: Machine, group: Group) -> int:
        found = workers.count_workers(config, dataset, machine, group)
        seen.append((largest_batch(dataset, 4), found))
        return found

    monkeypatch.setattr(verb, "count_workers", count_workers)
    monkeypatch.setattr(workers, "free_memory", lambda: batches * each)
    caplog.set_level("INFO", logger="tood")
    verb.train(Path("results/tiny/atss"), Machine(gpu="0", workers=wanted), 1, CodeChoice(), [])
    assert seen == [(each, count)]
    said = [line for line in caplog.messages if "--workers" in line]
    if count == wanted:
        assert not said
    else:
        (line,) = said
        assert f"in {count} instead of {wanted} processes" in line
        assert f"{7 * each / 1e9:.2f} GB" in line
        assert f"{batches * each / 1e9:.2f} GB are free" in line
    assert weights(project, "atss")
    assert history(project, "atss")
