"""Parts of a method or backbone that do not fit are refused with one sentence that says what to change."""

from copy import deepcopy
from typing import Any

import pytest

from tood.config.backbone import BackboneConfig
from tood.config.messages import validate
from tood.config.method import MethodConfig, TaskAlignedHeadConfig
from tood.io.errors import UserError

PARALLEL: dict[str, Any] = {"kind": "parallel", "boxes": "distance"}
THEAD: dict[str, Any] = {"kind": "task_aligned"}
NINE = {"scale": 4, "per_octave": 3, "ratios": [0.5, 1.0, 2.0]}
FOCAL: dict[str, Any] = {"kind": "focal"}
BY_IOU: dict[str, Any] = {"kind": "focal", "assigner": {"kind": "max_iou"}, "weight_by": "nothing"}
GFL: dict[str, Any] = {"kind": "gfl"}
QFL: dict[str, Any] = {"kind": "gfl", "dfl_weight": None}
TAL: dict[str, Any] = {"kind": "task_aligned"}

BINS = "criterion.kind 'gfl' as given needs head.boxes 'bins'"
L1 = "criterion.kind 'focal' as given needs head.boxes 'delta' that no prediction alignment moves"
SEVERAL = "several head.anchors per location need head.boxes 'delta' and neither head.centerness nor head.alignment"


def untrained(output: str, kind: str) -> str:
    return f"{output} is trained by no loss of criterion.kind '{kind}' as given"


def one_anchor(kind: str) -> str:
    return f"several head.anchors per location are not defined for criterion.kind '{kind}' as given"


LENGTH = "give either 'warmup_epochs' or 'warmup_share' and set the other to null"


def method(head: dict[str, Any], criterion: dict[str, Any], **parts: Any) -> MethodConfig:
    content = deepcopy({"name": "mine", "head": head, "criterion": criterion, **parts})
    found: MethodConfig = validate(MethodConfig, content, "params/methods/mine.yaml")
    return found


def backbone(**parts: Any) -> BackboneConfig:
    content = {"name": "mine", "kind": "resnet18", **parts}
    found: BackboneConfig = validate(BackboneConfig, content, "params/backbones/mine.yaml")
    return found


def assert_one_sentence(sentence: str) -> None:
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert not sentence.endswith("..")
    assert ". " not in sentence
    assert "Value error" not in sentence


WHOLE = "the file"


@pytest.mark.parametrize(
    ("head", "criterion", "field", "reason"),
    [
        # Bins and the loss that trains them.
        ({**PARALLEL, "boxes": "bins"}, FOCAL, WHOLE, untrained("head.boxes 'bins'", "focal")),
        ({**PARALLEL, "boxes": "bins"}, QFL, WHOLE, untrained("head.boxes 'bins'", "gfl")),
        ({**PARALLEL, "boxes": "bins"}, TAL, WHOLE, untrained("head.boxes 'bins'", "task_aligned")),
        (PARALLEL, GFL, WHOLE, BINS),
        ({**PARALLEL, "boxes": "delta"}, GFL, WHOLE, BINS),
        (THEAD, GFL, WHOLE, BINS),
        (
            {**PARALLEL, "boxes": "bins", "alignment": True},
            GFL,
            WHOLE,
            "head.alignment moves boxes and does not go with head.boxes 'bins'",
        ),
        # The loss on deltas.
        (PARALLEL, {**FOCAL, "box_loss": "l1"}, WHOLE, L1),
        ({**PARALLEL, "boxes": "delta", "alignment": True}, {**FOCAL, "box_loss": "l1"}, WHOLE, L1),
        ({**THEAD, "boxes": "delta"}, {**FOCAL, "box_loss": "l1"}, WHOLE, L1),
        (THEAD, {**FOCAL, "box_loss": "l1"}, WHOLE, L1),
        # Centerness has a loss in one criterion only.
        ({**PARALLEL, "centerness": True}, QFL, WHOLE, untrained("head.centerness true", "gfl")),
        ({**PARALLEL, "boxes": "bins", "centerness": True}, GFL, WHOLE, untrained("head.centerness true", "gfl")),
        ({**PARALLEL, "centerness": True}, TAL, WHOLE, untrained("head.centerness true", "task_aligned")),
        # Several anchors.
        ({**PARALLEL, "anchors": NINE}, BY_IOU, WHOLE, SEVERAL),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE}, FOCAL, WHOLE, one_anchor("focal")),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE}, QFL, WHOLE, one_anchor("gfl")),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE}, TAL, WHOLE, one_anchor("task_aligned")),
        (
            {**PARALLEL, "boxes": "delta", "anchors": NINE},
            {**FOCAL, "assigner": {"kind": "center_sampling"}},
            WHOLE,
            one_anchor("focal"),
        ),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE, "centerness": True}, BY_IOU, WHOLE, SEVERAL),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE, "alignment": True}, BY_IOU, WHOLE, SEVERAL),
        ({**PARALLEL, "boxes": "delta", "anchors": {"per_octave": 2}}, FOCAL, WHOLE, one_anchor("focal")),
        ({**PARALLEL, "boxes": "bins", "anchors": {"ratios": [1.0, 2.0]}}, GFL, WHOLE, SEVERAL),
        # Inside one part.
        (
            {**THEAD, "convs": 3, "deformable_convs": 4},
            TAL,
            "field 'head'",
            "deformable_convs must not exceed convs",
        ),
        (
            PARALLEL,
            {**FOCAL, "assigner": {"kind": "max_iou", "positive": 0.4, "negative": 0.5}},
            "field 'criterion.assigner'",
            "negative must not be above positive",
        ),
        (
            PARALLEL,
            {**QFL, "assigner": {"kind": "max_iou", "positive": 0.3}},
            "field 'criterion.assigner'",
            "negative must not be above positive",
        ),
        (THEAD, {**TAL, "warmup_share": 0.3}, "field 'criterion'", LENGTH),
        (THEAD, {**TAL, "warmup_epochs": None}, "field 'criterion'", LENGTH),
    ],
)
def test_methods_whose_parts_do_not_fit(
    head: dict[str, Any], criterion: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(UserError) as caught:
        method(head, criterion)
    assert str(caught.value) == f"params/methods/mine.yaml: {field} is refused: {reason}."
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("head", "criterion"),
    [
        ({**PARALLEL, "boxes": "bins"}, GFL),
        (PARALLEL, QFL),
        (THEAD, QFL),
        ({**PARALLEL, "alignment": True}, QFL),
        (PARALLEL, {**FOCAL, "assigner": {"kind": "task_aligned", "topk": 5}}),
        ({**PARALLEL, "boxes": "delta"}, {**FOCAL, "box_loss": "l1"}),
        ({**PARALLEL, "centerness": True}, FOCAL),
        ({**PARALLEL, "centerness": True, "alignment": True}, FOCAL),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE}, BY_IOU),
        ({**PARALLEL, "boxes": "delta", "anchors": NINE}, {**QFL, "assigner": {"kind": "max_iou"}}),
        ({**PARALLEL, "anchors": {"scale": 4, "ratios": [0.5]}}, TAL),
        ({**THEAD, "convs": 3, "deformable_convs": 3}, TAL),
        (PARALLEL, {**FOCAL, "assigner": {"kind": "max_iou", "positive": 0.5, "negative": 0.5}}),
        (THEAD, {**TAL, "warmup_epochs": None, "warmup_share": 0.3}),
        (THEAD, {**TAL, "warmup_epochs": 0}),
    ],
)
def test_their_nearest_relatives_fit(head: dict[str, Any], criterion: dict[str, Any]) -> None:
    method(head, criterion)


