"""Processes and GPUs of a training: as many as the images of a step can be shared out to, and one where it matters."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.config.study import RunConfig, load_study
from tood.training.processes.gpus import even_shares
from tood.training.processes.machine import Machine
from tood.verbs.train import _gpus_for

MANY, FEW = 10_000, 1_999


@given(st.integers(1, 256), st.integers(1, 64))
def test_images_are_shared_out_evenly_to_as_many_as_possible(batch: int, most: int) -> None:
    shares = even_shares(batch, most)
    assert shares <= most
    assert batch % shares == 0
    assert all(batch % more for more in range(shares + 1, min(batch, most) + 1))


@pytest.mark.parametrize(
    ("threads", "batch", "processes"), [(1, 16, 1), (2, 16, 2), (6, 16, 4), (8, 4, 4), (3, 7, 1), (64, 16, 16)]
)
def test_a_long_training_on_the_cpu_takes_as_many_processes_as_it_has_threads(
    threads: int, batch: int, processes: int
) -> None:
    assert Machine(gpu="0", threads=threads).processes_for(demo("atss", batch=batch), 0, MANY) == processes


def test_starting_processes_is_not_worth_it_for_a_short_training() -> None:
    assert Machine(gpu="0", threads=4).processes_for(demo("atss"), 0, FEW) == 1


def test_what_depends_on_the_images_of_a_process_is_computed_by_one() -> None:
    pisa = load_study("family").run("pisa_s0")
    assert pisa.method.criterion.over == "group"
    assert Machine(gpu="0", threads=4).processes_for(pisa, 0, MANY) == 1
    grouped = pisa.model_copy(update={"schedule": pisa.schedule.model_copy(update={"group": 2})})
    assert Machine(gpu="0", threads=4).processes_for(grouped, 0, MANY) == 4
    live = demo("atss")
    live = live.model_copy(update={"backbone": live.backbone.model_copy(update={"norm": "batch"})})
    assert Machine(gpu="0", threads=4).processes_for(live, 0, MANY) == 1


def test_processes_are_as_given_or_one_for_each_gpu() -> None:
    machine = Machine(gpu="0", threads=2, processes=4)
    assert machine.processes_for(demo("atss"), 0, FEW) == 4
    assert Machine(gpu="auto", threads=8).processes_for(demo("atss"), 3, MANY) == 3
    several = dataclasses.replace(machine, processes=None, nodes=2, rendezvous="here:1")
    assert several.processes_for(demo("atss"), 0, MANY) == 1


@pytest.mark.parametrize(
    ("batch", "found", "nodes", "taken"), [(4, 8, 1, 4), (16, 8, 1, 8), (16, 6, 2, 4), (4, 1, 1, 1)]
)
def test_gpus_that_no_image_is_left_for_stay_free_which_is_said(
    caplog: pytest.LogCaptureFixture, batch: int, found: int, nodes: int, taken: int
) -> None:
    caplog.set_level("INFO", logger="tood")
    assert _gpus_for(demo("atss", batch=batch), found, nodes) == taken
    assert [f"{taken} of {found} GPUs" in line for line in caplog.messages] == ([True] if taken < found else [])


def demo(run: str, batch: int = 16) -> RunConfig:
    config = load_study("demo").run(run)
    return config.model_copy(update={"schedule": config.schedule.model_copy(update={"batch": batch})})
