"""Checkpoints of MMDetection and the TOOD authors: what is recognised, what is refused, what comes out."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import deform_conv2d

from tood.config.backbone import load_backbone
from tood.config.blocks import read_block
from tood.config.method import MethodConfig
from tood.data.formats.coco_classes import COCO_CATEGORIES
from tood.detection.boxes import decode_deltas
from tood.detection.cost import count_parameters
from tood.detection.detector import build_detector
from tood.detection.inference import detect
from tood.detection.postprocess import Detections, postprocess
from tood.io.errors import UserError
from tood.weights.mmdet.importing import Given, ImportedModel, import_checkpoint, import_state
from tood.weights.mmdet.layout import name_weights, read_layout
from tood.weights.mmdet.parameter_keys import translate
from tood.weights.model_file import load_detection_model, load_model, save_model

Array = NDArray[Any]
ROOT = Path(__file__).parents[2]
RECORDED = [ROOT / "tests/golden/data", ROOT.parent / "shared/golden"]
sys.path[:0] = [str(ROOT / "tests/golden"), str(ROOT / "tests/detection")]

from mmdet_layouts import (  # noqa: E402
    AUTHORS,
    CONFIGS,
    KEYS,
    VARIANTS,
    Shapes,
    atss_keys,
    backbone_keys,
    gfl_keys,
    neck_keys,
    random_state,
    retina_keys,
    tood_keys,
)


def take(
    state: dict[str, Tensor],
    meta: dict[str, Any] | None = None,
    *,
    boxes: Any = "distance",
    method: Any = "plain",
    **given: Any,
) -> ImportedModel:
    """Import; of what a file may leave open the plainest, unless said otherwise."""
    if method == "plain":
        plain = {".atss_": "atss", ".retina_": "retinanet"}
        method = next((name for part, name in plain.items() if any(part in key for key in state)), None)
    known = Given(boxes if any("tood_" in key for key in state) else None, method=method, **given)
    return import_state(state, meta or {}, Path("theirs.pth"), "0" * 64, known)


def small(head: Shapes) -> dict[str, Tensor]:
    deepest = any("retina" in key for key in head)
    return random_state(backbone_keys(18) | neck_keys(512, 32, from_c5=deepest) | head)


@pytest.fixture(scope="module")
def heads() -> dict[str, Shapes]:
    """Small detectors of 3 classes, one of each family, and of both kinds of names."""
    return {
        "tood": tood_keys(32, 3),
        "authors": tood_keys(32, 3, authors=True),
        "atss": atss_keys(32, 3),
        "gfl": gfl_keys(32, 3),
        "retina": retina_keys(32, 3),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_recognised_by_names_and_shapes(name: str) -> None:
    """Of the specification's key lists, nothing is missing, left over or of another shape."""
    options, head, parameters = VARIANTS[name]
    shapes = backbone_keys(**options) | neck_keys(2048, from_c5=name.startswith("retina")) | head
    if name in KEYS:
        assert len(shapes) == KEYS[name]
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in shapes.items()}
        weights = name_weights(state, name)
        layout = read_layout(weights)
    assert layout.classes == 80
    assert layout.width == layout.head_width == 256
    assert layout.deformable == tuple(f"c{stage}" for stage in options.get("deformable", ()))
    groups = options.get("groups", 1)
    kind = f"resnet{options['depth']}" if groups == 1 else f"resnext101_{groups}x4d"
    assert layout.backbone == kind
    assert layout.extra_levels_from == ("c5" if name.startswith("retina") else "p5")
    assert layout.deformable_convs == (2 if name.startswith("tood") and layout.deformable else 0)
    assert weights.authors == ("authors" in name)
    with torch.device("meta"):
        detector = _built(weights.family, layout)
        own = {key: tuple(value.shape) for key, value in detector.state_dict().items()}
    assert own == {key: tuple(value.shape) for key, value in translate(state).items()}
    if parameters is not None:
        assert count_parameters(detector)[0] == parameters


