"""The toolbox's options in the project's own terms."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from reference_check.rows import UnsupportedError
from tood.config.method import InferenceConfig
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.max_iou import MaxIouAssigner
from tood.detection.assigners.task_aligned import TaskAlignedAssigner
from tood.detection.boxes import DELTA_STDS, DeltaStds
from tood.detection.criteria.base import Criterion
from tood.detection.criteria.focal import FocalCriterion
from tood.detection.criteria.free_anchor import FreeAnchor
from tood.detection.criteria.gfl import GflCriterion
from tood.detection.criteria.paa import Paa
from tood.detection.criteria.pisa import Pisa
from tood.detection.criteria.task_aligned import TaskAlignedCriterion
from tood.detection.heads.parallel import ParallelHead
from tood.detection.heads.task_aligned import TaskAlignedHead
from tood.detection.points import SQUARE, AnchorShapes

Options = dict[str, Any]

NORM_GROUPS = 32
"""The toolbox's own default where a file does not say."""
TOOLBOX_SIGMA = 0.025
"""Of score voting; the toolbox has no option for it."""


@dataclass(frozen=True)
class Recorded:
    """A head as recorded: the pieces that the project builds for it."""

    head: nn.Module
    criterion: Criterion
    min_area_criterion: Criterion | None
    """The same under the paper's conflict rule, where that makes a difference."""
    inference: InferenceConfig
    strides: tuple[int, ...]
    num_classes: int
    delta_stds: DeltaStds | None = None
    """Deviations of the recorded box targets; None where those are in pixels."""
    phases: bool = False
    """Training depends on the epoch, and arrays carry an epoch prefix."""


def build_recorded(kind: str, options: Options) -> Recorded:
    """Build what ``head_config`` describes; UnsupportedError where the project cannot."""
    _require(kind in _BUILDERS, f"there is no head of kind {kind!r} here")
    _require(not options["anchor_generator"].get("center_offset", 0), "anchors must be centred on the grid")
    return _BUILDERS[kind](options)


def _task_aligned(options: Options) -> Recorded:
    _check_square(options)
    train, initial, quality = options["train_cfg"], options["initial_loss_cls"], options["loss_cls"]
    _require(options["loss_bbox"]["type"] == "GIoULoss", "only GIoU box losses are known")
    _require(initial.get("activated") and quality.get("activated"), "T-head scores are probabilities")
    boxes = {"anchor_free": "distance", "anchor_based": "delta"}[options["anchor_type"]]
    head = TaskAlignedHead(
        convs=options["stacked_convs"], boxes=boxes, deformable_convs=options.get("num_dcn", 0), **_sizes(options)
    )

    def criterion(conflict: str) -> TaskAlignedCriterion:
        return TaskAlignedCriterion(
            assigner=TaskAlignedAssigner(
                topk=train["assigner"]["topk"], alpha=train["alpha"], beta=train["beta"], conflict=conflict
            ),
            warmup_assigner=AtssAssigner(topk=train["initial_assigner"]["topk"]),
            warmup_epochs=train["initial_epoch"],
            box_weight=options["loss_bbox"]["loss_weight"],
            focal_alpha=_unit_weight(initial)["alpha"],
            focal_gamma=initial["gamma"],
            quality_beta=_unit_weight(quality)["beta"],
        )

    return Recorded(
        head=head,
        criterion=criterion("max_iou"),
        min_area_criterion=criterion("min_area"),
        inference=_inference(options, clip_boxes=False),
        strides=tuple(head.strides),
        num_classes=options["num_classes"],
        phases=True,
    )


def _atss(options: Options) -> Recorded:
    _check_square(options)
    focal = _unit_weight(options["loss_cls"])
    _unit_weight(options["loss_centerness"])
    head = ParallelHead(convs=options["stacked_convs"], boxes="delta", centerness=True, **_sizes(options))
    criterion = FocalCriterion(
        assigner=AtssAssigner(topk=options["train_cfg"]["assigner"]["topk"]),
        box_weight=options["loss_bbox"]["loss_weight"],
        focal_alpha=focal["alpha"],
        focal_gamma=focal["gamma"],
    )
    return _parallel(options, head, criterion)


