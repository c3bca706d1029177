"""One step's gradient in one piece, in micro-batches and in several processes.

Everything is in float64, where what is left after rounding is what the formulas say.
"""

import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import torch
import yaml
from graph_stand_in import StandIn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tood.config.backbone import BackboneConfig, PixelsConfig
from tood.config.method import MethodConfig
from tood.data.batch import Batch
from tood.detection import cuda_graphs
from tood.detection.detector import Detector, build_criterion, build_detector
from tood.detection.training_batch import Progress
from tood.io.console import run_log
from tood.training.graphed_step import GraphedSteps
from tood.training.processes.distributed import Group, process_group
from tood.training.step import step_gradient

PARAMS = Path(__file__).parents[2] / "params/methods"
ALIKE = {"tood_dcn", "thead_atss", "thead_atss_anchor_based", "atss_anchor_free"}
"""Methods that put parts of others together."""
METHODS = sorted({path.stem for path in PARAMS.glob("*.yaml")} - ALIKE)
WORLDS = [(4, 1, 1), (2, 2, 5)]
"""Numbers of processes, in how many parts each computes its images, and the objects to give the batch."""
IMAGES = 8
GROUPS = 4
"""Of two images each."""
CLASSES = 3
EMPTY = 4
"""The first images, which show nothing: all of a process's, and of a micro-batch's."""
BACKBONE = {"name": "tiny", "kind": "light", "weights": "none", "first_stage_width": 8, "width": 16, "norm_groups": 4}


def cases() -> Iterator[tuple[str, int, int]]:
    """Every method in every phase (by epoch) with a step of four groups, and of one where groups are not compared."""
    for name in METHODS:
        criterion = load_method(name).criterion
        for epoch in (0, 5) if criterion.kind in ("task_aligned", "mal") else (0,):
            yield name, epoch, GROUPS
            if criterion.over == "step":
                yield name, epoch, 1


def load_method(name: str) -> MethodConfig:
    content = yaml.safe_load((PARAMS / f"{name}.yaml").read_text())
    return MethodConfig.model_validate({"name": name, **content})


def make_detector(name: str, norm: str = "frozen_statistics") -> Detector:
    """A small detector whose outputs vary from place to place."""
    torch.manual_seed(4)
    config = BackboneConfig.model_validate({**BACKBONE, "norm": norm, "frozen_stages": 0})
    detector = build_detector(load_method(name), config, CLASSES)
    with torch.no_grad():
        for parameter in detector.bbox_head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return detector.double().train()


def make_batch(objects: int) -> Batch:
    """Images of two sizes; with one object in all, so that divisors meet their floor, or several in each of some."""
    draw = torch.Generator().manual_seed(8)
    sizes = torch.tensor([[64, 64] if image % 2 else [32, 60] for image in range(IMAGES)])
    images = torch.randn(IMAGES, 3, 64, 64, generator=draw, dtype=torch.float64)
    corner = torch.rand(IMAGES, objects, 2, generator=draw) * 30
    extent = 10 + torch.rand(IMAGES, objects, 2, generator=draw) * 24
    valid = torch.ones(IMAGES, objects, dtype=torch.bool)
    valid[: IMAGES - 1 if objects == 1 else EMPTY] = False
    return Batch(
        images=images,
        sizes=sizes,
        scales=torch.ones(IMAGES, 2),
        original_sizes=sizes,
        image_ids=torch.arange(IMAGES),
        boxes=torch.cat([corner, corner + extent], dim=2).double(),
        labels=torch.randint(CLASSES, (IMAGES, objects), generator=draw),
        valid=valid,
        group=torch.arange(IMAGES) // (IMAGES // GROUPS),
    )


def part_of(batch: Batch, images: slice) -> Batch:
    return Batch(*(value[images] for _, value in batch._tensors()))


def alone() -> Group:
    return Group(rank=0, world=1, device=torch.device("cpu"))