def _built(family: str, layout: Any) -> torch.nn.Module:
    method = {"tood": "tood", "atss": "atss", "gfl": "gfl", "retina": "retinanet"}[family]
    value = read_block(ROOT / "params", "methods", method, MethodConfig, "test")
    if family == "tood":
        value["head"] = {**value["head"], "deformable_convs": layout.deformable_convs}
    backbone = load_backbone("r50", ROOT / "params").model_copy(
        update={"kind": layout.backbone, "deformable": layout.deformable}
    )
    return build_detector(MethodConfig.model_validate(value), backbone, layout.classes)


def recorded() -> Iterator[tuple[str, Path]]:
    names = ("tood_r50_ab", "tood_r50", "atss_r50", "gfl_r50", "tood_r50_dcn_c3c5")
    for name in names:
        folder = next((folder for folder in RECORDED if (folder / f"whole_{name}.npz").is_file()), None)
        if folder is not None:
            yield name, folder


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        pytest.param(name, folder, id=name, marks=() if name in ("tood_r50_ab", "gfl_r50") else pytest.mark.long)
        for name, folder in recorded()
    ],
)
def test_imported_weights_give_the_recorded_detections(tmp_path: Path, name: str, folder: Path) -> None:
    """All tensors of a recorded detector, drawn by its rule, through a file and our own format."""
    from reference_check.whole import draw_tensor

    reference = json.loads((folder / f"whole_{name}.json").read_text())
    state = {entry["key"]: torch.from_numpy(draw_tensor(reference["salt"], entry)) for entry in reference["tensors"]}
    meta = {"mmdet_version": "3.3.0", "cfg": f"model = {reference['model_config']!r}"}
    torch.save({"meta": meta, "state_dict": state}, tmp_path / "theirs.pth")
    imported = import_checkpoint(tmp_path / "theirs.pth")
    save_model(tmp_path / "ours.pt", imported.config, imported.classes, imported.category_ids, imported.detector)
    model = load_detection_model(tmp_path / "ours.pt")
    batch = torch.from_numpy(np.load(folder / "whole_inputs.npz")["batch"])
    sizes = torch.tensor([meta["img_shape"] for meta in reference["img_metas"]])
    scales = torch.tensor([meta["scale_factor"] for meta in reference["img_metas"]])
    arrays = np.load(folder / f"whole_{name}.npz")
    for prefix, factors in (("det", None), ("det_rescaled", scales)):
        found = detect(model.detector, batch, sizes, factors, model.method.inference)
        for image, one in enumerate(found):
            boxes, scores, labels = (arrays[f"{prefix}_{part}_{image}"] for part in ("bboxes", "scores", "labels"))
            assert one.labels.tolist() == labels.tolist()
            assert np.abs(one.boxes.numpy() - boxes).max() < 1e-2
            assert np.abs(one.scores.numpy() - scores).max() < 1e-4
    assert model.config.source.version == "3.3.0"
    assert model.classes == tuple(COCO_CATEGORIES)
    assert model.category_ids[-1] == 90


def recorded_heads() -> Iterator[tuple[str, Path]]:
    for name in ("tood_af", "tood_ab", "atss", "paa", "gfl", "retina", "free_anchor", "pisa_retina"):
        folder = next((folder for folder in RECORDED if (folder / f"head_{name}.json").is_file()), None)
        if folder is not None:
            yield name, folder


