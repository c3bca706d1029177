"""Methods: a composition of head, box representation, assigner, criterion and post-processing."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tood.config.base import Config, PositiveFloat, PositiveInt, Share


class AtssAssignerConfig(Config):
    """ATSS: the ``topk`` nearest anchors of each level, threshold mean + std of their IoU."""

    topk: PositiveInt = 9


class TaskAlignedAssignerConfig(Config):
    """TAL: the ``topk`` (m) anchors with the highest t = s^alpha * u^beta (paper section 3.2)."""

    topk: PositiveInt = 13
    alpha: PositiveFloat = 1.0
    beta: PositiveFloat = 6.0
    conflict: Literal["min_area", "max_iou"] = "min_area"


class ParallelHeadConfig(Config):
    """Two towers of 3x3 convolutions, one for each task (RetinaNet, ATSS, GFL)."""

    kind: Literal["parallel"]
    convs: PositiveInt = 4
    boxes: Literal["distance", "delta", "bins"] = Field(description="How the head represents a box.")
    reg_max: PositiveInt = Field(16, description="Largest distance in strides; bins only.")
    centerness: bool = False


class TaskAlignedHeadConfig(Config):
    """T-head: task-interactive tower, task decomposition, prediction alignment (paper section 3.1)."""

    kind: Literal["task_aligned"]
    convs: PositiveInt = 6
    boxes: Literal["distance", "delta"] = Field("distance", description="Anchor-free or anchor-based.")


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


class AtssCriterionConfig(Config):
    """Focal loss, GIoU weighted by centerness, centerness."""

    kind: Literal["atss"]
    assigner: AtssAssignerConfig = AtssAssignerConfig()
    box_weight: PositiveFloat = 2.0


class GflCriterionConfig(Config):
    """Quality focal loss, GIoU and distribution focal loss."""

    kind: Literal["gfl"]
    assigner: AtssAssignerConfig = AtssAssignerConfig()
    box_weight: PositiveFloat = 2.0
    dfl_weight: PositiveFloat = 0.25


CriterionConfig = Annotated[
    TaskAlignedCriterionConfig | AtssCriterionConfig | GflCriterionConfig, Field(discriminator="kind")
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
    head: HeadConfig
    criterion: CriterionConfig
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "MethodConfig":
        boxes, kind = self.head.boxes, self.criterion.kind
        if (boxes == "bins") != (kind == "gfl"):
            raise ValueError("head.boxes 'bins' and criterion.kind 'gfl' need each other")
        centerness = isinstance(self.head, ParallelHeadConfig) and self.head.centerness
        if centerness != (kind == "atss"):
            raise ValueError("head.centerness true and criterion.kind 'atss' need each other")
        return self