def gradient(
    name: str, epoch: int, batch: Batch, *, groups: int, group: Group, micro_batches: int = 1
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses of this process and gradients by parameter after one step."""
    detector = make_detector(name)
    criterion = build_criterion(load_method(name))
    progress = Progress(epoch=epoch, step=epoch, total_steps=10)
    if groups == 1:
        batch = dataclasses.replace(batch, group=torch.zeros_like(batch.group))
    model = group.wrap(detector)
    found = step_gradient(model, criterion, [batch], progress, group=group, groups=groups, micro_batches=micro_batches)
    return found.losses, {key: value.grad for key, value in detector.named_parameters() if value.grad is not None}


def largest_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Over all entries, relative to the largest entry of the same parameter."""
    assert found.keys() == expected.keys()
    return max(
        float((found[key] - value).abs().max() / value.abs().max().clamp(min=1e-9)) for key, value in expected.items()
    )


def _work(rank: int, ports: list[str], out: Path) -> None:
    """Process ``rank`` of all groups that are large enough to have one; the first writes the errors."""
    torch.set_num_threads(1)
    errors: dict[str, float] = {}
    for (world, parts, objects), port in zip(WORLDS, ports, strict=True):
        if rank >= world:
            continue
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        with process_group("cpu") as group:
            batch = make_batch(objects)
            for name, epoch, groups in cases():
                own = batch.split(world)[rank]
                losses, found = gradient(name, epoch, own, groups=groups, group=group, micro_batches=parts)
                mean = {key: group.sum(value) / world for key, value in losses.items()}
                if group.is_main:
                    whole, expected = gradient(name, epoch, batch, groups=groups, group=alone())
                    case = f"{name}, epoch {epoch}, {groups} groups, {world} processes"
                    errors[case] = max(largest_error(found, expected), largest_error(mean, whole))
            if world == 2:
                errors |= _of_several_passes(group) | _of_graphs(group)
    if rank == 0:
        out.write_text(json.dumps(errors))


def _of_several_passes(group: Group) -> dict[str, float]:
    """As on GPUs, where gradients are exchanged during the backward pass: of one forward pass here, of two there."""
    batch, progress = make_batch(5), Progress(epoch=0, step=0, total_steps=10)
    detector, plain = make_detector("atss"), make_detector("atss")
    criterion, own = build_criterion(load_method("atss")), batch.split(2)[group.rank]
    model = DistributedDataParallel(detector, broadcast_buffers=False)
    step_gradient(model, criterion, own.split(1 + group.rank), progress, group=group, groups=GROUPS)
    step_gradient(plain, criterion, [batch], progress, group=alone(), groups=GROUPS)
    found, expected = (
        {key: p.grad for key, p in one.named_parameters() if p.grad is not None} for one in (detector, plain)
    )
    return {"several passes": largest_error(found, expected)}


def _of_graphs(group: Group) -> dict[str, float]:
    """One process records its graphs a step before the other, and of other shapes."""
    cuda_graphs.SIGHTS = 1 + group.rank
    log, options = run_log("tood.test", "run"), {"groups": GROUPS}
    detector, plain = make_detector("noisy_anchor"), make_detector("noisy_anchor")
    criterion, recorder = build_criterion(load_method("noisy_anchor")), StandIn()
    steps = GraphedSteps(detector, criterion, PixelsConfig(), recorder, log, group=group, **options)
    assert group.wrap(detector, during_backward=False) is detector
    error, means, expected_means = 0.0, dict[str, Tensor](), dict[str, Tensor]()
    for number in range(4):
        progress, batch = Progress(epoch=0, step=number, total_steps=10), make_batch(5)
        batch = dataclasses.replace(batch, images=batch.images.roll(number, 0))
        own = batch.split(2)[group.rank]
        found = steps.gradient(own.split(1 + group.rank), progress, means=means)
        plain.zero_grad(set_to_none=True)
        expected = step_gradient(plain, criterion, [batch], progress, group=alone(), means=expected_means, **options)
        means, expected_means = found.means, expected.means
        gradients = (
            {key: p.grad for key, p in one.named_parameters() if p.grad is not None} for one in (detector, plain)
        )
        losses = {name: group.sum(value) / 2 for name, value in found.losses.items()}
        pairs = [(losses, expected.losses), (means, expected_means), tuple(gradients)]
        error = max(error, *(largest_error(one, other) for one, other in pairs))
    assert recorder.replayed > recorder.recorded == 4 - 2 * group.rank
    return {"graphs": error}


def compare(ports: list[str], out: Path) -> None:
    """In a process that has started no thread: compare processes with one, a free port for each of ``WORLDS``."""
    fork = multiprocessing.get_context("fork")
    count = max(world for world, _, _ in WORLDS)
    workers = [fork.Process(target=_work, args=(rank, ports, out), daemon=True) for rank in range(count)]
    for worker in workers:
        worker.start()
    while waiting := [worker.sentinel for worker in workers if worker.is_alive()]:
        wait(waiting)
        if any(worker.exitcode for worker in workers):
            sys.exit(1)  # the others, which would wait for it, end with this process
