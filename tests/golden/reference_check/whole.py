"""Complete detectors whose weights are drawn by rule."""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference_check.folder import Arrays, below, read_arrays, read_json, tensor
from reference_check.heads import (
    NORM32,
    compare_assignment,
    compare_losses,
    gradients_by_name,
    train_once,
)
from reference_check.outputs import compare_outputs
from reference_check.rows import Report, Tolerance, UnsupportedError
from reference_check.scene import compare_detections, meta_tensor, targets_of
from reference_check.toolbox import Recorded, build_recorded
from tood.config.backbone import BackboneConfig
from tood.detection.backbones import build_backbone
from tood.detection.detector import Detector
from tood.detection.fpn import FeaturePyramid
from tood.detection.postprocess import postprocess
from tood.weights.mmdet.parameter_keys import translate, translate_key

FEATURES = Tolerance(own_peak=1e-4)
SCORES = Tolerance(absolute=1e-4)
BOXES = Tolerance(absolute=1e-3)
FINGERPRINT = Tolerance(relative=1e-6, absolute=1e-4)
SLICE = 6


def check_whole(folder: Path, stem: str, report: Report) -> None:
    reference = read_json(folder / f"{stem}.json")
    arrays = read_arrays(folder / f"{stem}.npz")
    batch = tensor(read_arrays(folder / "whole_inputs.npz")["batch"])
    recorded = build_recorded(reference["kind"], _head_options(reference["model_config"]))
    detector = _build(reference["model_config"], recorded)
    load_drawn(detector, reference, report)
    detector.eval()
    _check_outputs(detector, recorded, reference, arrays, batch, report)
    for epoch, prefix in _epochs(arrays) if recorded.phases else [(0, "")]:
        _check_training(detector, recorded, reference, arrays, batch, epoch, prefix, report)


def _head_options(model: dict[str, Any]) -> dict[str, Any]:
    return {**model["bbox_head"], "train_cfg": model["train_cfg"], "test_cfg": model["test_cfg"]}


def _build(model: dict[str, Any], recorded: Recorded) -> Detector:
    backbone, neck = model["backbone"], model["neck"]
    origins = {"on_output": "p5", "on_input": "c5"}
    if neck["type"] != "FPN" or neck.get("start_level") != 1 or neck.get("add_extra_convs") not in origins:
        raise UnsupportedError("only pyramids from C3 with extra levels from P5's output or C5 are known")
    net = build_backbone(
        BackboneConfig(
            name="recorded",
            kind=_backbone_kind(backbone),
            frozen_stages=backbone["frozen_stages"],
            norm="frozen_statistics" if backbone["norm_eval"] else "batch",
            deformable=_deformable_stages(backbone),
        )
    )
    extra = neck["num_outs"] - len(net.out_channels)
    pyramid = FeaturePyramid(
        net.out_channels,
        neck["out_channels"],
        extra_levels=extra,
        extra_levels_from=origins[neck["add_extra_convs"]],
    )
    return Detector(backbone=net, neck=pyramid, bbox_head=recorded.head)


def _deformable_stages(backbone: dict[str, Any]) -> tuple[str, ...]:
    dcn = backbone.get("dcn")
    if dcn is None:
        return ()
    if dcn["type"] != "DCNv2" or dcn.get("deform_groups", 1) != 1:
        raise UnsupportedError("deformable layers of a backbone are known as DCNv2 with one offset group")
    stages = ("c2", "c3", "c4", "c5")
    return tuple(name for name, deform in zip(stages, backbone["stage_with_dcn"], strict=True) if deform)


def _backbone_kind(backbone: dict[str, Any]) -> str:
    if backbone["type"] == "ResNeXt":
        return f"resnext{backbone['depth']}_{backbone['groups']}x{backbone['base_width']}d"
    if backbone["type"] == "ResNet":
        return f"resnet{backbone['depth']}"
    raise UnsupportedError(f"backbones of type {backbone['type']} are not built yet")


