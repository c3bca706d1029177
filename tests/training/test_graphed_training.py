"""Trainings by graphs: their weights are those of trainings without, also after they were stopped."""

import logging
import shutil
from pathlib import Path

import equality
import pytest
import torch
import yaml
from graph_stand_in import StandIn
from test_steps import equal
from tiny_run import STUDY, history, stop_after, weights
from torch import Tensor, nn

from tood.detection import cuda_graphs
from tood.detection.deformable import DeformableConv
from tood.detection.detector import build_criterion
from tood.io.errors import StoppedError
from tood.training import graphed_step
from tood.training.processes import distributed
from tood.training.processes.distributed import Group
from tood.training.processes.machine import Machine
from tood.verbs import train as verb
from tood.workflow.code_choice import CodeChoice


@pytest.fixture
def recorders(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """In the project's folder, where everything is recorded when it comes for the second time, one for each attempt."""
    made: list[StandIn] = []

    def recorder_on(_: object) -> StandIn:
        made.append(StandIn())
        return made[-1]

    monkeypatch.chdir(project)
    monkeypatch.setattr(graphed_step, "recorder_on", recorder_on)
    monkeypatch.setattr(cuda_graphs, "SIGHTS", 2)
    return made


def train(run: str) -> None:
    verb.train(Path("results/tiny") / run, Machine(gpu="0"), 1, CodeChoice(), [])


@pytest.mark.parametrize("run", ["tood", "noisy"])
def test_a_stopped_run_continues_to_the_weights_of_one_without_graphs(
    recorders: list[StandIn], monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    """TOOD has phases, NoisyAnchor divides by a mean over all steps so far."""
    with monkeypatch.context() as patch:
        patch.setattr(graphed_step, "recorder_on", lambda _: None)
        train(run)
    expected, rows = weights(Path(), run), history(Path(), run)
    shutil.rmtree("results")
    with monkeypatch.context() as patch:
        patch.setattr(verb, "stop_requests", stop_after(8))
        with pytest.raises(StoppedError, match="after step 8 of 18"):
            train(run)
    train(run)
    assert history(Path(), run) == rows
    assert equal(weights(Path(), run), expected)
    assert len(recorders) == 2
    assert all(one.replayed > one.recorded > 0 for one in recorders)


OWN = """
from tood.detection.criteria.focal import FocalCriterion

class Mine(FocalCriterion):
    def losses(self, batch, assignment):
        assert batch.progress.total_steps
        return super().losses(batch, assignment)
"""


def test_a_method_of_ones_own_that_says_nothing_trains_without(
    recorders: list[StandIn], caplog: pytest.LogCaptureFixture
) -> None:
    Path("extensions").mkdir()
    Path("extensions/mine.py").write_text(OWN)
    method = {"head": {"kind": "parallel", "boxes": "distance"}, "criterion": {"kind": "extensions/mine.py:Mine"}}
    Path("params/methods/mine.yaml").write_text(yaml.safe_dump(method))
    study = {**STUDY, "baseline": "mine", "runs": {"mine": {"method": "mine"}}}
    Path("params/studies/tiny.yaml").write_text(yaml.safe_dump(study))
    caplog.set_level(logging.INFO, "tood")
    train("mine")
    assert (
        "trains without CUDA graphs: criterion 'extensions/mine.py:Mine' or its assigner does not say what the "
        "progress changes (see 'program' in docs/adding_a_method.md)"
    ) in caplog.messages
    assert [one.recorded for one in recorders] == [0]


def test_what_no_graph_can_hold() -> None:
    criterion = build_criterion(equality.load_method("tood"))
    frozen, live = (equality.make_detector("tood", norm) for norm in ("frozen_statistics", "batch"))
    assert graphed_step.why_not(frozen, criterion, world=8, steps=10) == ""
    assert graphed_step.why_not(live, criterion, world=1, steps=10) == ""
    assert "synchronised" in graphed_step.why_not(live, criterion, world=2, steps=10)
    deformable = nn.Sequential(frozen, DeformableConv(4, 4))
    assert "deformable" in graphed_step.why_not(deformable, criterion, world=1, steps=10)


def test_on_gpus_gradients_are_averaged_after_the_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not during the backward pass, by hooks that a graph would hold; all processes begin with the same weights."""
    sent: list[Tensor] = []
    monkeypatch.setattr(distributed.dist, "broadcast", lambda value, src: sent.append(value))
    model, group = equality.make_detector("atss"), Group(rank=1, world=2, device=torch.device("cuda", 1))
    assert group.wrap(model, during_backward=False) is model
    assert [value.data_ptr() for value in sent] == [value.data_ptr() for value in model.state_dict().values()]
