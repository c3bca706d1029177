"""``tood bench``: speed of training, inference, assignment and post-processing, beside yardsticks."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from tood.benchmarks.group_works import DrawnSteps, scaled
from tood.benchmarks.random_scenes import SceneSize
from tood.benchmarks.suite import Suite, as_json, check_syncs, run_suite
from tood.benchmarks.timing_table import TimingRow, as_table
from tood.benchmarks.workloads import DEFAULT_SIZES, ON_REQUEST, Part, Setup
from tood.config.backbone import PixelsConfig, load_backbone
from tood.config.blocks import load_block
from tood.config.datasets import load_dataset
from tood.config.messages import nearest
from tood.config.method import MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.data.dataset import DetectionDataset
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets
from tood.detection.number_format import NumberFormat
from tood.io.errors import UserError
from tood.io.write import write_json
from tood.training.processes.devices import one_device
from tood.verbs.folders import PARAMS
from tood.verbs.open_run import open_dataset

log = logging.getLogger(__name__)

_SCHEDULE = "1x"


@dataclass(frozen=True)
class Request:
    """Options of ``tood bench``."""

    parts: Sequence[str]
    methods: str
    against: str | None
    backbone: str
    image: str | None
    images: int | None
    objects: int | None
    dtype: NumberFormat
    compiled: bool
    contiguous: bool
    threads: int
    repeats: int
    warmup: int
    seed: int
    sync_check: bool
    dataset: str | None = None
    """Whose pictures the part ``groups`` takes."""
    drawn_schedule: str = "2x"
    group: int = 2


def bench(request: Request, gpu: str, json: Path | None) -> None:
    """Log a table, write it to ``json`` too if given; or with ``sync_check`` only look for waits."""
    parts = _parts(request)
    methods = [_method(name, "--methods") for name in request.methods.split(",")]
    against = None if request.against is None else _method(request.against, "--against")
    with one_device(gpu) as device:
        if request.sync_check and device.type != "cuda":
            raise UserError("--sync-check: looks for waits for a GPU, and none is used here; leave it out.")
        if request.dtype == "tf32" and device.type != "cuda":
            raise UserError("--dtype tf32: is a number format of GPUs; on a CPU give float32 or bf16.")
        if "export" in parts and device.type == "cuda":
            raise UserError("tood bench export: is on the CPU; give --gpu 0.")
        if request.threads:
            torch.set_num_threads(request.threads)
        suite = Suite(
            parts=parts,
            methods=methods,
            against=against,
            backbone=load_backbone(request.backbone, PARAMS, f"--backbone {request.backbone}"),
            schedule=load_block(PARAMS, "schedules", _SCHEDULE, ScheduleConfig, "tood bench"),
            sizes={part: _size(part, request) for part in parts},
            setup=Setup(
                device=device,
                precision=request.dtype,
                compiled=request.compiled,
                contiguous=request.contiguous,
                seed=request.seed,
            ),
            repeats=request.repeats,
            warmup=request.warmup,
            drawn=_drawn(request) if "groups" in parts else None,
        )
        if request.sync_check:
            for name in check_syncs(suite):
                log.info("no wait for the GPU in a training step of %s", name)
            return
        rows = run_suite(suite, _report)
        content = as_json(suite, rows)
    log.info("")
    for line in as_table(rows):
        log.info(line)
    if json is not None:
        write_json(json, content)
        log.info("written: %s", json)


def _report(row: TimingRow) -> None:
    log.info("%s %s: ratio %.3f", row.work.part, row.work.name, row.timing.ratio)


def _parts(request: Request) -> tuple[Part, ...]:
    known: tuple[Part, ...] = get_args(Part)
    for part in request.parts:
        if part not in known:
            raise UserError(f"tood bench: there is no part '{part}'{nearest(part, known)}")
    if request.sync_check:
        if request.parts and tuple(request.parts) != ("training",):
            raise UserError("--sync-check: is made of training steps; name no other part with it.")
        return ("training",)
    if ("groups" in request.parts) != (request.dataset is not None):
        raise UserError("tood bench: the part 'groups' and --dataset NAME, whose pictures it takes, go together.")
    return tuple(part for part in known if part in request.parts) or tuple(
        part for part in known if part not in ON_REQUEST
    )


def _drawn(request: Request) -> DrawnSteps:
    """Steps of the data set's training pictures, as the schedule pads them."""
    assert request.dataset is not None
    described = load_dataset(request.dataset, PARAMS, f"--dataset {request.dataset}")
    schedule: ScheduleConfig = load_block(PARAMS, "schedules", request.drawn_schedule, ScheduleConfig, "--schedule")
    size = _size("groups", request)
    if size.images % request.group:
        raise UserError(f"--group {request.group}: does not divide the {size.images} images of a step (--images).")
    images = scaled(schedule.images, min(size.height, size.width), max(size.height, size.width))
    changes = {"images": images, "batch": size.images, "group": request.group}
    prepared = open_dataset(described)
    split = prepared.split("train")
    targets = TrainingTargets.of(SplitTable.of_split(split, prepared.classes), drop_empty=schedule.drop_empty)
    dataset = DetectionDataset(
        targets, split.images, NetworkInput(images, PixelsConfig()), train=True, seed=request.seed
    )
    return DrawnSteps(dataset, schedule.model_copy(update=changes), request.repeats + request.warmup)


def _method(name: str, option: str) -> MethodConfig:
    method: MethodConfig = load_block(PARAMS, "methods", name, MethodConfig, f"{option} {name}")
    return method


def _size(part: Part, request: Request) -> SceneSize:
    size = DEFAULT_SIZES[part]
    if request.image is not None:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", request.image)
        if match is None or min(int(side) for side in match.groups()) < 1:
            raise UserError(f"--image {request.image}: must be HEIGHTxWIDTH in pixels, for instance 416x640.")
        size = replace(size, height=int(match[1]), width=int(match[2]))
    return replace(
        size,
        images=size.images if request.images is None else request.images,
        objects=size.objects if request.objects is None else request.objects,
    )
