"""Criteria: phases, weights, and that nothing breaks at the edges."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tood.config.method import MethodConfig
from tood.detection.criteria.base import combine, divisor_shares, divisors
from tood.detection.criteria.task_aligned import TaskAlignedCriterion
from tood.detection.detector import build_criterion, build_head
from tood.detection.points import valid_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

EPOCHS = (0, 5)


def progress(epoch: int) -> Progress:
    return Progress(epoch=epoch, step=epoch * 10, total_steps=120)


def predict(method: MethodConfig, *, images: int = 2, classes: int = 3, spread: float = 1.0) -> Predictions:
    draw = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    head = build_head(method.head, num_classes=classes, in_channels=16, width=16, norm_groups=4)
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    maps = [torch.randn(images, 16, h, w, generator=draw) * spread for h, w in sizes]
    predictions = head(maps)
    # Scores around one half, so that assignment has something to choose from.
    return replace(predictions, class_logits=predictions.class_logits + 4 + torch.randn(predictions.class_logits.shape))


def objects(*, images: int = 2, slots: int = 3, classes: int = 3) -> Targets:
    corner = torch.rand(images, slots, 2, generator=torch.Generator().manual_seed(3)) * 30
    boxes = torch.cat([corner, corner + 30], dim=2)
    labels = torch.arange(images * slots).reshape(images, slots) % classes
    valid = torch.ones(images, slots, dtype=torch.bool)
    return Targets(boxes, labels, valid)


def everywhere(predictions: Predictions) -> torch.Tensor:
    return torch.ones(predictions.boxes.shape[:2], dtype=torch.bool)


def batch(predictions: Predictions, targets: Targets, epoch: int, valid: torch.Tensor | None = None) -> TrainingBatch:
    """At all locations unless ``valid`` says which."""
    return TrainingBatch(predictions, targets, everywhere(predictions) if valid is None else valid, progress(epoch))


@pytest.mark.parametrize("epoch", EPOCHS)
def test_losses_are_positive_finite_and_reach_every_output(method: MethodConfig, epoch: int) -> None:
    predictions = predict(method)
    predictions.class_logits.retain_grad()
    predictions.boxes.retain_grad()
    losses = combine(build_criterion(method)(batch(predictions, objects(), epoch)))
    assert {"loss_cls", "loss_bbox"} <= set(losses)
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for output in (predictions.class_logits, predictions.boxes):
        assert output.grad is not None
        assert torch.isfinite(output.grad).all()
        assert output.grad.any()


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize("slots", [0, 2])
def test_images_without_objects_train_as_background(method: MethodConfig, epoch: int, slots: int) -> None:
    predictions = predict(method)
    nothing = Targets(torch.zeros(2, slots, 4), torch.zeros(2, slots, dtype=torch.int64), torch.zeros(2, slots) > 0)
    losses = combine(build_criterion(method)(batch(predictions, nothing, epoch)))
    assert losses.pop("loss_cls") > 0
    assert all(loss == 0 for loss in losses.values())
    torch.stack([*losses.values(), predictions.boxes.sum() * 0]).sum().backward()


@pytest.mark.parametrize("epoch", EPOCHS)
def test_one_class(method: MethodConfig, epoch: int) -> None:
    predictions = predict(method, classes=1)
    criterion = build_criterion(method)
    losses = combine(criterion(batch(predictions, objects(classes=1), epoch)))
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())


@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize("logit", [-100.0, 100.0])
def test_extreme_logits_give_finite_losses_and_gradients(method: MethodConfig, epoch: int, logit: float) -> None:
    calm = predict(method)
    logits = torch.full_like(calm.class_logits, logit).requires_grad_()
    predictions = replace(
        calm,
        class_logits=logits,
        alignment_logits=None if calm.alignment_logits is None else torch.full_like(calm.alignment_logits, logit),
        quality=None if calm.quality is None else torch.full_like(calm.quality, logit),
    )
    losses = combine(build_criterion(method)(batch(predictions, objects(), epoch)))
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("epoch", EPOCHS)
def test_non_finite_boxes_of_background_do_no_harm(method: MethodConfig, epoch: int) -> None:
    predictions = predict(method)
    criterion = build_criterion(method)
    valid = everywhere(predictions)
    assignment = criterion.assign(batch(predictions, objects(), epoch, valid))
    background = ~assignment.positive
    assert background.any()
    assert not background.all()
    boxes = predictions.boxes.detach().clone()
    boxes[background] = torch.tensor([1e30, float("inf"), -1e30, float("nan")])
    boxes.requires_grad_()
    broken = replace(predictions, boxes=boxes)
    before, after = (
        combine(criterion.losses(batch(given, objects(), epoch, valid), assignment)) for given in (predictions, broken)
    )
    assert after["loss_bbox"].item() == pytest.approx(before["loss_bbox"].item())
    assert after["loss_cls"].item() == pytest.approx(before["loss_cls"].item())
    after["loss_bbox"].backward()
    assert boxes.grad is not None
    assert not boxes.grad[background].any()
    assert torch.isfinite(boxes.grad).all()


@pytest.mark.parametrize("epoch", EPOCHS)
def test_locations_in_the_padding_of_the_batch_do_not_count(method: MethodConfig, epoch: int) -> None:
    predictions = predict(method)
    valid = valid_points(predictions.points, torch.tensor([[64, 96], [32, 32]]))
    assert not valid.all()
    criterion = build_criterion(method)
    first = combine(criterion(batch(predictions, objects(), epoch, valid)))
    noisy = predictions.class_logits + 9 * (~valid)[..., None]
    second = combine(criterion(batch(replace(predictions, class_logits=noisy), objects(), epoch, valid)))
    assert {name: loss.item() for name, loss in first.items()} == {name: loss.item() for name, loss in second.items()}


@pytest.mark.parametrize("epoch", EPOCHS)
def test_two_ranks_equal_one_batch(method: MethodConfig, epoch: int) -> None:
    """Each rank with its image and the shared divisor: the mean over ranks is the loss of both images."""
    predictions = predict(method)
    targets, valid = objects(), everywhere(predictions)
    criterion = build_criterion(method)
    whole_terms = criterion(batch(predictions, targets, epoch, valid))
    whole = combine(whole_terms)

    def image(index: int) -> Any:
        one = slice(index, index + 1)
        part = {
            name: None if (value := getattr(predictions, name)) is None else value[one]
            for name in ("class_logits", "boxes", "alignment_logits", "quality", "deltas", "bins")
        }
        own = Targets(targets.boxes[one], targets.labels[one], targets.valid[one])
        return criterion(TrainingBatch(replace(predictions, **part), own, valid[one], progress(epoch)))

    ranks = [image(0), image(1)]
    by = divisors(ranks[0], torch.stack([divisor_shares(terms) for terms in ranks]).sum(dim=0))
    losses = [combine(terms, by, world_size=2) for terms in ranks]
    for name, expected in whole.items():
        torch.testing.assert_close((losses[0][name] + losses[1][name]) / 2, expected)


def test_runs_under_bf16_autocast_with_the_same_result(method: MethodConfig) -> None:
    predictions = predict(method)
    criterion = build_criterion(method)
    plain = combine(criterion(batch(predictions, objects(), 5)))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = combine(criterion(batch(predictions, objects(), 5)))
    assert {n: v.item() for n, v in plain.items()} == {n: v.item() for n, v in mixed.items()}


def test_phase_changes_with_the_epoch_or_the_share_of_steps(
    method_named: Callable[[str], MethodConfig],
) -> None:
    by_epoch = build_criterion(method_named("tood"))
    assert isinstance(by_epoch, TaskAlignedCriterion)
    assert by_epoch.in_warmup(Progress(epoch=3, step=10**6, total_steps=1))
    assert not by_epoch.in_warmup(Progress(epoch=4, step=0, total_steps=10**6))
    by_share = by_epoch.model_copy(update={"warmup_epochs": None, "warmup_share": 0.25})
    assert by_share.in_warmup(Progress(epoch=9, step=24, total_steps=100))
    assert not by_share.in_warmup(Progress(epoch=0, step=25, total_steps=100))


def test_phases_differ(method_named: Callable[[str], MethodConfig]) -> None:
    method = method_named("tood")
    predictions = predict(method)
    criterion = build_criterion(method)
    first, second = (criterion.assign(batch(predictions, objects(), epoch)) for epoch in EPOCHS)
    assert set(first.target.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first.target, second.target)
