"""Trajectories: the losses, gradients and weights of the reference's own training loop, step after step."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from reference_check.folder import Arrays, read_arrays, read_json, tensor
from reference_check.rows import Report, Tolerance, UnsupportedError
from reference_check.whole import draw_tensor, load_drawn
from tood.config.blocks import load_block
from tood.config.compose import merge
from tood.config.method import MethodConfig
from tood.config.study import FittedConfig, RunConfig, load_study
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.input_sizes import padded_size
from tood.data.loader import Reading
from tood.data.prepared import DataDigests
from tood.data.schedule_fit import ScheduleFit
from tood.detection.detector import build_criterion, build_detector
from tood.training.job import Job
from tood.training.processes.distributed import Group
from tood.training.processes.stopping import StopRequest
from tood.training.trainer import Trainer
from tood.weights.mmdet.parameter_keys import translate_key

PARAMS = Path(__file__).parents[3] / "params"
FOLLOWED = Tolerance(relative=1e-9)
CLASSES = 80
PARTS = {"backbone": "backbone.", "neck": "neck.", "head": "bbox_head."}

_STUDIED = {
    "tood/tood_r50_fpn_1x_coco.py": ("tood", {"criterion": {"assigner": {"conflict": "max_iou"}}}),
    "atss/atss_r50_fpn_1x_coco.py": ("atss", {}),
    "gfl/gfl_r50_fpn_1x_coco.py": ("gfl", {}),
    "retinanet/retinanet_r50_fpn_1x_coco.py": ("retinanet", {}),
    "paa/paa_r50_fpn_1x_coco.py": ("paa", {"criterion": {"unfitted": "background"}}),
    "free_anchor/freeanchor_r50_fpn_1x_coco.py": ("free_anchor", {"criterion": {"ties": "topk"}}),
    "pisa/retinanet-r50_fpn_pisa_1x_coco.py": ("pisa", {}),
}
"""Our method for a configuration of the reference, and what differs in it."""


@dataclass
class Followed:
    """What a loop did in each of its S steps."""

    losses: list[dict[str, float]] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    """Norms over all trained tensors, before clipping."""
    moved: list[list[float]] = field(default_factory=list)
    """(S, 3) distances of the weights from where they began, by part."""
    norms: list[list[float]] = field(default_factory=list)
    """(S, 3) of the weights, with the constants that other code bases store among them."""


def check_trajectory(folder: Path, stem: str, report: Report, most: int | None = None) -> None:
    """Follow the recorded run with the project's own loop, its first ``most`` steps where not all."""
    reference = read_json(folder / f"{stem}.json")
    scenes = read_arrays(folder / "trajectory_scenes.npz")
    steps = reference["steps"][:most]
    trainer = _trainer(reference, report)
    rates = [step["lr"] for step in reference["steps"]]
    _check_rates(trainer, rates, reference, report)
    found = follow(trainer, scenes, reference, rates[: len(steps)])
    ours = _phases(found)
    theirs = _phases(_recorded(steps))
    control = _phases(_recorded(reference.get("control_steps", steps)[:most]))
    for name, values in theirs.items():
        drift = np.abs(control[name] - values)  # what rounding alone makes of the reference's own run
        _compare_where(report, name, ours[name], values, drift)


def _compare_where(report: Report, name: str, ours: np.ndarray, theirs: np.ndarray, drift: np.ndarray) -> None:
    """Compare to 1e-9 where the reference is that sure of itself; after that within a small multiple of its drift."""
    relative = (drift / np.maximum(np.abs(theirs), 1e-12)).reshape(len(theirs), -1).max(axis=1)
    unsure = np.flatnonzero(relative > 1e-10)
    sure = len(theirs) if not len(unsure) else int(unsure[0])
    report.compare(name, ours[:sure], theirs[:sure], FOLLOWED)
    if sure < len(theirs):
        room = Tolerance(relative=10 * float(relative[sure:].max()))
        report.compare(f"{name}, from step {sure}", ours[sure:], theirs[sure:], room)


def _phases(found: Followed) -> dict[str, np.ndarray]:
    names = list(found.losses[0])
    losses = {name: np.array([step[name] for step in found.losses]) for name in names}
    weights = {"moved": np.array(found.moved), "weight norms": np.array(found.norms)}
    return losses | {"gradient norm": np.array(found.gradients)} | weights


def _recorded(steps: Sequence[dict[str, Any]]) -> Followed:
    found = Followed()
    for step in steps:
        found.losses.append(_losses(step))
        found.gradients.append(step["grad_norm"])
        found.moved.append([step["moved"][part] for part in PARTS])
        found.norms.append([step["norm"][part] for part in PARTS])
    return found