def _gfl(options: Options) -> Recorded:
    _check_square(options)
    quality = _unit_weight(options["loss_cls"])
    head = ParallelHead(
        convs=options["stacked_convs"], boxes="bins", reg_max=options.get("reg_max", 16), **_sizes(options)
    )
    criterion = GflCriterion(
        assigner=AtssAssigner(topk=options["train_cfg"]["assigner"]["topk"]),
        box_weight=options["loss_bbox"]["loss_weight"],
        dfl_weight=options["loss_dfl"]["loss_weight"],
        quality_beta=quality["beta"],
    )
    return _parallel(options, head, criterion)


def _retina(options: Options) -> Recorded:
    focal = _unit_weight(options["loss_cls"])
    _require(options["loss_bbox"]["type"] == "L1Loss", "RetinaNet is known with the box loss L1 only")
    head, stds = _retina_head(options)
    criterion = FocalCriterion(
        assigner=_max_iou(options),
        box_loss="l1",
        box_weight=options["loss_bbox"]["loss_weight"],
        weight_by="nothing",
        focal_alpha=focal["alpha"],
        focal_gamma=focal["gamma"],
    )
    return replace(_recorded(options, head, criterion), delta_stds=stds)


def _pisa(options: Options) -> Recorded:
    focal, loss, train = _unit_weight(options["loss_cls"]), options["loss_bbox"], options["train_cfg"]
    _require(loss["type"] == "SmoothL1Loss", "PISA is known with the box loss SmoothL1 only")
    head, stds = _retina_head(options)
    criterion = Pisa(
        assigner=_max_iou(options),
        box_weight=loss["loss_weight"],
        smooth_l1_beta=loss["beta"],
        isr_k=train["isr"]["k"],
        isr_bias=train["isr"]["bias"],
        carl_k=train["carl"]["k"],
        carl_bias=train["carl"]["bias"],
        focal_alpha=focal["alpha"],
        focal_gamma=focal["gamma"],
    )
    return replace(_recorded(options, head, criterion), delta_stds=stds)


def _max_iou(options: Options) -> MaxIouAssigner:
    rule = options["train_cfg"]["assigner"]
    _require(
        rule["type"] == "MaxIoUAssigner" and not rule.get("min_pos_iou", 0), "objects must claim their best anchor"
    )
    return MaxIouAssigner(positive=rule["pos_iou_thr"], negative=rule["neg_iou_thr"])


def _retina_head(options: Options) -> tuple[ParallelHead, DeltaStds]:
    """The head of several anchors a location, and the deviations of its deltas."""
    anchors, stds = options["anchor_generator"], tuple(options["bbox_coder"]["target_stds"])
    _require(not any(options["bbox_coder"].get("target_means", ())), "box deltas must have means 0")
    sizes = _sizes(options)
    head = ParallelHead(
        convs=options["stacked_convs"],
        boxes="delta",
        anchors=AnchorShapes(anchors["octave_base_scale"], anchors["scales_per_octave"], tuple(anchors["ratios"])),
        delta_stds=stds,
        level_scales=False,
        **{**sizes, "norm_groups": sizes["norm_groups"] if options.get("norm_cfg") else None},
    )
    return head, stds


def _free_anchor(options: Options) -> Recorded:
    loss = options["loss_bbox"]
    _require(loss["type"] == "SmoothL1Loss", "FreeAnchor is known with the box loss SmoothL1 only")
    head, _ = _retina_head(options)
    criterion = FreeAnchor(
        bag=options.get("pre_anchor_topk", 50),
        alpha=options.get("alpha", 0.5),
        gamma=options.get("gamma", 2.0),
        box_weight=loss["loss_weight"],
        smooth_l1_beta=loss["beta"],
        iou_threshold=options.get("bbox_thr", 0.6),
    )
    return _recorded(options, head, criterion)


