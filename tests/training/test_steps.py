"""Schedules in steps with averages, repetition and every augmentation: stopped, they continue to the same bits."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_run import BACKBONE, history, stop_after, weights
from torch import Tensor

from tood.config.study import load_study
from tood.data.loader import train_batches
from tood.data.network_input import NetworkInput
from tood.detection.detector import Detector
from tood.evaluation.detections import SplitImages, detect_in
from tood.io.errors import StoppedError
from tood.training import trainer
from tood.training.checkpoint import CheckpointStore
from tood.training.processes.machine import Machine
from tood.training.setup import prepare_training
from tood.verbs import train as verb
from tood.verbs import val_evaluation
from tood.verbs.open_run import open_dataset
from tood.workflow.code_choice import CodeChoice

RUN = Path("results/tiny/atss")
STEPS = 17
PIXELS = {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0]}
IN_STEPS = {
    "epochs": None,
    "steps": STEPS,
    "milestones": [],
    "milestone_shares": [0.5, 0.8],
    "warmup": {"share": 0.25, "ratio": 0.1},
    "evaluations": 3,
    "ema": {"decay": 0.9},
    "repeat": {"threshold": 0.9},
    "images": {
        "short": 64,
        "long": 64,
        "scale_jitter": [0.7, 1.3],
        "crop": {"probability": 0.7, "smallest": 0.5},
        "photometric": 0.5,
    },
}
"""Epochs have ten steps here: the second is cut short, and evaluations fall in the middle of epochs."""
EVALUATED = ["6", "11", "17"]


@pytest.fixture
def in_steps(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny project with that schedule, from a backbone that takes other pixels."""
    for path, changes in {"schedules/tiny": IN_STEPS, "backbones/tiny": {**BACKBONE, "pixels": PIXELS}}.items():
        file = project / "params" / f"{path}.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))
    monkeypatch.chdir(project)
    monkeypatch.setattr(trainer, "_LOG_ROWS", 4)
    return project


def train() -> None:
    verb.train(RUN, Machine(gpu="0"), 1, CodeChoice(), [])


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "stops",
    [
        {9: 6, 17: 11},
        pytest.param({1: 1, 6: 6, 13: 7, 16: 10, 25: 13, 28: 16}, marks=pytest.mark.long),
    ],
)
def test_stopping_after_any_step_changes_nothing(
    in_steps: Path, monkeypatch: pytest.MonkeyPatch, stops: dict[int, int]
) -> None:
    """The looks at the request, one for each step and each of the six images of an evaluation, and the steps done."""
    given: list[NetworkInput] = []

    def detect(detector: Detector, images: SplitImages, *arguments: Any, **options: Any) -> Any:
        given.append(images.config)
        return detect_in(detector, images, *arguments, **options)

    monkeypatch.setattr(val_evaluation, "detect_in", detect)
    train()
    whole, rows = weights(in_steps, "atss"), history(in_steps, "atss")
    assert [row["step"] for row in rows if row["val_AP"] != ""] == EVALUATED
    assert [row["step"] for row in rows] == ["4", "6", "8", "10", "11", "12", "16", "17"]
    assert [row["epoch"] for row in rows] == ["1"] * 4 + ["2"] * 4
    assert {(one.images.short, one.pixels.mean) for one in given} == {(64, (127.0, 127.0, 127.0))}
    assert len(given) == len(EVALUATED)
    kept = last_checkpoint()
    assert kept["step"] == STEPS
    last, averages = kept["detector"], kept["averages"]
    assert averages
    assert all(torch.equal(whole[name], value) for name, value in averages.items())
    assert sum(torch.equal(last[name], value) for name, value in averages.items()) < len(averages) / 2
    assert all(torch.equal(whole[name], last[name]) for name in whole if name not in averages)
    for looks, steps in stops.items():
        shutil.rmtree("results")
        with monkeypatch.context() as patch:
            patch.setattr(verb, "stop_requests", stop_after(looks))
            with pytest.raises(StoppedError, match=f"after step {steps} of {STEPS}; repeat the command"):
                train()
        train()
        assert history(in_steps, "atss") == rows
        assert equal(whole, weights(in_steps, "atss"))
        assert equal(last, last_checkpoint()["detector"])


def last_checkpoint() -> dict[str, Any]:
    (state,) = (RUN / "state").glob("*/")
    kept = CheckpointStore(state.parent, state.name).load()
    assert kept is not None
    return dict(kept)


@pytest.mark.usefixtures("in_steps")
def test_training_normalises_as_the_backbone_takes_pixels() -> None:
    config = load_study("tiny").run("atss")
    setup = prepare_training(config, open_dataset(config.dataset), None)
    assert setup.config.images.short == 64
    batches = train_batches(setup.dataset, batch=4, seed=0, epoch=0, rank=0, world=1, end_step=1)
    ((batch,),) = batches
    height, width = batch.sizes[0].tolist()
    pixels = batch.images[0, :, :height, :width] * 128 + 127
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    assert pixels.min() >= 0