def _losses(step: dict[str, Any]) -> dict[str, float]:
    """Of the whole step; processes average their gradients, so the losses too."""
    each = step.get("losses_by_process") or [step["losses"]]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def follow(trainer: Trainer, scenes: Arrays, reference: dict[str, Any], rates: Sequence[float]) -> Followed:
    """Train on the recorded scenes, one step for each of the ``rates``."""
    detector = trainer.job.detector
    began = {name: value.clone() for name, value in _floats(detector)}
    constants = _constants(reference)
    found = Followed()
    for number, rate in enumerate(rates):
        # The reference's warm-up divides by one iteration less (docs/studies.md), so its rates are taken as they are.
        trainer.rate = replace(trainer.rate, base=rate, milestones=(), warmup=0)
        batch = step_batch(scenes, reference["scenes"], number, reference.get("images_per_process"))
        trainer.train_step([batch], number // reference["per_epoch"])
        gradients = [value.grad for value in detector.parameters() if value.grad is not None]
        found.gradients.append(float(torch.nn.utils.get_total_norm(gradients)))
        found.losses.append(trainer.read_losses(number // reference["per_epoch"]))
        now = dict(_floats(detector))
        found.moved.append([_norm({name: now[name] - began[name] for name in now}, part) for part in PARTS.values()])
        found.norms.append([_norm(now | constants, part) for part in PARTS.values()])
    return found


def _floats(detector: torch.nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in detector.state_dict().items() if value.is_floating_point()]


def _constants(reference: dict[str, Any]) -> dict[str, Tensor]:
    drawn = [entry for entry in reference["tensors"] if translate_key(entry["key"]) is None]
    return {entry["key"]: tensor(draw_tensor(reference["salt"], entry)).double() for entry in drawn}


def _norm(values: dict[str, Tensor], prefix: str) -> float:
    squares = [value.square().sum() for name, value in values.items() if name.startswith(prefix)]
    return float(torch.stack(squares).sum().sqrt())


def step_batch(scenes: Arrays, kind: str, step: int, group: int | None) -> Batch:
    """The images of a step as float64 network inputs, padded to multiples of 32 of the largest.

    Each ``group`` of them was computed in a process of its own, all of one size; all together where it is None.
    """
    images = []
    while (key := f"{kind}_{step:02d}_{len(images)}_image") in scenes:
        images.append(key)
    sizes = torch.tensor([scenes[key].shape[:2] for key in images])
    width, height = padded_size(int(sizes[:, 1].max()), int(sizes[:, 0].max()))
    labels = [torch.from_numpy(scenes[key.replace("_image", "_labels")]) for key in images]
    slots = max(map(len, labels))
    pixels = torch.zeros(len(images), 3, height, width, dtype=torch.float64)
    boxes = torch.zeros(len(images), slots, 4, dtype=torch.float64)
    classes = torch.zeros(len(images), slots, dtype=torch.int64)
    mean = torch.tensor([123.675, 116.28, 103.53], dtype=torch.float64)[:, None, None]
    deviation = torch.tensor([58.395, 57.12, 57.375], dtype=torch.float64)[:, None, None]
    for row, key in enumerate(images):
        image = torch.from_numpy(scenes[key]).permute(2, 0, 1).double()
        pixels[row, :, : image.shape[1], : image.shape[2]] = (image - mean) / deviation
        count = len(labels[row])
        boxes[row, :count] = torch.from_numpy(scenes[key.replace("_image", "_boxes")]).double()
        classes[row, :count] = labels[row]
    valid = torch.arange(slots) < torch.tensor([len(one) for one in labels])[:, None]
    ones = torch.ones(len(images), 2)
    numbers = torch.arange(len(images))
    return Batch(pixels, sizes, ones, sizes, numbers, boxes, classes, valid, numbers // (group or len(images)))


def _trainer(reference: dict[str, Any], report: Report) -> Trainer:
    """A trainer of the shipped configuration, with the recorded schedule and starting weights, in float64."""
    config = _config(reference)
    detector = build_detector(config.method, config.backbone, CLASSES)
    load_drawn(detector, reference, report)
    steps = len(reference["steps"])
    fitted = FittedConfig(steps=steps, images=config.schedule.images)
    digests = DataDigests("", frozenset({""}), frozenset({""}), {})
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            config=config,
            fit=ScheduleFit(fitted, steps, reference["per_epoch"], 0.0, 0.0),
            folder=Path(folder),
            detector=detector.double(),
            criterion=build_criterion(config.method),
            dataset=cast(DetectionDataset, None),  # its images are handed to the trainer
            data=digests,
            code={},
            precision="float32",  # no autocast
            reading=Reading(),
            micro_batches=None,
            group=Group(0, 1, torch.device("cpu")),
            evaluate=lambda _: {},
            stop=StopRequest(),
        )
        return Trainer(job)


def _config(reference: dict[str, Any]) -> RunConfig:
    if reference["source_config"] not in _STUDIED:
        raise UnsupportedError(f"no study has {reference['source_config']}")
    name, differs = _STUDIED[reference["source_config"]]
    optimiser, warmup = reference["optimizer"], reference["warmup"]
    if optimiser["type"] != "SGD":
        raise UnsupportedError(f"optimiser {optimiser['type']} is not known")
    schedule = {
        "epochs": reference["epochs"],
        "milestones": [end for end in reference["milestones"] if end < reference["epochs"]],
        "batch": reference["batch"],
        "group": reference.get("images_per_process"),
        "lr": reference["base_lr_at_16"],
        "lr_batch": 16,
        "momentum": optimiser["momentum"],
        "weight_decay": optimiser["weight_decay"],
        "warmup": {"iterations": warmup["iterations"], "ratio": warmup["start_factor"]},
    }
    config = load_study("coco_1x", PARAMS).run("atss").model_dump(mode="json")
    method: MethodConfig = load_block(PARAMS, "methods", name, MethodConfig, name)
    config["method"] = merge(method.model_dump(mode="json"), differs)
    changed: RunConfig = RunConfig.model_validate(merge(config, {"schedule": schedule}))
    return changed


def _check_rates(trainer: Trainer, rates: Sequence[float], reference: dict[str, Any], report: Report) -> None:
    """Our rates, which differ in between the two ends of the warm-up alone."""
    own = [trainer.rate.at(step) for step in range(len(rates))]
    warmup = reference["warmup"]["iterations"]
    report.compare("learning rates after the warm-up", own[warmup:], rates[warmup:], FOLLOWED)
    report.compare("learning rate at first", own[:1], rates[:1], FOLLOWED)
