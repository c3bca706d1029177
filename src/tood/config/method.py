"""Method configuration: neck, head, box representation, criterion (with its assigner) and post-processing."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from tood.config.base import Config, Layers, PositiveFloat, PositiveInt, Share, refuse
from tood.config.parts import CriterionPart, HeadOutput


class NeckConfig(Config):
    """The pyramid's P6 and P7: from P5's output (ATSS and after), or from the backbone's C5 (RetinaNet)."""

    extra_levels_from: Literal["p5", "c5"] = "p5"


class AnchorsConfig(Config):
    """Anchors of one location: every combination of ``per_octave`` sizes and the height / width ratios."""

    scale: PositiveFloat = Field(8.0, description="Side of the smallest anchor in strides.")
    per_octave: Layers = Field(1, description="Sizes between one octave and the next.")
    ratios: tuple[PositiveFloat, ...] = Field((1.0,), min_length=1)

    @property
    def per_location(self) -> int:
        return self.per_octave * len(self.ratios)


class ParallelHeadConfig(Config):
    """Two towers of 3x3 convolutions, one for each task (RetinaNet, FCOS, ATSS, GFL)."""

    kind: Literal["parallel"]
    convs: Layers = 4
    norm: Literal["group", "none"] = "group"
    anchors: AnchorsConfig = AnchorsConfig()
    boxes: Literal["distance", "delta", "bins"] = Field(description="How the head represents a box.")
    delta_stds: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (0.1, 0.1, 0.2, 0.2)
    level_scales: bool = Field(True, description="A learnable factor of the regression for each level.")
    reg_max: Layers = Field(16, description="Largest distance in strides; bins only.")
    centerness: bool = Field(False, description="A logit of quality for each location: centerness, in PAA IoU.")
    alignment: bool = Field(False, description="Prediction alignment (TAP) from the last layers of both towers.")
    prior_probability: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.01, description="Every score at first.")

    @property
    def aligned(self) -> bool:
        return self.alignment

    @property
    def outputs(self) -> frozenset[HeadOutput]:
        """What it predicts besides class logits and boxes."""
        found: set[HeadOutput] = {"quality"} if self.centerness else set()
        if self.boxes == "bins":
            found.add("bins")
        if self.boxes == "delta" and not self.alignment:
            found.add("deltas")
        return frozenset(found)


class TaskAlignedHeadConfig(Config):
    """T-head: task-interactive tower, task decomposition, prediction alignment (paper section 3.1)."""

    kind: Literal["task_aligned"]
    convs: Layers = 6
    boxes: Literal["distance", "delta"] = Field("distance", description="Anchor-free or anchor-based.")
    deformable_convs: Annotated[int, Field(ge=0)] = Field(0, description="The first so many are deformable.")

    @model_validator(mode="after")
    def _has_so_many(self) -> "TaskAlignedHeadConfig":
        if self.deformable_convs > self.convs:
            raise ValueError("deformable_convs must not exceed convs")
        return self

    @property
    def aligned(self) -> bool:
        return True

    @property
    def outputs(self) -> frozenset[HeadOutput]:
        """What it predicts besides class logits and boxes."""
        return frozenset()


HeadConfig = Annotated[ParallelHeadConfig | TaskAlignedHeadConfig, Field(discriminator="kind")]


class InferenceConfig(Config):
    """From predictions to detections (supplement, Inference)."""

    score_threshold: Share = 0.05
    pre_nms_topk: PositiveInt = Field(
        1000, description="Best (location, class) pairs kept per level; with rank_by geometric_mean, best locations."
    )
    nms_iou: Share = 0.6
    max_detections: PositiveInt = 100
    clip_boxes: bool = True
    rank_by: Literal["class", "geometric_mean"] = Field(
        "class",
        description="Scores are thresholded and ranked by the class, and multiplied by the quality afterwards; or are "
        "sqrt(class * quality) from the start (PAA).",
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32", description="Number format of evaluation and prediction; TF32 exists on GPUs, a CPU takes float32."
    )
    score_voting: PositiveFloat | None = Field(
        None, description="PAA's sigma, by which boxes near a detection average with it; null for none."
    )


def recorded_inference(kept: Any) -> dict[str, Any]:
    """Inference settings as a result records them, with those that earlier versions had no choice of."""
    return {"precision": "float32", **(kept if isinstance(kept, dict) else {})}


_LACKING: dict[HeadOutput, str] = {
    "bins": "head.boxes 'bins'",
    "quality": "head.centerness true",
    "deltas": "head.boxes 'delta' that no prediction alignment moves",
}


class MethodConfig(Config):
    name: str
    neck: NeckConfig = NeckConfig()
    head: HeadConfig
    criterion: SerializeAsAny[CriterionPart]
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "MethodConfig":
        head, criterion, problems = self.head, self.criterion, []
        if head.boxes == "bins" and head.aligned:
            problems.append("head.alignment moves boxes and does not go with head.boxes 'bins'")
        if self.inference.rank_by == "geometric_mean" and "quality" not in head.outputs:
            problems.append("inference.rank_by 'geometric_mean' needs head.centerness true")
        given = f"criterion.kind '{criterion.kind}' as given"
        problems += [f"{given} needs {_LACKING[output]}" for output in sorted(criterion.needs - head.outputs)]
        untrained = sorted(head.outputs - criterion.trains - {"deltas"})
        problems += [f"{_LACKING[output]} is trained by no loss of {given}" for output in untrained]
        if isinstance(head, ParallelHeadConfig) and head.anchors.per_location > 1:
            if "deltas" not in head.outputs or head.centerness:
                problems.append(
                    "several head.anchors per location need head.boxes 'delta' and neither head.centerness nor "
                    "head.alignment"
                )
            elif not criterion.several_anchors:
                problems.append(f"several head.anchors per location are not defined for {given}")
        refuse(problems)
        return self