def _paa(options: Options) -> Recorded:
    _check_square(options)
    focal, rule = _unit_weight(options["loss_cls"]), options["train_cfg"]["assigner"]
    _require(
        rule["type"] == "MaxIoUAssigner"
        and rule["pos_iou_thr"] == rule["neg_iou_thr"]
        and not rule.get("min_pos_iou", 0),
        "PAA's candidates are known as those above one overlap and each object's best anchor",
    )
    head = ParallelHead(convs=options["stacked_convs"], boxes="delta", centerness=True, **_sizes(options))
    criterion = Paa(
        positive_iou=rule["pos_iou_thr"],
        topk=options.get("topk", 9),
        unfitted="background",
        box_weight=options["loss_bbox"]["loss_weight"],
        quality_weight=options["loss_centerness"]["loss_weight"],
        focal_alpha=focal["alpha"],
        focal_gamma=focal["gamma"],
    )
    recorded = _parallel(options, head, criterion)
    voting = TOOLBOX_SIGMA if options.get("score_voting", True) else None
    inference = recorded.inference.model_copy(update={"rank_by": "geometric_mean", "score_voting": voting})
    return replace(recorded, inference=inference)


def _parallel(options: Options, head: ParallelHead, criterion: Criterion) -> Recorded:
    _require(options["loss_bbox"]["type"] == "GIoULoss", "only GIoU box losses are known")
    return _recorded(options, head, criterion)


def _recorded(options: Options, head: ParallelHead, criterion: Criterion) -> Recorded:
    return Recorded(
        head=head,
        criterion=criterion,
        min_area_criterion=None,
        inference=_inference(options, clip_boxes=True),
        strides=tuple(head.strides),
        num_classes=options["num_classes"],
    )


_BUILDERS = {
    "tood_af": _task_aligned,
    "tood_ab": _task_aligned,
    "atss": _atss,
    "gfl": _gfl,
    "retina": _retina,
    "free_anchor": _free_anchor,
    "pisa": _pisa,
    "paa": _paa,
}


def _sizes(options: Options) -> Options:
    norm = options.get("norm_cfg") or {"type": "GN", "num_groups": NORM_GROUPS}
    _require(norm["type"] == "GN", f"normalisation {norm['type']} in the head is not known")
    return {
        "num_classes": options["num_classes"],
        "in_channels": options["in_channels"],
        "width": options["feat_channels"],
        "norm_groups": norm["num_groups"],
        "strides": options["anchor_generator"]["strides"],
    }


def _check_square(options: Options) -> None:
    anchors = options["anchor_generator"]
    one = list(anchors.get("ratios", [])) == [1.0] and anchors.get("scales_per_octave", 1) == 1
    _require(one, "only heads with one square anchor are known")
    _require(anchors.get("octave_base_scale") == SQUARE.scale, f"anchors must have side {SQUARE.scale} strides")
    coder = options.get("bbox_coder", {})
    if coder.get("type") == "DeltaXYWHBBoxCoder":
        _require(tuple(coder["target_stds"]) == DELTA_STDS, f"box deltas must have deviations {DELTA_STDS}")
        _require(not any(coder.get("target_means", ())), "box deltas must have means 0")


def _inference(options: Options, *, clip_boxes: bool) -> InferenceConfig:
    test = options["test_cfg"]
    _require(test["nms"]["type"] == "nms" and not test.get("min_bbox_size", 0), "only plain suppression is known")
    return InferenceConfig(
        score_threshold=test["score_thr"],
        pre_nms_topk=test["nms_pre"],
        nms_iou=test["nms"]["iou_threshold"],
        max_detections=test["max_per_img"],
        clip_boxes=clip_boxes,
    )


def _unit_weight(loss: Options) -> Options:
    _require(loss.get("use_sigmoid", False), f"{loss['type']} must work on sigmoids")
    _require(loss.get("loss_weight", 1.0) == 1.0, f"{loss['type']} must have weight 1")
    return loss


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise UnsupportedError(otherwise)
