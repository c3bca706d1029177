"""Methods: a composition of neck, head, box representation, assigner, criterion and post-processing."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tood.config.base import Config, PositiveFloat, PositiveInt, Share


class NeckConfig(Config):
    """The pyramid's P6 and P7: from P5's output (ATSS and after), or from the trunk's C5 (RetinaNet)."""

    extra_levels_from: Literal["p5", "c5"] = "p5"


class AnchorsConfig(Config):
    """Anchors of one location: every combination of ``per_octave`` sizes and the height / width ratios."""

    scale: PositiveFloat = Field(8.0, description="Side of the smallest anchor in strides.")
    per_octave: PositiveInt = Field(1, description="Sizes between one octave and the next.")
    ratios: tuple[PositiveFloat, ...] = Field((1.0,), min_length=1)

    @property
    def per_location(self) -> int:
        return self.per_octave * len(self.ratios)


class AtssAssignerConfig(Config):
    """ATSS: the ``topk`` nearest anchors of each level, threshold mean + std of their IoU."""

    kind: Literal["atss"] = "atss"
    topk: PositiveInt = 9


class MaxIouAssignerConfig(Config):
    """RetinaNet: by the IoU of anchor and object; between the two thresholds anchors do not count."""

    kind: Literal["max_iou"]
    positive: Share = 0.5
    negative: Share = 0.4

    @model_validator(mode="after")
    def _is_ordered(self) -> "MaxIouAssignerConfig":
        if self.negative > self.positive:
            raise ValueError("negative must not be above positive")
        return self


class CenterSamplingAssignerConfig(Config):
    """FCOS: locations within ``radius`` strides of an object's centre, on the level of its size."""

    kind: Literal["center_sampling"]
    radius: PositiveFloat = 1.5


PriorAssignerConfig = Annotated[
    AtssAssignerConfig | MaxIouAssignerConfig | CenterSamplingAssignerConfig, Field(discriminator="kind")
]
"""Assigners that look at anchors and objects only, not at predictions."""


class TaskAlignedAssignerConfig(Config):
    """TAL: the ``topk`` (m) anchors with the highest t = s^alpha * u^beta (paper section 3.2)."""

    topk: PositiveInt = 13
    alpha: PositiveFloat = 1.0
    beta: PositiveFloat = 6.0
    conflict: Literal["min_area", "max_iou"] = "min_area"


class ParallelHeadConfig(Config):
    """Two towers of 3x3 convolutions, one for each task (RetinaNet, FCOS, ATSS, GFL)."""

    kind: Literal["parallel"]
    convs: PositiveInt = 4
    norm: Literal["group", "none"] = "group"
    anchors: AnchorsConfig = AnchorsConfig()
    boxes: Literal["distance", "delta", "bins"] = Field(description="How the head represents a box.")
    delta_stds: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (0.1, 0.1, 0.2, 0.2)
    level_scales: bool = Field(True, description="A learnable factor of the regression for each level.")
    reg_max: PositiveInt = Field(16, description="Largest distance in strides; bins only.")
    centerness: bool = False
    alignment: bool = Field(False, description="Prediction alignment (TAP) from the last layers of both towers.")


class TaskAlignedHeadConfig(Config):
    """T-head: task-interactive tower, task decomposition, prediction alignment (paper section 3.1)."""

    kind: Literal["task_aligned"]
    convs: PositiveInt = 6
    boxes: Literal["distance", "delta"] = Field("distance", description="Anchor-free or anchor-based.")
    deformable_convs: Annotated[int, Field(ge=0)] = Field(0, description="The first so many are deformable.")

    @model_validator(mode="after")
    def _has_so_many(self) -> "TaskAlignedHeadConfig":
        if self.deformable_convs > self.convs:
            raise ValueError("deformable_convs must not exceed convs")
        return self


HeadConfig = Annotated[ParallelHeadConfig | TaskAlignedHeadConfig, Field(discriminator="kind")]