@pytest.mark.parametrize(
    ("name", "folder"), recorded_heads(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_recorded_head_detects_the_same_from_an_imported_file(tmp_path: Path, name: str, folder: Path) -> None:
    """With its own configuration and any backbone, through a file and our own format, on the recorded features."""
    reference = json.loads((folder / f"head_{name}.json").read_text())
    options = dict(reference["head_config"])
    beside = {key: options.pop(key) for key in ("train_cfg", "test_cfg")}
    nine = options["anchor_generator"]["scales_per_octave"] > 1
    state = random_state(backbone_keys(18) | neck_keys(512, 32, from_c5=nine))
    more = 32 - options["in_channels"]  # channels of the pyramid, which groups of a normalisation must divide
    instances = reference["instances"].values()
    weights = np.load(folder / next(iter(instances))["files"]["weights"])
    for key in weights.files:
        weight = torch.from_numpy(weights[key])
        if key.endswith("convs.0.conv.weight") and more:
            weight = torch.cat([weight, torch.randn(len(weight), more, 3, 3)], dim=1)
        state[f"bbox_head.{key}"] = weight
    classes = tuple("abcdefgh"[: options["num_classes"]])
    meta = {"CLASSES": classes, "cfg": f"model = {dict(bbox_head=options, **beside)!r}"}
    torch.save({"meta": meta, "state_dict": state}, tmp_path / "theirs.pth")
    imported = import_checkpoint(tmp_path / "theirs.pth")
    save_model(tmp_path / "ours.pt", imported.config, imported.classes, imported.category_ids, imported.detector)
    model = load_detection_model(tmp_path / "ours.pt")
    for instance in instances:
        arrays = np.load(folder / instance["files"]["arrays"])
        maps = [torch.from_numpy(arrays[f"feat_{level}"]) for level in range(5)]
        features = [torch.nn.functional.pad(one, (0, 0, 0, 0, 0, more)) for one in maps]
        with torch.inference_mode():
            predictions = model.detector.bbox_head(features)
        sizes, scales = (
            torch.tensor([one[key] for one in instance["img_metas"]]) for key in ("img_shape", "scale_factor")
        )
        for prefix, factors in (("det", None), ("det_rescaled", scales)):
            for image, found in enumerate(postprocess(predictions, sizes, factors, model.method.inference)):
                assert_detected(found, *(arrays[f"{prefix}_{part}_{image}"] for part in ("bboxes", "scores", "labels")))


def assert_detected(found: Detections, boxes: Array, scores: Array, labels: Array) -> None:
    """Each recorded detection once, in any order; finite ones also where the reference's box is no number."""
    assert len(found.scores) == len(scores)
    assert found.boxes.isfinite().all()
    near = np.abs(found.scores.numpy()[:, None] - scores) < 1e-4
    near &= found.labels.numpy()[:, None] == labels
    near &= ~(np.abs(found.boxes.numpy()[:, None] - boxes) >= 1e-2).any(axis=2)  # a box of NaN is near to all
    free = np.ones(len(found.scores), dtype=bool)
    for one in np.argsort(np.isnan(boxes).any(axis=1), kind="stable"):
        mine = np.flatnonzero(free & near[:, one])
        assert len(mine), (scores[one], labels[one], boxes[one])
        free[mine[0]] = False


def test_the_references_options_come_along(heads: dict[str, Shapes]) -> None:
    inference = {name: take(small(head), classes=list("abc")).config for name, head in heads.items()}
    clipped = {name: config.method.inference.clip_boxes for name, config in inference.items()}
    assert clipped == {"tood": False, "authors": True, "atss": True, "gfl": True, "retina": True}
    overlap = {name: config.method.inference.nms_iou for name, config in inference.items()}
    assert overlap == {"tood": 0.6, "authors": 0.6, "atss": 0.6, "gfl": 0.6, "retina": 0.5}
    assert {name: config.source.dialect for name, config in inference.items() if config.source.dialect != "mmdet"} == {
        "authors": "authors"
    }
    for config in inference.values():
        assert "images are taken to be resized to 800 within 1333 pixels" in config.source.notes
        assert (config.images.short, config.images.long, config.images.antialias) == (800, 1333, False)
        assert config.method.inference.score_threshold == 0.05
    assert inference["tood"].method.criterion.assigner.conflict == "max_iou"
    assert take(small(heads["tood"]), classes=list("abc"), dialect="authors").config.method.inference.clip_boxes


def test_the_authors_and_mmdetections_names_are_the_same_detector(heads: dict[str, Shapes]) -> None:
    state = small(heads["tood"])
    renamed = {}
    for key, value in state.items():
        for ours, theirs in AUTHORS.items():
            key = key.replace(ours, theirs)
        renamed[key] = value
    ours, theirs = (take(one, classes=list("abc")).detector.state_dict() for one in (state, renamed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert set(renamed) == set(small(heads["authors"]))


@pytest.mark.parametrize("family", ["tood", "authors", "atss", "gfl", "retina"])
def test_what_does_not_fit_is_refused_by_its_name(heads: dict[str, Shapes], family: str) -> None:
    state = small(heads[family])
    inside = [key for key in state if key.startswith("bbox_head.")]
    for key in [*inside[::15], *list(state)[::61], inside[-1]]:
        missing = {name: value for name, value in state.items() if name != key}
        with pytest.raises(UserError, match=rf"lacks {key.replace('.', '[.]')}\b"):
            take(missing, classes=list("abc"))
        reshaped = {**state, key: torch.zeros((*state[key].shape, 2))}
        with pytest.raises(UserError, match=key.replace(".", "[.]")):
            take(reshaped, classes=list("abc"))
    for key in ("bbox_head.reg_conf.0.weight", "backbone.layer2.0.conv4.weight", "teacher.weight"):
        with pytest.raises(UserError, match=f"unknown {key}"):
            take({**state, key: torch.zeros(1)}, classes=list("abc"))


def test_layers_that_disagree_are_both_named(heads: dict[str, Shapes]) -> None:
    state = small(heads["atss"])
    state["bbox_head.atss_cls.bias"] = torch.zeros(4)
    with pytest.raises(UserError, match=r"bbox_head.atss_cls.weight 3 and bbox_head.atss_cls.bias 4"):
        take(state, classes=list("abc"))


def test_values_that_are_no_numbers_are_refused(heads: dict[str, Shapes]) -> None:
    state = small(heads["gfl"])
    state["bbox_head.gfl_reg.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"not finite numbers in bbox_head[.]gfl_reg[.]weight"):
        take(state, classes=list("abc"))
    state = small(heads["gfl"])
    state["bbox_head.integral.project"] *= 2
    with pytest.raises(UserError, match=r"integral[.]project"):
        take(state, classes=list("abc"))


def test_what_shapes_cannot_tell_is_asked_for(heads: dict[str, Shapes]) -> None:
    state = small(heads["tood"])
    with pytest.raises(UserError, match="--boxes distance or --boxes delta"):
        take(state, classes=list("abc"), boxes=None)
    with pytest.raises(UserError, match="does not name its 3 classes; give --classes FILE"):
        take(state)
    meta = {"config": "model = dict(bbox_head=dict(type='TOODHead', anchor_type='anchor_based'))"}
    assert take(state, meta, classes=list("abc"), boxes=None).config.method.head.boxes == "delta"
    with pytest.raises(UserError, match="says that its boxes are deltas; leave out --boxes distance"):
        take(state, meta, classes=list("abc"), boxes="distance")
    with pytest.raises(UserError, match="has the TOOD authors' names"):
        take(small(heads["authors"]), classes=list("abc"), dialect="mmdet")


CONFIG = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=18, style='pytorch', frozen_stages=2, norm_eval=True),
    neck=dict(type='FPN', start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead',
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=5, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0] * 4, target_stds=[1., 1., 2., 2.])),
    test_cfg=dict(nms_pre=700, min_bbox_size=0, score_thr=0.1, nms=dict(type='nms', iou_threshold=0.55),
                  max_per_img=70))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(1000, 600), transforms=[dict(type='Resize', keep_ratio=True)])]