@pytest.mark.parametrize(
    ("head", "criterion", "sentence"),
    [
        (
            {"kind": "paralel"},
            FOCAL,
            "field 'head.kind' is 'paralel', which is not a valid name; did you mean 'parallel'?",
        ),
        ({"kind": "parallel"}, FOCAL, "field 'head.boxes' is missing."),
        (
            {**PARALLEL, "deformable_convs": 2},
            FOCAL,
            "field 'head.deformable_convs' is unknown",
        ),
        ({**THEAD, "alignment": True}, TAL, "field 'head.alignment' is unknown"),
        ({**THEAD, "boxes": "bins"}, GFL, "field 'head.boxes' is 'bins', which is not a valid name"),
        (PARALLEL, {"kind": "atss"}, "field 'criterion.kind' is 'atss', which is not a valid name"),
        (
            PARALLEL,
            {**FOCAL, "assigner": {"kind": "simota"}},
            "field 'criterion.assigner.kind' is 'simota', which is not a valid name",
        ),
        (PARALLEL, {**FOCAL, "assigner": {"topk": 9}}, "field 'criterion.assigner.kind' is missing."),
        (
            PARALLEL,
            {**FOCAL, "assigner": {"kind": "center_sampling", "topk": 9}},
            "field 'criterion.assigner.topk' is unknown",
        ),
        (
            {**PARALLEL, "anchors": {"ratios": []}},
            FOCAL,
            "field 'head.anchors.ratios' is empty; give at least 1.",
        ),
        ({**PARALLEL, "anchors": {"per_octave": 0}}, FOCAL, "field 'head.anchors.per_octave' is 0 but must be"),
        ({**PARALLEL, "anchors": {"scale": 0}}, FOCAL, "field 'head.anchors.scale' is 0 but must be"),
        ({**PARALLEL, "delta_stds": [0.1, 0.1, 0.2]}, FOCAL, "field 'head.delta_stds.3' is missing."),
    ],
)
def test_names_and_values_inside_the_parts(head: dict[str, Any], criterion: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        method(head, criterion)
    assert f"params/methods/mine.yaml: {sentence}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value)[-1] in ".?"


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"deformable": ["c3", "c4", "c3"]}, "the file is refused: deformable names a stage twice."),
        ({"width": 48}, "the file is refused: width 48 must be a multiple of norm_groups 32."),
        ({"width": 64, "norm_groups": 24}, "the file is refused: width 64 must be a multiple of norm_groups 24."),
    ],
)
def test_backbones_whose_parts_do_not_fit(parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        backbone(**parts)
    assert str(caught.value) == f"params/backbones/mine.yaml: {sentence}"
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("stage", ["c2", "c6", "C3"])
def test_only_the_stages_behind_the_pyramid_can_be_deformable(stage: str) -> None:
    with pytest.raises(UserError, match=f"field 'deformable.0' is '{stage}', which is not a valid name") as caught:
        backbone(deformable=[stage])
    assert "\n" not in str(caught.value)


def test_parts_have_the_papers_values_by_default() -> None:
    found = method(THEAD, TAL)
    assert isinstance(found.head, TaskAlignedHeadConfig)
    assert found.head.model_dump() == {"kind": "task_aligned", "convs": 6, "boxes": "distance", "deformable_convs": 0}
    assert found.neck.extra_levels_from == "p5"
    assert backbone(deformable=["c5", "c4"]).deformable == ("c5", "c4")