def load_drawn(detector: Detector, reference: dict[str, Any], report: Report) -> None:
    """Give the detector the weights that the reference began with, drawn by the recorded rule."""
    drawn = {entry["key"]: draw_tensor(reference["salt"], entry) for entry in reference["tensors"]}
    prints = [[entry["sum"], entry["l2"]] for entry in reference["tensors"]]
    own = [[values.astype(float).sum(), np.linalg.norm(values.astype(float))] for values in drawn.values()]
    report.compare("fingerprints of drawn weights", np.array(own), np.array(prints), FINGERPRINT)
    state = translate({key: tensor(value) for key, value in drawn.items()})
    missing = set(detector.state_dict()) ^ set(state)
    report.count("weights that do not fit", len(missing), len(state))
    if missing:
        raise UnsupportedError(f"weights do not fit the detector: {', '.join(sorted(missing)[:5])}")
    detector.load_state_dict(state)


def draw_tensor(salt: str, entry: dict[str, Any]) -> NDArray[Any]:
    """The recorded weights' rule: normal numbers from a seed made of salt and key."""
    transform = entry.get("transform")
    if transform == "zero_int64":
        return np.zeros(entry["shape"], np.int64)
    if transform == "arange":
        return np.arange(entry["shape"][0], dtype=np.float32)
    seed = zlib.crc32(f"{salt}:{entry['key']}".encode())
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(entry["shape"]))
    values = np.asarray(entry["offset"]) + entry["scale"] * normal
    return np.asarray(np.exp(values) if transform == "exp" else values, np.float32)


def _check_outputs(
    detector: Detector,
    recorded: Recorded,
    reference: dict[str, Any],
    arrays: Arrays,
    batch: Tensor,
    report: Report,
) -> None:
    backbone = detector.backbone
    with torch.no_grad():
        stages = backbone.stage_outputs(batch)
        pyramid = detector.neck(stages[1:])
        predictions = detector.bbox_head(pyramid)
    named = [(f"c{level}", x) for level, x in enumerate(stages, 2)]
    named += [(f"p{level}", x) for level, x in enumerate(pyramid, 3)]
    for name, values in named:
        report.compare(f"{name}_stats", _statistics(values), arrays[f"{name}_stats"], FEATURES)
        corner = values[:, :SLICE, :SLICE, :SLICE]
        report.compare(f"{name}_slice", corner, arrays[f"{name}_slice"], FEATURES)
    compare_outputs(report, predictions, arrays, probability=SCORES, logit=SCORES, box=BOXES)
    sizes = meta_tensor(reference["img_metas"], "img_shape")
    scales = meta_tensor(reference["img_metas"], "scale_factor")
    for prefix, factors in (("det", None), ("det64", None), ("det_rescaled", scales)):
        found = postprocess(predictions, sizes, factors, recorded.inference)
        compare_detections(report, found, arrays, prefix, box_tolerance=0.05, score_tolerance=1e-3, unmatched=0.02)


def _check_training(
    detector: Detector,
    recorded: Recorded,
    reference: dict[str, Any],
    arrays: Arrays,
    batch: Tensor,
    epoch: int,
    prefix: str,
    report: Report,
) -> None:
    phase = below(arrays, prefix)
    for dtype in (torch.float64, torch.float32):
        detector.to(dtype).train()
        detector.zero_grad(set_to_none=True)
        targets = targets_of(arrays, dtype)
        with torch.set_grad_enabled(dtype == torch.float32):
            outcome = train_once(detector(batch.to(dtype)), targets, recorded.criterion, reference["img_metas"], epoch)
        compare_losses(report, outcome, phase, prefix, dtype)
    compare_assignment(
        report,
        outcome,
        targets,
        num_classes=recorded.num_classes,
        delta_stds=recorded.delta_stds,
        phase=phase,
        prefix=prefix,
    )
    outcome.total.backward()
    gradients = gradients_by_name(detector)
    names = [str(translate_key(key)) for key in reference["parameters_with_gradient"]]
    norms = torch.stack([gradients[name].double().norm() for name in names])
    report.compare(f"{prefix}gradnorm", norms, phase["gradnorm"], NORM32)


def _epochs(arrays: Arrays) -> list[tuple[int, str]]:
    """Recorded epochs and their key prefix, ``e0_`` and so on."""
    found = {int(match[1]) for key in arrays if (match := re.match(r"e(\d+)_", key))}
    return [(epoch, f"e{epoch}_") for epoch in sorted(found)]


def _statistics(values: Tensor) -> Tensor:
    values = values.double()
    return torch.stack([values.mean(), values.std(), values.min(), values.max(), values.norm()])