optimizer = build(print('executed'))
"""


def test_what_the_file_says_about_itself_counts(heads: dict[str, Shapes], capsys: pytest.CaptureFixture[str]) -> None:
    meta = {"config": CONFIG, "CLASSES": ("cat", "dog", "person"), "mmdet_version": "2.3.0"}
    config = take(small(heads["retina"]), meta).config
    assert capsys.readouterr().out == ""
    inference = config.method.inference
    assert (inference.score_threshold, inference.pre_nms_topk) == (0.1, 700)
    assert (inference.nms_iou, inference.max_detections) == (0.55, 70)
    assert config.method.head.anchors.scale == 5
    assert config.method.head.delta_stds == (1.0, 1.0, 2.0, 2.0)
    assert (config.images.short, config.images.long) == (600, 1000)
    assert config.backbone.frozen_stages == 2
    assert config.source.version == "2.3.0"
    assert config.source.notes == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("style='pytorch'", "style='caffe'", "'caffe' as model.backbone.style"),
        ("'RetinaHead'", "'RetinaSepBNHead'", "'RetinaSepBNHead' as model.bbox_head.type"),
        ("'on_input'", "'on_lateral'", "'on_lateral' as model.neck.add_extra_convs"),
        ("std=[58.395, 57.12, 57.375]", "std=[1.0, 1.0, 1.0]", r"\[1.0, 1.0, 1.0\] as img_norm_cfg.std"),
        ("type='nms'", "type='soft_nms'", "'soft_nms' as test_cfg.nms.type"),
        ("strides=[8, 16, 32, 64, 128]", "strides=[4, 8, 16, 32, 64]", "as anchor_generator.strides"),
        ("octave_base_scale=5", "scales=[8]", "anchor_generator has scales"),
        ("scales_per_octave=3", "scales_per_octave=2", "2 sizes and 3 ratios of anchors"),
        ("keep_ratio=True", "keep_ratio=False", "False as test pipeline's keep_ratio"),
    ],
)
def test_what_has_no_counterpart_here_is_refused(heads: dict[str, Shapes], old: str, new: str, said: str) -> None:
    assert old in CONFIG
    with pytest.raises(UserError, match=said):
        take(small(heads["retina"]), {"config": CONFIG.replace(old, new)}, classes=list("abc"))


SAME_NAMES = {"atss": "atss", "paa": "atss", "retinanet": "retina", "free_anchor": "retina", "pisa": "retina"}
"""Detectors by the family whose names their layers have."""


@pytest.mark.parametrize("kind", SAME_NAMES)
def test_a_published_file_is_the_shipped_method(heads: dict[str, Shapes], kind: str) -> None:
    """Layers of the same names are told apart by the configuration, and used as this project's method file says."""
    config = take(small(heads[SAME_NAMES[kind]]), {"cfg": CONFIGS[kind]}, classes=list("abc"), method=None).config
    shipped = MethodConfig.model_validate(read_block(ROOT / "params", "methods", kind, MethodConfig, "test"))
    if kind == "paa":  # MMDetection gives objects without a mixture no positives
        shipped = shipped.model_copy(
            update={"criterion": shipped.criterion.model_copy(update={"unfitted": "background"})}
        )
    assert config.method == shipped
    assert config.source.notes == ()


