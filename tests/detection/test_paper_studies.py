"""Every run of the paper's studies trains and detects, built here from the small blocks of scale demo."""

from pathlib import Path

import pytest
import torch

from tood.config.study import load_study
from tood.detection.criteria.base import combine
from tood.detection.detector import build_criterion, build_detector
from tood.detection.points import valid_points
from tood.detection.postprocess import postprocess
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

PARAMS = Path(__file__).parents[2] / "params"
PAPER = sorted(f"paper/{path.stem}" for path in (PARAMS / "studies/paper").glob("*.yaml"))

IMAGES = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[96, 96], [80, 96]])
TARGETS = Targets(
    torch.tensor([[[8.0, 8, 40, 40], [30.0, 20, 90, 80]], [[10.0, 12, 70, 48], [0.0, 0, 0, 0]]]),
    torch.tensor([[0, 1], [1, 0]]),
    torch.tensor([[True, True], [True, False]]),
)


@pytest.mark.parametrize("name", PAPER)
def test_every_run_gives_finite_gradients_and_detections(name: str) -> None:
    seen = set()
    for run in load_study(f"{name}@demo", PARAMS).runs.values():
        parts = (run.method.model_dump_json(exclude={"name"}), run.backbone.name)
        if parts in seen:
            continue
        seen.add(parts)
        torch.manual_seed(0)
        detector = build_detector(run.method, run.backbone, 2).train()
        criterion = build_criterion(run.method)
        for step in (0, 99):  # in the ATSS phase, where there is one, and after it
            predictions = detector(IMAGES)
            valid = valid_points(predictions.points, SIZES)
            progress = Progress(epoch=step, step=step, total_steps=100)
            terms = criterion(TrainingBatch(predictions, TARGETS, valid, progress))
            detector.zero_grad()
            torch.stack(list(combine(terms).values())).sum().backward()
            for key, parameter in detector.named_parameters():
                if parameter.requires_grad:
                    assert parameter.grad is not None, (run.run, key)
                    assert torch.isfinite(parameter.grad).all(), (run.run, key)
        with torch.no_grad():
            found = postprocess(detector.eval()(IMAGES), SIZES, None, run.method.inference)
        assert len(found) == len(IMAGES)
