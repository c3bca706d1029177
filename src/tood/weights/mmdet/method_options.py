"""Conversion of MMDetection's options to a method configuration; options without a counterpart are refused."""

from collections.abc import Mapping
from typing import Any, Literal, assert_never

from tood.config.backbone import PixelsConfig
from tood.data.network_input import PAD_MULTIPLE
from tood.detection.points import STRIDES
from tood.io.errors import UserError
from tood.weights.mmdet.detector_kinds import Kind
from tood.weights.mmdet.layout import Layout
from tood.weights.mmdet.mmdet_config import ForeignConfig, class_name

_RETINA_ANCHORS = {"scale": 4.0, "per_octave": 3, "ratios": (0.5, 1.0, 2.0)}
_VOTING_SIGMA = 0.025
"""MMDetection's, which its files cannot change."""
_PAA = {
    "positive_iou": ("train_cfg", "assigner", "pos_iou_thr"),
    "topk": ("bbox_head", "topk"),
    "quality_weight": ("bbox_head", "loss_centerness", "loss_weight"),
}
_FREE_ANCHOR = {
    "bag": ("bbox_head", "pre_anchor_topk"),
    "iou_threshold": ("bbox_head", "bbox_thr"),
    "alpha": ("bbox_head", "alpha"),
    "gamma": ("bbox_head", "gamma"),
    "smooth_l1_beta": ("bbox_head", "loss_bbox", "beta"),
}
_PISA = {
    "smooth_l1_beta": ("bbox_head", "loss_bbox", "beta"),
    "isr_k": ("train_cfg", "isr", "k"),
    "isr_bias": ("train_cfg", "isr", "bias"),
    "carl_k": ("train_cfg", "carl", "k"),
    "carl_bias": ("train_cfg", "carl", "bias"),
}


def check_options(config: ForeignConfig, where: str) -> None:
    """Refuse options that the tensors do not show and that differ from what is built here."""
    generator = ("bbox_head", "anchor_generator")
    wanted: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("model.backbone.type", class_name(config.model("backbone", "type")), ("ResNet", "ResNeXt")),
        ("model.backbone.style", config.model("backbone", "style"), ("pytorch",)),
        ("model.neck.type", class_name(config.model("neck", "type")), ("FPN",)),
        ("model.neck.relu_before_extra_convs", config.model("neck", "relu_before_extra_convs"), (False,)),
        ("model.neck.add_extra_convs", config.model("neck", "add_extra_convs"), (True, "on_input", "on_output")),
        ("model.bbox_head.norm_cfg.type", config.model("bbox_head", "norm_cfg", "type"), ("GN",)),
        ("anchor_generator.strides", _list(config.model(*generator, "strides")), (list(STRIDES),)),
        ("anchor_generator.center_offset", config.model(*generator, "center_offset"), (0, 0.0)),
        ("bbox_coder.target_means", _list(config.model("bbox_head", "bbox_coder", "target_means")), ([0, 0, 0, 0],)),
        ("test_cfg.nms.type", config.model("test_cfg", "nms", "type"), ("nms",)),
        ("test_cfg.min_bbox_size", config.model("test_cfg", "min_bbox_size"), (0,)),
    ]
    for place in (("model", "data_preprocessor"), ("img_norm_cfg",)):
        wanted += [
            (f"{place[-1]}.mean", _list(config.get(*place, "mean")), (list(PixelsConfig().mean),)),
            (f"{place[-1]}.std", _list(config.get(*place, "std")), (list(PixelsConfig().std),)),
            (f"{place[-1]}.bgr_to_rgb", config.get(*place, "bgr_to_rgb"), (True,)),
            (f"{place[-1]}.to_rgb", config.get(*place, "to_rgb"), (True,)),
            (f"{place[-1]}.pad_size_divisor", config.get(*place, "pad_size_divisor"), (PAD_MULTIPLE,)),
        ]
    wanted += [
        ("test pipeline's keep_ratio", step.get("keep_ratio"), (True,))
        for step in config.test_steps()
        if class_name(step.get("type")) == "Resize"
    ]
    for name, value, allowed in wanted:
        if value is not None and value not in allowed:
            raise UserError(
                f"{where}: its configuration has {value!r} as {name}, but only "
                f"{' or '.join(repr(one) for one in allowed)} can be imported for these layers."
            )