@pytest.mark.parametrize("kind", SAME_NAMES)
def test_without_a_configuration_the_user_says_which_detector_it_is(heads: dict[str, Shapes], kind: str) -> None:
    state = small(heads[SAME_NAMES[kind]])
    options = " or ".join(f"--method {other}" for other, family in SAME_NAMES.items() if family == SAME_NAMES[kind])
    with pytest.raises(UserError, match=f"have the same names and shapes; give {options}[.]$"):
        take(state, classes=list("abc"), method=None)
    given = take(state, classes=list("abc"), method=kind).config
    said = take(state, {"cfg": CONFIGS[kind]}, classes=list("abc"), method=kind).config
    assert given.method == said.method
    assert any("FreeAnchor's deviations" in note for note in given.source.notes) == (kind == "free_anchor")


def test_a_method_that_the_file_contradicts_is_refused(heads: dict[str, Shapes]) -> None:
    meta = {"cfg": CONFIGS["pisa"]}
    with pytest.raises(UserError, match="says that its head is a PISARetinaHead; leave out --method free_anchor"):
        take(small(heads["retina"]), meta, classes=list("abc"), method="free_anchor")
    with pytest.raises(UserError, match="its layers are those of RetinaNet or FreeAnchor or PISA; leave out --method"):
        take(small(heads["retina"]), classes=list("abc"), method="paa")
    with pytest.raises(UserError, match="its layers are those of GFL; leave out --method atss"):
        take(small(heads["gfl"]), classes=list("abc"), method="atss")


