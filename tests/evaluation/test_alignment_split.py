"""The pass over a split: scores and boxes as inference ranks them, places in pixels of the original image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig
from tood.config.method import InferenceConfig
from tood.config.study import RunConfig
from tood.data.network_input import NetworkInput
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.detection.points import points_of
from tood.detection.postprocess import postprocess
from tood.detection.predictions import Predictions
from tood.evaluation.alignment_boxes import BoxCounts
from tood.evaluation.alignment_files import SplitAlignment, read_arrays, write_alignment
from tood.evaluation.alignment_split import analyse_split, final_scores
from tood.io.errors import UserError

INPUT = NetworkInput(ImagesConfig(short=64, long=128), PixelsConfig())
CONFIG = {
    "study": "cells",
    "run": "tood",
    "row": "tood",
    "seed": 0,
    "dataset": {"format": "voc", "name": "cells", "root": "/somewhere", "draw": {"val": 0.2}},
    "method": {"name": "tood", "head": {"kind": "task_aligned"}, "criterion": {"kind": "task_aligned"}},
    "backbone": {"name": "resnet18", "kind": "resnet18"},
    "schedule": {"name": "short", "epochs": 12},
}


class Fixed(nn.Module):
    """Boxes of 32 px around every eighth pixel, surer of class 1 to the right and of class 0 to the left."""

    def forward(self, images: Tensor) -> Predictions:
        height, width = images.shape[-2:]
        points = points_of([torch.zeros(1, 1, height // 8, width // 8)], (8,), torch.float32)
        slope = points.centres[:, 0] / width
        boxes = torch.cat([points.centres - 16, points.centres + 16], dim=1)
        return Predictions(points, torch.stack([-slope, slope], dim=1)[None], boxes[None])


def write_split(
    folder: Path, sizes: dict[int, tuple[int, int]], objects: list[tuple[int, list[float], int, int]]
) -> PreparedSplit:
    """Black pictures of (width, height) by id; objects are (image, bbox, category, iscrowd)."""
    (folder / "images").mkdir(parents=True)
    for number, size in sizes.items():
        Image.new("RGB", size).save(folder / "images" / f"{number}.png")
    images = [{"id": k, "file_name": f"{k}.png", "width": w, "height": h} for k, (w, h) in sizes.items()]
    entries = [
        {"id": k, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for k, (image, box, category, crowd) in enumerate(objects, start=1)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    path = folder / "val.json"
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return PreparedSplit("val", path, folder / "images", len(images), len(entries), "0")


def analysed(split: PreparedSplit, *, clip: bool = True) -> SplitAlignment:
    inference = InferenceConfig(clip_boxes=clip)
    table = SplitTable.of_split(split)
    return analyse_split(Fixed(), table, split.images, INPUT, inference, device=torch.device("cpu"))  # type: ignore[arg-type]


def test_places_are_in_pixels_of_the_original_image(tmp_path: Path) -> None:
    # Twice as large for the network, where the object is (32, 16) to (64, 48): the box around (48, 32).
    found = analysed(write_split(tmp_path, {5: (64, 32)}, [(5, [16, 8, 16, 16], 7, 0)]))
    assert found.images == found.objects == found.objects_with_pcc == 1
    best = found.best
    assert best.image_ids.tolist() == [5]
    assert best.objects.tolist() == [[16, 8, 32, 24]]
    assert best.points[0, 1].tolist() == [24, 16]
    assert best.boxes[0, 1].tolist() == [16, 8, 32, 24]
    assert best.ious[0, 1] == 1
    assert best.points[0, 0, 0] == 36, "the surest that overlaps at all lies to the right, 16 px before and after it"
    assert best.scores[0, 0] == pytest.approx(1 / (1 + np.exp(-72 / 128)), abs=1e-6)
    assert best.ious[0, 0] < 0.2
    assert found.density.sum() == 49, "7 x 7 boxes overlap"
    assert found.pcc_top50 is not None
    assert found.pcc_top50 == pytest.approx(0, abs=0.2), "the object is symmetric, the score is not"


def test_boxes_are_clipped_where_inference_clips_them(tmp_path: Path) -> None:
    split = write_split(tmp_path, {1: (64, 64)}, [(1, [0, 0, 16, 16], 3, 0)])
    assert analysed(split).best.ious[0, 1] == 1, "the box around the corner, clipped to the image, is the object"
    assert analysed(split, clip=False).best.ious[0, 1] < 0.6


def test_crowds_are_no_objects_and_images_without_objects_count(tmp_path: Path) -> None:
    objects = [(1, [0, 0, 20, 20], 3, 0), (1, [10, 10, 40, 40], 3, 1), (3, [5, 5, 9, 9], 7, 1)]
    found = analysed(write_split(tmp_path, {1: (64, 64), 2: (64, 64), 3: (64, 64)}, objects))
    assert (found.images, found.objects) == (3, 1)
    nothing = analysed(write_split(tmp_path / "empty", {1: (64, 64)}, []))
    assert (nothing.images, nothing.objects, nothing.pcc_top50, nothing.iou_top10) == (1, 0, None, None)
    assert nothing.density.sum() == 0


def test_order_of_images_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (96, 64), (64, 80), (70, 66), (128, 64)]
    objects = [
        (place, [*rng.uniform(0, 30, 2), *rng.uniform(8, 34, 2)], int(rng.choice([3, 7])), 0)
        for place in rng.integers(0, 5, 14).tolist()
    ]
    found = []
    for order in ([1, 2, 3, 4, 5], [4, 1, 5, 3, 2]):
        ids = dict(zip(range(5), order, strict=True))
        renamed = [(ids[place], box, category, crowd) for place, box, category, crowd in objects]
        folder = tmp_path / "".join(map(str, order))
        found.append(analysed(write_split(folder, {ids[k]: size for k, size in enumerate(sizes)}, renamed)))
    first, second = found
    assert first.pcc_top50 == second.pcc_top50
    assert first.iou_top10 == second.iou_top10
    np.testing.assert_array_equal(first.density, second.density)
    assert sorted(map(tuple, first.best.boxes.reshape(-1, 8))) == sorted(map(tuple, second.best.boxes.reshape(-1, 8)))


def test_quality_takes_part_in_the_ranking() -> None:
    points = points_of([torch.zeros(1, 1, 1, 2)], (8,), torch.float32)
    logits, quality = torch.tensor([[[2.0, -1.0], [0.5, 0.0]]]), torch.tensor([[-1.0, 3.0]])
    plain = Predictions(points, logits, torch.zeros(1, 2, 4))
    torch.testing.assert_close(final_scores(plain), logits.sigmoid())
    weighted = Predictions(points, logits, torch.zeros(1, 2, 4), quality=quality)
    torch.testing.assert_close(final_scores(weighted), logits.sigmoid() * quality.sigmoid()[..., None])


def test_scores_are_those_of_the_detections() -> None:
    generator = torch.Generator().manual_seed(0)
    points = points_of([torch.zeros(1, 1, 4, 5)], (8,), torch.float32)
    logits, quality, alignment = (torch.randn(1, 20, *more, generator=generator) for more in ((3,), (), ()))
    boxes = torch.cat([points.centres - 6, points.centres + 6], dim=1)[None]  # that do not suppress each other
    config = InferenceConfig(score_threshold=0.0, nms_iou=1.0, clip_boxes=False)
    for fields in ({"quality": quality}, {"alignment_logits": alignment}):
        predictions = Predictions(points, logits, boxes, **fields)
        (detections,) = postprocess(predictions, torch.tensor([[32, 40]]), None, config)
        expected = final_scores(predictions).flatten().sort(descending=True).values
        torch.testing.assert_close(detections.scores, expected)


def test_files_are_read_back_as_written(tmp_path: Path) -> None:
    found = analysed(write_split(tmp_path, {5: (64, 32)}, [(5, [16, 8, 16, 16], 7, 0)]))
    config = RunConfig.model_validate(CONFIG)
    counts = BoxCounts(correct=3, error=2)
    terms = {"error": "what it means"}
    write_alignment(tmp_path, found, counts, config=config, split="val", checkpoint="last", definitions=terms)
    content = json.loads((tmp_path / "alignment.json").read_text())
    assert content["pcc_top50"] == found.pcc_top50
    assert (content["correct"], content["redundant"], content["error"], content["detections"]) == (3, 0, 2, 5)
    assert content["definitions"] == terms
    assert content["fingerprint"] == config.fingerprint
    density, best = read_arrays(tmp_path)
    np.testing.assert_array_equal(density, found.density)
    np.testing.assert_array_equal(best.points, found.best.points)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken"], ids=["missing", "empty", "broken"])
def test_arrays_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "alignment.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"alignment.npz: .*tood analyse --run"):
        read_arrays(tmp_path)
