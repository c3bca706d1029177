"""Import of detectors from checkpoints of MMDetection and of the TOOD authors' release.

The architecture follows from names and shapes of tensors, options from the configuration in the file if it has one.
For other options the reference's default is taken and noted, or the user has to give them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tood.config.backbone import BackboneConfig
from tood.config.images import ImagesConfig
from tood.config.imported import Dialect, ImportedConfig, ImportedSource
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.data.formats.coco_classes import COCO_CATEGORIES
from tood.detection.detector import Detector, build_detector
from tood.io.digests import file_digest
from tood.io.errors import UserError, listed
from tood.weights.mmdet.checkpoint_file import read_foreign_file
from tood.weights.mmdet.detector_kinds import Kind, MethodName, recognise
from tood.weights.mmdet.layout import Layout, NamedWeights, name_weights, read_layout
from tood.weights.mmdet.method_options import check_options, criterion_options, head_options, inference_options
from tood.weights.mmdet.mmdet_config import ForeignConfig, read_config

Boxes = Literal["distance", "delta"]
_COUNTER = "num_batches_tracked"
_PROJECT = "bbox_head.integral.project"
_FULL_MODULATION = 100.0
"""A logit whose sigmoid is 1 to the last digit in every precision."""


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """A detector in evaluation mode and all that is known about it."""

    config: ImportedConfig
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    detector: Detector


@dataclass(frozen=True)
class Given:
    """Options of the user about a checkpoint, for files that lack this information."""

    boxes: Boxes | None = None
    dialect: Dialect | None = None
    classes: Sequence[str] | None = None
    """In label order."""
    method: MethodName | None = None
    """Which detector, where several have layers of the same names."""
    resize: Literal["exact", "opencv"] = "exact"
    """How pictures are resized for it."""


def import_checkpoint(path: Path, given: Given = Given()) -> ImportedModel:
    """Read a checkpoint, recognise and build its detector, load the weights; nothing in the file is executed.

    Raises UserError, one sentence that names tensors as the file does, where something is missing, left over or of
    another shape, or where the file needs what is not built here.
    """
    state, meta = state_and_meta(read_foreign_file(path), str(path))
    return import_state(state, meta, path, file_digest(path), given)


def import_state(
    state: Mapping[str, Tensor], meta: Mapping[Any, Any], path: Path, sha256: str, given: Given = Given()
) -> ImportedModel:
    """Like :func:`import_checkpoint`, for content that was read from ``path``."""
    where = str(path)
    config = read_config(meta)
    weights = name_weights(state, where)
    layout = read_layout(weights)
    kind = recognise(weights.family, config, given.method, where)
    check_options(config, where)
    notes: list[str] = []
    dialect = given.dialect or ("authors" if weights.authors else "mmdet")
    if weights.authors and dialect == "mmdet":
        raise UserError(f"{where}: has the TOOD authors' names of layers; leave out --dialect mmdet.")
    method = _method(kind, weights, layout, config, dialect, _boxes(kind, weights, config, given.boxes), notes)
    backbone = _backbone(weights, layout, config)
    with torch.device("meta"):  # no random initialisation for weights that are replaced at once
        detector = build_detector(method, backbone, layout.classes, head_width=layout.head_width)
    _fill(detector, weights, kind, notes)
    named, ids = _classes(meta, given.classes, layout.classes, where, notes)
    images = _images(config, given, notes)
    versions = (meta.get(key) for key in ("mmdet_version", "mmengine_version"))
    source = ImportedSource(
        file=path.name,
        sha256=sha256,
        dialect=dialect,
        version=next((version for version in versions if isinstance(version, str)), None),
        notes=tuple(notes),
    )
    imported = ImportedConfig(
        source=source, method=method, backbone=backbone, head_width=layout.head_width, images=images
    )
    return ImportedModel(imported, named, ids, detector.eval())


def state_and_meta(content: Any, where: str) -> tuple[dict[str, Tensor], Mapping[Any, Any]]:
    """The tensors by name and the ``meta`` of a checkpoint, which may also be bare tensors by name."""
    if isinstance(content, dict) and str(content.get("format", "")).startswith("tood-"):
        raise UserError(f"{where}: is a model of this project already; use it as it is.")
    meta: Mapping[Any, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        meta = content["meta"] if isinstance(content.get("meta"), dict) else {}
        content = content["state_dict"]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{where}: holds neither a 'state_dict' nor tensors by name; give a checkpoint of a detector.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(f"{where}: '{key}' is no tensor; give a checkpoint of a detector.")
    return dict(content), meta


def _boxes(
    kind: Kind, weights: NamedWeights, config: ForeignConfig, given: Boxes | None
) -> Literal["distance", "delta", "bins"]:
    """How the head represents boxes, which for TOOD only the configuration or the user can say."""
    if kind.method != "tood":
        known: Literal["bins", "delta"] = "bins" if kind.method == "gfl" else "delta"
        if given is not None and given != known:
            raise UserError(f"{weights.where}: the boxes of {kind.shown} are {known}s; leave out --boxes.")
        return known
    said = {"anchor_free": "distance", "anchor_based": "delta"}.get(config.model("bbox_head", "anchor_type"))
    if said is None and config.model("bbox_head") is not None:
        said = "distance"  # the toolbox's default
    if said is None and given is None:
        raise UserError(
            f"{weights.where}: does not say whether its boxes are distances (anchor-free) or deltas (anchor-based), "
            "which have the same shapes; give --boxes distance or --boxes delta."
        )
    if said is not None and given is not None and said != given:
        raise UserError(f"{weights.where}: says that its boxes are {said}s; leave out --boxes {given}.")
    return "delta" if (said or given) == "delta" else "distance"


def _method(
    kind: Kind,
    weights: NamedWeights,
    layout: Layout,
    config: ForeignConfig,
    dialect: Dialect,
    boxes: Literal["distance", "delta", "bins"],
    notes: list[str],
) -> MethodConfig:
    extra = layout.extra_levels_from
    if extra is None:
        said = {"on_input": "c5", "on_output": "p5"}.get(config.model("neck", "add_extra_convs"))
        extra = "c5" if (said or ("c5" if kind.family == "retina" else "p5")) == "c5" else "p5"
        if said is None:
            notes.append(f"P6 is taken to be computed from {extra.upper()}")
    value = {
        "name": kind.method,
        "neck": {"extra_levels_from": extra},
        "head": head_options(config, kind, layout, boxes, weights.where, notes),
        "criterion": criterion_options(config, kind),
        # MMDetection does not clip TOOD's boxes to the image; the authors, and both for other heads, do.
        "inference": inference_options(config, kind, clip_boxes=not (kind.method == "tood" and dialect == "mmdet")),
    }
    method: MethodConfig = validate(MethodConfig, value, weights.where)
    return method


def _backbone(weights: NamedWeights, layout: Layout, config: ForeignConfig) -> BackboneConfig:
    frozen = config.model("backbone", "frozen_stages")
    groups = config.model("bbox_head", "norm_cfg", "num_groups") or 32
    if layout.normalised and layout.head_width % groups:
        raise UserError(
            f"{weights.where}: its head is {layout.head_width} channels wide, which {groups} groups do not divide."
        )
    value = {
        "name": layout.backbone,
        "kind": layout.backbone,
        "frozen_stages": frozen if isinstance(frozen, int) and 0 <= frozen <= 4 else 1,
        "norm": "batch" if config.model("backbone", "norm_eval") is False else "frozen_statistics",
        "deformable": layout.deformable,
        "width": layout.width,
        "norm_groups": groups if layout.normalised else 1,
    }
    backbone: BackboneConfig = validate(BackboneConfig, value, weights.where)
    return backbone


def _images(config: ForeignConfig, given: Given, notes: list[str]) -> ImagesConfig:
    size = config.test_size()
    if size is None:
        notes.append("images are taken to be resized to 800 within 1333 pixels")
    short, long = size or (800, 1333)
    return ImagesConfig(short=short, long=long, antialias=False, resize=given.resize)


def _fill(detector: Detector, weights: NamedWeights, kind: Kind, notes: list[str]) -> None:
    """Load all tensors, or refuse by name what does not fit."""
    own = detector.state_dict()
    given = {key: value for key, value in weights.tensors.items() if not key.endswith(_PROJECT)}
    _modulate(given, own, notes)
    counters = {key for key in own if key.endswith(_COUNTER)}
    if counters.isdisjoint(given):  # missing in files from before torch 0.4.1; nothing here uses them
        given |= {key: torch.zeros((), dtype=torch.int64) for key in counters}
    missing = [weights.name(key) for key in own if key not in given]
    if kind.method == "gfl" and _PROJECT not in weights.tensors:
        missing.append(_PROJECT)
    unexpected = [weights.name(key) for key in given if key not in own]
    misshapen = [
        f"{weights.name(key)} ({_shape_text(value.shape)} instead of {_shape_text(own[key].shape)})"
        for key, value in given.items()
        if key in own and value.shape != own[key].shape
    ]
    problems = [
        f"{what} {listed(names)}"
        for what, names in (("lacks", missing), ("has unknown", unexpected), ("has mis-shaped", misshapen))
        if names
    ]
    if problems:
        raise UserError(
            f"{weights.where}: does not fit the {kind.shown} detector that it otherwise is: it "
            f"{' and '.join(problems)}."
        )
    spoilt = [weights.name(key) for key, value in given.items() if not value.isfinite().all()]
    if spoilt:
        raise UserError(f"{weights.where}: has values that are not finite numbers in {listed(spoilt)}.")
    project = weights.tensors.get(_PROJECT)
    if project is not None and not torch.equal(project.double(), torch.arange(len(project), dtype=torch.float64)):
        raise UserError(f"{weights.where}: its bins ('{_PROJECT}') are not the whole numbers from 0 on.")
    detector.load_state_dict({key: value.to(own[key].dtype) for key, value in given.items()}, assign=True)


def _modulate(given: dict[str, Tensor], own: Mapping[str, Tensor], notes: list[str]) -> None:
    """Deformable convolutions of the first version (offsets only) are the second with every sample weighted by 1."""
    first = [
        key
        for key, value in given.items()
        if ".conv_offset." in key and key in own and 3 * value.shape[:1].numel() == 2 * own[key].shape[0]
    ]
    for key in first:
        value = given[key]
        rest = value.new_zeros(own[key].shape[0] - value.shape[0], *value.shape[1:])
        if key.endswith(".bias"):
            rest += _FULL_MODULATION
        given[key] = torch.cat([value, rest])
    if first:
        notes.append("its deformable convolutions are of the first version: the weight of every sample is fixed at 1")


def _classes(
    meta: Mapping[Any, Any], given: Sequence[str] | None, count: int, where: str, notes: list[str]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names in label order and their category ids: those of COCO, or 1 to C."""
    names = tuple(given) if given is not None else _classes_in_file(meta)
    if names is None and count == len(COCO_CATEGORIES):
        notes.append("the 80 classes are taken to be those of COCO")
        names = tuple(COCO_CATEGORIES)
    if names is None:
        raise UserError(
            f"{where}: does not name its {count} classes; give --classes FILE, a text file with one name a line."
        )
    if len(names) != count:
        raise UserError(f"{where}: scores {count} classes, but {len(names)} names are given ({listed(names)}).")
    if len(set(names)) != count:
        raise UserError(f"{where}: a class is named twice ({listed(names)}); give --classes FILE.")
    spaced = tuple(name.replace("_", " ") for name in names)  # as MMDetection 1 wrote them
    if set(spaced) == set(COCO_CATEGORIES):
        return spaced, tuple(COCO_CATEGORIES[name] for name in spaced)
    return names, tuple(range(1, count + 1))


def _classes_in_file(meta: Mapping[Any, Any]) -> tuple[str, ...] | None:
    places = [meta, meta.get("dataset_meta")]
    for place in places:
        for key in ("CLASSES", "classes"):
            value = place.get(key) if isinstance(place, Mapping) else None
            if isinstance(value, str):
                return (value,)
            if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
                return tuple(value)
    return None


def _shape_text(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a single number"