def test_what_a_published_file_says_differently_comes_along(heads: dict[str, Shapes]) -> None:
    def criterion_of(kind: str, old: str, new: str) -> Any:
        assert old in CONFIGS[kind]
        meta = {"cfg": CONFIGS[kind].replace(old, new)}
        return take(small(heads[SAME_NAMES[kind]]), meta, classes=list("abc"), method=None).config.method

    assert criterion_of("paa", "score_voting=True", "score_voting=False").inference.score_voting is None
    assert criterion_of("pisa", "bias=0.2", "bias=0.0").criterion.carl_bias == 0.0
    assert criterion_of("pisa", "pos_iou_thr=0.5", "pos_iou_thr=0.6").criterion.assigner.positive == 0.6


def test_the_deviations_of_deltas_decide_where_boxes_are(heads: dict[str, Shapes]) -> None:
    """The same weights as FreeAnchor and as RetinaNet: a wrong guess would move every box."""
    state = small(heads["retina"])
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = {
            kind: take(state, classes=list("abc"), method=kind).detector(images)
            for kind in ("retinanet", "free_anchor", "pisa")
        }
    assert torch.equal(found["pisa"].boxes, found["retinanet"].boxes)
    assert torch.equal(found["free_anchor"].class_logits, found["retinanet"].class_logits)
    assert found["free_anchor"].deltas is not None
    assert found["retinanet"].deltas is not None
    assert torch.equal(found["free_anchor"].deltas, found["retinanet"].deltas)
    moved = decode_deltas(found["retinanet"].points.anchors, found["free_anchor"].deltas, (0.1, 0.1, 0.2, 0.2))
    torch.testing.assert_close(found["free_anchor"].boxes, moved)
    assert not torch.allclose(found["free_anchor"].boxes, found["retinanet"].boxes, atol=1e-2)


def test_classes_of_coco_have_its_category_ids(heads: dict[str, Shapes]) -> None:
    state = small(heads["atss"])
    assert take(state, {"CLASSES": ("cat", "dog", "teapot")}).category_ids == (1, 2, 3)
    assert take(state, {"dataset_meta": {"classes": ["x", "y", "z"]}}).classes == ("x", "y", "z")
    with pytest.raises(UserError, match="scores 3 classes, but 2 names are given"):
        take(state, {"CLASSES": ("cat", "dog")})
    with pytest.raises(UserError, match="named twice"):
        take(state, classes=["a", "b", "a"])
    shuffled = tuple(reversed(COCO_CATEGORIES))
    old = tuple(name.replace(" ", "_") for name in shuffled)
    model = take(small(atss_keys(32, 80)), {"CLASSES": old})
    assert model.classes == shuffled
    assert model.category_ids == tuple(COCO_CATEGORIES[name] for name in shuffled)


