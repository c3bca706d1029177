"""Names and shapes of checkpoints of MMDetection and the TOOD authors (specification, section 8.2)."""

from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def norm(name: str, channels: int) -> Shapes:
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in names}, f"{name}.num_batches_tracked": ()}


def backbone_keys(depth: int, groups: int = 1, base: int = 64, deformable: tuple[int, ...] = ()) -> Shapes:
    """Specification 8.2: torchvision's names, and the offset layers of deformable convolutions."""
    shapes: Shapes = {"backbone.conv1.weight": (64, 3, 7, 7), **norm("backbone.bn1", 64)}
    below = 64
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        planes = 64 * 2 ** (stage - 1)
        width, out = (planes, planes) if depth == 18 else (planes * base // 64 * groups, planes * 4)
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            kernels = [(width, below, 3, 3), (out, width, 3, 3)]
            if depth != 18:
                kernels = [(width, below, 1, 1), (width, width // groups, 3, 3), (out, width, 1, 1)]
            for number, kernel in enumerate(kernels, start=1):
                shapes |= {f"{name}.conv{number}.weight": kernel, **norm(f"{name}.bn{number}", kernel[0])}
            if stage + 1 in deformable:
                offsets = f"{name}.conv2.conv_offset"
                shapes |= {f"{offsets}.weight": (27, width, 3, 3), f"{offsets}.bias": (27,)}
            if block == 0 and (below != out or stage > 1):
                shapes |= {f"{name}.downsample.0.weight": (out, below, 1, 1), **norm(f"{name}.downsample.1", out)}
            below = out
    return shapes


def conv(name: str, *kernel: int) -> Shapes:
    return {f"{name}.weight": kernel, f"{name}.bias": kernel[:1]}


def neck_keys(deepest: int, width: int = 256, *, from_c5: bool = False) -> Shapes:
    shapes: Shapes = {}
    for level, channels in enumerate((deepest // 4, deepest // 2, deepest)):
        shapes |= conv(f"neck.lateral_convs.{level}.conv", width, channels, 1, 1)
    for level in range(5):
        channels = deepest if from_c5 and level == 3 else width
        shapes |= conv(f"neck.fpn_convs.{level}.conv", width, channels, 3, 3)
    return shapes


def tower(name: str, width: int, kernel: tuple[int, ...]) -> Shapes:
    return {f"{name}.conv.weight": kernel, f"{name}.gn.weight": (width,), f"{name}.gn.bias": (width,)}


def scales() -> Shapes:
    return {f"bbox_head.scales.{level}.scale": () for level in range(5)}


AUTHORS = {
    "layer_attention.0": "la_conv1",
    "layer_attention.2": "la_conv2",
    "cls_prob_module.0": "cls_prob_conv1",
    "cls_prob_module.2": "cls_prob_conv2",
    "reg_offset_module.0": "reg_offset_conv1",
    "reg_offset_module.2": "reg_offset_conv2",
}


def tood_keys(width: int = 256, classes: int = 80, *, deformable: int = 0, authors: bool = False) -> Shapes:
    shapes: Shapes = {}
    for layer in range(6):
        name = f"bbox_head.inter_convs.{layer}"
        shapes |= tower(name, width, (width, width, 3, 3))
        if layer < deformable:
            shapes |= conv(f"{name}.conv.conv_offset", 108, width, 3, 3)
    stacked, hidden = 6 * width, width // 8
    for task in ("cls", "reg"):
        name = f"bbox_head.{task}_decomp"
        shapes |= conv(f"{name}.layer_attention.0", hidden, stacked, 1, 1)
        shapes |= conv(f"{name}.layer_attention.2", 6, hidden, 1, 1)
        shapes |= tower(f"{name}.reduction_conv", width, (width, stacked, 1, 1))
    shapes |= conv("bbox_head.tood_cls", classes, width, 3, 3) | conv("bbox_head.tood_reg", 4, width, 3, 3)
    for name, channels in (("cls_prob_module", 1), ("reg_offset_module", 8)):
        shapes |= conv(f"bbox_head.{name}.0", width // 4, stacked, 1, 1)
        shapes |= conv(f"bbox_head.{name}.2", channels, width // 4, 3, 3)
    shapes |= scales()
    if authors:
        for ours, theirs in AUTHORS.items():
            shapes = {key.replace(ours, theirs): shape for key, shape in shapes.items()}
    return shapes


def towers(width: int) -> Shapes:
    names = [f"bbox_head.{task}_convs.{layer}" for task in ("cls", "reg") for layer in range(4)]
    return {key: shape for name in names for key, shape in tower(name, width, (width, width, 3, 3)).items()}


def atss_keys(width: int = 256, classes: int = 80) -> Shapes:
    shapes = towers(width) | scales()
    for name, channels in (("cls", classes), ("reg", 4), ("centerness", 1)):
        shapes |= conv(f"bbox_head.atss_{name}", channels, width, 3, 3)
    return shapes


def gfl_keys(width: int = 256, classes: int = 80, bins: int = 17) -> Shapes:
    shapes = towers(width) | scales() | {"bbox_head.integral.project": (bins,)}
    shapes |= conv("bbox_head.gfl_cls", classes, width, 3, 3)
    return shapes | conv("bbox_head.gfl_reg", 4 * bins, width, 3, 3)


def retina_keys(width: int = 256, classes: int = 80, anchors: int = 9) -> Shapes:
    shapes: Shapes = {}
    for task in ("cls", "reg"):
        for layer in range(4):
            shapes |= conv(f"bbox_head.{task}_convs.{layer}.conv", width, width, 3, 3)
    shapes |= conv("bbox_head.retina_cls", anchors * classes, width, 3, 3)
    return shapes | conv("bbox_head.retina_reg", anchors * 4, width, 3, 3)


_SQUARE = """anchor_generator=dict(
            type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
            strides=[8, 16, 32, 64, 128]),"""
_NINE = """anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128]),"""
_TENTHS = (
    "bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),"
)
_UNITS = (
    "bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0]),"
)
_BY_IOU = "assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),"


def head_config(head: str, train: str, *, nms: float, extra: str) -> str:
    """A model's configuration as MMDetection writes it into its files."""
    return f"""
model = dict(
    backbone=dict(type='ResNet', frozen_stages=1, norm_eval=True, style='pytorch'),
    neck=dict(type='FPN', start_level=1, add_extra_convs='{extra}', num_outs=5),
    bbox_head=dict({head}),
    train_cfg=dict({train} allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold={nms}), max_per_img=100))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(1333, 800), keep_ratio=True)]
"""


CONFIGS = {
    "atss": head_config(
        f"type='ATSSHead', {_SQUARE} {_TENTHS} loss_bbox=dict(type='GIoULoss', loss_weight=2.0)",
        "assigner=dict(type='ATSSAssigner', topk=9),",
        nms=0.6,
        extra="on_output",
    ),
    "paa": head_config(
        f"type='PAAHead', reg_decoded_bbox=True, score_voting=True, topk=9, {_SQUARE} {_TENTHS} "
        "loss_bbox=dict(type='GIoULoss', loss_weight=1.3), loss_centerness=dict(loss_weight=0.5)",
        "assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1),",
        nms=0.6,
        extra="on_output",
    ),
    "retinanet": head_config(
        f"type='RetinaHead', {_NINE} {_UNITS} loss_bbox=dict(type='L1Loss', loss_weight=1.0)",
        _BY_IOU,
        nms=0.5,
        extra="on_input",
    ),
    "free_anchor": head_config(
        f"type='FreeAnchorRetinaHead', {_NINE} {_TENTHS} "
        "loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.75)",
        _BY_IOU,
        nms=0.5,
        extra="on_input",
    ),
    "pisa": head_config(
        f"type='PISARetinaHead', {_NINE} {_UNITS} loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0)",
        f"{_BY_IOU} isr=dict(k=2.0, bias=0.0), carl=dict(k=1.0, bias=0.2),",
        nms=0.5,
        extra="on_input",
    ),
}
"""Of the detectors whose layers have the same names as another's: what their published files say about themselves."""

X64 = {"depth": 101, "groups": 64, "base": 4}
X32 = {"depth": 101, "groups": 32, "base": 4}
VARIANTS: dict[str, tuple[dict[str, Any], Shapes, int | None]] = {
    "tood r50": ({"depth": 50}, tood_keys(), 32_200_494),
    "tood authors r50": ({"depth": 50}, tood_keys(authors=True), 32_200_494),
    "tood r101": ({"depth": 101}, tood_keys(), 42_500_160 + 3_868_672 + 4_823_790),
    "tood x101": (X64, tood_keys(), 81_406_272 + 3_868_672 + 4_823_790),
    "tood r50 c3-c5": ({"depth": 50, "deformable": (3, 4, 5)}, tood_keys(deformable=2), None),
    "tood r101 c3-c5": ({"depth": 101, "deformable": (3, 4, 5)}, tood_keys(deformable=2), None),
    "tood x101 c4-c5": ({**X64, "deformable": (4, 5)}, tood_keys(deformable=2), None),
    "atss r50": ({"depth": 50}, atss_keys(), 32_295_322),
    "atss r101 c3-c5": ({"depth": 101, "deformable": (3, 4, 5)}, atss_keys(), None),
    "atss x101 c4-c5": ({**X64, "deformable": (4, 5)}, atss_keys(), None),
    "gfl r50": ({"depth": 50}, gfl_keys(), 32_440_537),
    "gfl x101-32x4d": (X32, gfl_keys(), None),
    "gfl x101-32x4d c4-c5": ({**X32, "deformable": (4, 5)}, gfl_keys(), None),
    "retina r50": ({"depth": 50}, retina_keys(), None),
    "retina r101": ({"depth": 101}, retina_keys(), None),
}
KEYS = {"tood r50": 383, "atss r50": 369, "gfl r50": 368, "tood r50 c3-c5": 413}


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Small weights, so that whatever is built from them stays finite."""
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.int64)
        elif key.endswith("project"):
            state[key] = torch.arange(float(shape[0]))
        elif key.endswith(("running_var", ".scale")):
            state[key] = torch.ones(shape)
        else:
            state[key] = 0.05 * torch.randn(shape, generator=draw)
    return state