def head_options(
    config: ForeignConfig,
    kind: Kind,
    layout: Layout,
    boxes: Literal["distance", "delta", "bins"],
    where: str,
    notes: list[str],
) -> dict[str, Any]:
    """The ``head`` of the method."""
    if kind.method == "tood":
        _require_square(config, where)
        stds = _list(config.model("bbox_head", "bbox_coder", "target_stds"))
        if boxes == "delta" and stds not in (None, [0.1, 0.1, 0.2, 0.2]):
            raise UserError(f"{where}: its configuration has {stds} as bbox_coder.target_stds, unknown for TOOD.")
        return {
            "kind": "task_aligned",
            "convs": layout.convs,
            "boxes": boxes,
            "deformable_convs": layout.deformable_convs,
        }
    head: dict[str, Any] = {
        "kind": "parallel",
        "convs": layout.convs,
        "norm": "group" if layout.normalised else "none",
        "anchors": _anchors(config, kind, layout, where, notes),
        "boxes": boxes,
        "level_scales": kind.family != "retina",
        "centerness": kind.family == "atss",
    }
    if boxes == "bins":
        head["reg_max"] = max(1, layout.sides // 4 - 1)
    else:
        head["delta_stds"] = _delta_stds(config, kind, notes)
    return head


def _delta_stds(config: ForeignConfig, kind: Kind, notes: list[str]) -> list[float]:
    said = _list(config.model("bbox_head", "bbox_coder", "target_stds"))
    if said:
        return said
    if kind.method == "free_anchor":
        notes.append("the deltas are taken to have FreeAnchor's deviations, 0.1, 0.1, 0.2, 0.2")
    return [1.0, 1.0, 1.0, 1.0] if kind.method in ("retinanet", "pisa") else [0.1, 0.1, 0.2, 0.2]


def _anchors(config: ForeignConfig, kind: Kind, layout: Layout, where: str, notes: list[str]) -> dict[str, Any]:
    generator = config.model("bbox_head", "anchor_generator")
    if generator is None:
        if layout.anchors not in (1, 9) or (kind.family == "retina" and layout.anchors == 1):
            raise UserError(
                f"{where}: has {layout.anchors} anchors a location and does not say which; "
                "give the checkpoint with its configuration in 'meta'."
            )
        if kind.family == "retina":
            notes.append("the nine anchors are taken to be those of RetinaNet")
            return dict(_RETINA_ANCHORS)
        return {}
    _require_octaves(generator, where)
    anchors = {
        "scale": generator.get("octave_base_scale", 8),
        "per_octave": generator.get("scales_per_octave", 1),
        "ratios": _list(generator.get("ratios")) or [1.0],
    }
    if anchors["per_octave"] * len(anchors["ratios"]) != layout.anchors:
        raise UserError(
            f"{where}: its configuration has {anchors['per_octave']} sizes and {len(anchors['ratios'])} ratios of "
            f"anchors, but its layers predict for {layout.anchors} a location."
        )
    return anchors


def _require_octaves(generator: Any, where: str) -> None:
    known = {"type", "ratios", "octave_base_scale", "scales_per_octave", "strides", "center_offset"}
    other = sorted(set(generator) - known) if isinstance(generator, dict) else ["anchor_generator"]
    if other or "octave_base_scale" not in generator:
        said = ", ".join(other) or "no octave_base_scale"
        raise UserError(f"{where}: its configuration's anchor_generator has {said}, which cannot be imported.")


def _require_square(config: ForeignConfig, where: str) -> None:
    generator = config.model("bbox_head", "anchor_generator")
    if generator is None:
        return
    _require_octaves(generator, where)
    shape = (generator.get("octave_base_scale"), generator.get("scales_per_octave", 1), _list(generator.get("ratios")))
    if shape != (8, 1, [1.0]):
        raise UserError(f"{where}: its configuration has other anchors than one square of 8 strides, unknown for TOOD.")


def criterion_options(config: ForeignConfig, kind: Kind) -> dict[str, Any]:
    """The ``criterion`` of the method, as the reference trains: conflicts are settled by IoU, for example."""
    weight = _number(config.model("bbox_head", "loss_bbox", "loss_weight"))
    match kind.method:
        case "tood":
            return {"kind": "task_aligned", **_task_aligned(config), "box_weight": weight or 2.0}
        case "atss":
            return {"kind": "focal", "assigner": _atss(config), "box_weight": weight or 2.0}
        case "paa":
            return {"kind": "paa", **_read_options(config, _PAA), "unfitted": "background", "box_weight": weight or 1.3}
        case "gfl":
            dfl = _number(config.model("bbox_head", "loss_dfl", "loss_weight"))
            return {"kind": "gfl", "assigner": _atss(config), "box_weight": weight or 2.0, "dfl_weight": dfl or 0.25}
        case "retinanet":
            giou = config.model("bbox_head", "loss_bbox", "type") == "GIoULoss"
            return {
                "kind": "focal",
                "assigner": _max_iou(config),
                "box_loss": "giou" if giou else "l1",
                "box_weight": weight or 1.0,
                "weight_by": "nothing",
                "normalise_over": "group",
            }
        case "free_anchor":
            return {"kind": "free_anchor", **_read_options(config, _FREE_ANCHOR), "box_weight": weight or 0.75}
        case "pisa":
            return {
                "kind": "pisa",
                "assigner": _max_iou(config),
                **_read_options(config, _PISA),
                "box_weight": weight or 1.0,
            }
        case _:
            assert_never(kind.method)


def _task_aligned(config: ForeignConfig) -> dict[str, Any]:
    initial = config.model("train_cfg", "initial_epoch")
    return {
        "assigner": {
            "topk": config.model("train_cfg", "assigner", "topk") or 13,
            "alpha": _number(config.model("train_cfg", "alpha")) or 1.0,
            "beta": _number(config.model("train_cfg", "beta")) or 6.0,
            "conflict": "max_iou",
        },
        "warmup_assigner": {"topk": config.model("train_cfg", "initial_assigner", "topk") or 9},
        "warmup_epochs": 4 if initial is None else initial,
    }


def _atss(config: ForeignConfig) -> dict[str, Any]:
    return {"kind": "atss", "topk": config.model("train_cfg", "assigner", "topk") or 9}


def _max_iou(config: ForeignConfig) -> dict[str, Any]:
    return {
        "kind": "max_iou",
        "positive": _number(config.model("train_cfg", "assigner", "pos_iou_thr")) or 0.5,
        "negative": _number(config.model("train_cfg", "assigner", "neg_iou_thr")) or 0.4,
    }


def _read_options(config: ForeignConfig, names: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Our options by the paths of their counterparts in the configuration; missing ones keep their defaults."""
    found = {ours: _number(config.model(*theirs)) for ours, theirs in names.items()}
    return {ours: value for ours, value in found.items() if value is not None}


def inference_options(config: ForeignConfig, kind: Kind, *, clip_boxes: bool) -> dict[str, Any]:
    """The ``inference`` of the method."""
    nms = config.model("test_cfg", "nms") or {}
    iou = nms.get("iou_threshold", nms.get("iou_thr")) if isinstance(nms, dict) else None
    default = 0.5 if kind.family == "retina" else 0.6
    threshold = _number(config.model("test_cfg", "score_thr"))
    inference = {
        "score_threshold": 0.05 if threshold is None else threshold,
        "pre_nms_topk": config.model("test_cfg", "nms_pre") or 1000,
        "nms_iou": default if iou is None else iou,
        "max_detections": config.model("test_cfg", "max_per_img") or 100,
        "clip_boxes": clip_boxes and config.model("bbox_head", "bbox_coder", "clip_border") is not False,
    }
    if kind.method == "paa":
        voting = config.model("bbox_head", "score_voting") is not False
        inference |= {"rank_by": "geometric_mean", "score_voting": _VOTING_SIGMA if voting else None}
    return inference


def _list(value: Any) -> list[Any] | None:
    return list(value) if isinstance(value, list | tuple) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