def test_old_and_first_version_deformable_convolutions(heads: dict[str, Shapes]) -> None:
    """``conv2_offset`` beside the convolution, and offsets without weights of the samples."""
    shapes = backbone_keys(50, deformable=(5,)) | neck_keys(2048, 32) | heads["gfl"]
    state = random_state(shapes)
    modern = take(state, classes=list("abc")).detector
    old = {key.replace("conv2.conv_offset", "conv2_offset"): value for key, value in state.items()}
    assert set(old) != set(state)
    same = take(old, classes=list("abc")).detector.state_dict()
    assert all(torch.equal(value, same[key]) for key, value in modern.state_dict().items())
    first = {key: value[:18] if ".conv_offset." in key else value for key, value in state.items()}
    imported = take(first, classes=list("abc"))
    assert any("first version" in note for note in imported.config.source.notes)
    layer = imported.detector.backbone.layer4[1].conv2
    x = torch.randn(1, 512, 6, 5)
    offsets = torch.nn.functional.conv2d(
        x,
        first["backbone.layer4.1.conv2.conv_offset.weight"],
        first["backbone.layer4.1.conv2.conv_offset.bias"],
        padding=1,
    )
    with torch.no_grad():
        assert torch.allclose(layer(x), deform_conv2d(x, offsets, layer.weight, padding=1), atol=1e-5)


@pytest.mark.parametrize("family", ["tood", "gfl"])
def test_a_head_may_have_another_width_than_its_pyramid(tmp_path: Path, family: str) -> None:
    head = {"tood": tood_keys(64, 3), "gfl": gfl_keys(64, 3)}[family]
    for key in head:
        if key.endswith("convs.0.conv.weight"):
            head[key] = (64, 32, 3, 3)
    imported = take(small(head), classes=list("abc"))
    assert (imported.config.backbone.width, imported.config.head_width) == (32, 64)
    save_model(tmp_path / "x.pt", imported.config, imported.classes, imported.category_ids, imported.detector)
    model = load_detection_model(tmp_path / "x.pt")
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(model.detector(images).boxes, imported.detector(images).boxes, rtol=1e-4, atol=1e-3)


def test_a_wrapped_or_bare_file_and_missing_counters_are_taken(heads: dict[str, Shapes]) -> None:
    state = small(heads["atss"])
    plain = take(state, classes=list("abc")).detector.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    before_counters = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    for other in (wrapped, before_counters):
        found = take(other, classes=list("abc")).detector.state_dict()
        assert all(torch.equal(value, found[key]) for key, value in plain.items())


def test_other_files_are_refused_in_a_sentence(tmp_path: Path, heads: dict[str, Shapes]) -> None:
    path = tmp_path / "x.pth"
    for content, said in (
        ({"a": torch.ones(2)}, "holds no head of TOOD, ATSS, PAA, GFL, RetinaNet"),
        ({"meta": {}, "state_dict": {}}, "neither a 'state_dict' nor tensors by name"),
        ([1, 2], "neither a 'state_dict' nor tensors by name"),
        ({**small(heads["atss"]), "bbox_head.gfl_cls.weight": torch.ones(1)}, "layers of several heads"),
        ({**small(heads["tood"]), "bbox_head.cls_prob_conv1.bias": torch.ones(8)}, "are the same layer"),
        ({**small(heads["tood"]), "epoch": 3}, "'epoch' is no tensor"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=said):
            import_checkpoint(path, Given(boxes="distance" if "tood" in said or "same" in said else None))


def test_the_format_says_where_weights_come_from(tmp_path: Path, heads: dict[str, Shapes]) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": small(heads["tood"]), "meta": {"CLASSES": ("a", "b", "c")}}, path)
    imported = import_checkpoint(path, Given(boxes="distance"))
    ours = tmp_path / "ours.pt"
    save_model(ours, imported.config, imported.classes, imported.category_ids, imported.detector)
    model = load_detection_model(ours)
    assert model.config.model_dump(mode="json") == imported.config.model_dump(mode="json")
    assert model.config.source.file == "theirs.pth"
    assert len(model.config.source.sha256) == 64
    assert model.network_input.images.antialias is False
    with pytest.raises(UserError, match="holds imported weights, not a run's"):
        load_model(ours)
    with pytest.raises(UserError, match="is a model of this project already"):
        import_checkpoint(ours)
    with pytest.raises(UserError, match="tood import"):
        load_detection_model(path)