class TaskAlignedCriterionConfig(Config):
    """TOOD's two phases: ATSS with focal loss, then TAL with its aligned losses."""

    kind: Literal["task_aligned"]
    assigner: TaskAlignedAssignerConfig = TaskAlignedAssignerConfig()
    warmup_assigner: AtssAssignerConfig = AtssAssignerConfig()
    warmup_epochs: Annotated[int, Field(ge=0)] | None = Field(4, description="Epochs of the ATSS phase.")
    warmup_share: Share | None = Field(None, description="The same as a share of all steps; replaces warmup_epochs.")
    box_weight: PositiveFloat = 2.0

    @model_validator(mode="after")
    def _has_one_length(self) -> "TaskAlignedCriterionConfig":
        if (self.warmup_epochs is None) == (self.warmup_share is None):
            raise ValueError("give either 'warmup_epochs' or 'warmup_share' and set the other to null")
        return self


class FocalCriterionConfig(Config):
    """Focal loss, a box loss, and centerness where the head predicts it (RetinaNet, FCOS, ATSS)."""

    kind: Literal["focal"]
    assigner: PriorAssignerConfig = AtssAssignerConfig()
    box_loss: Literal["giou", "l1"] = "giou"
    box_weight: PositiveFloat = 2.0
    weight_by: Literal["centerness", "nothing"] = Field("centerness", description="Weight of the box loss.")


class GflCriterionConfig(Config):
    """Quality focal loss, GIoU and, with bins, distribution focal loss (GFL; without bins ATSS + QFL)."""

    kind: Literal["gfl"]
    assigner: PriorAssignerConfig = AtssAssignerConfig()
    box_weight: PositiveFloat = 2.0
    dfl_weight: PositiveFloat | None = 0.25


CriterionConfig = Annotated[
    TaskAlignedCriterionConfig | FocalCriterionConfig | GflCriterionConfig, Field(discriminator="kind")
]


class InferenceConfig(Config):
    """From predictions to detections (supplement, Inference)."""

    score_threshold: Share = 0.05
    pre_nms_topk: PositiveInt = Field(1000, description="Best (location, class) pairs kept per level.")
    nms_iou: Share = 0.6
    max_detections: PositiveInt = 100
    clip_boxes: bool = True


class MethodConfig(Config):
    name: str
    neck: NeckConfig = NeckConfig()
    head: HeadConfig
    criterion: CriterionConfig
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "MethodConfig":
        head, criterion = self.head, self.criterion
        distributed = isinstance(criterion, GflCriterionConfig) and criterion.dfl_weight is not None
        if (head.boxes == "bins") != distributed:
            raise ValueError("head.boxes 'bins' and criterion.kind 'gfl' with a dfl_weight need each other")
        aligned = isinstance(head, TaskAlignedHeadConfig) or head.alignment
        if aligned and head.boxes == "bins":
            raise ValueError("head.alignment moves boxes and does not go with head.boxes 'bins'")
        on_deltas = isinstance(criterion, FocalCriterionConfig) and criterion.box_loss == "l1"
        if on_deltas and (head.boxes != "delta" or aligned):
            raise ValueError("criterion.box_loss 'l1' needs head.boxes 'delta' that no prediction alignment moves")
        if isinstance(head, ParallelHeadConfig):
            self._parallel_head_fits(head)
        return self

    def _parallel_head_fits(self, head: ParallelHeadConfig) -> None:
        criterion = self.criterion
        if head.centerness and not isinstance(criterion, FocalCriterionConfig):
            raise ValueError("head.centerness true needs criterion.kind 'focal'")
        if head.anchors.per_location > 1:
            by_iou = not isinstance(criterion, TaskAlignedCriterionConfig) and criterion.assigner.kind == "max_iou"
            if head.boxes != "delta" or head.centerness or head.alignment or not by_iou:
                raise ValueError(
                    "several head.anchors per location need head.boxes 'delta', criterion.assigner.kind 'max_iou' "
                    "and neither head.centerness nor head.alignment"
                )
