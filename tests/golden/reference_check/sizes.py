"""``resize_shapes*`` and ``resize_sample*``: sizes, pixels and boxes of network inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference_check.folder import read_arrays, read_json, tensor
from reference_check.rows import EXACT, Report, Tolerance
from tood.config.backbone import PixelsConfig
from tood.data.augmentation import Augmentation
from tood.data.batch import collate
from tood.data.dataset import Sample
from tood.data.input_sizes import Bounds, resized_size
from tood.data.normalisation import normalise
from tood.data.transforms import transform

GREY_LEVEL = Tolerance(absolute=1.0)
BOXES = Tolerance(absolute=1e-4)
INPUT = Tolerance(absolute=1e-5)
PIXELS = PixelsConfig()


def check_resize_shapes(folder: Path, stem: str, report: Report) -> None:
    reference = read_json(folder / f"{stem}.json")
    long_edge, divisor = reference["long_edge"], reference["pad_divisor"]
    wrong = {"size": 0, "scale": 0, "padded size": 0}
    total = 0
    for row in reference["rows"]:
        width, height = row["w"], row["h"]
        for key, expected in row.items():
            if not key.startswith("short_"):
                continue
            total += 1
            new_w, new_h = resized_size(width, height, Bounds(int(key.removeprefix("short_")), long_edge))
            padded = [-(-side // divisor) * divisor for side in (new_w, new_h)]
            wrong["size"] += (new_w, new_h) != (expected["new_w"], expected["new_h"])
            wrong["scale"] += (new_w / width, new_h / height) != (expected["scale_w"], expected["scale_h"])
            wrong["padded size"] += padded != [expected["pad_w"], expected["pad_h"]]
    for quantity, count in wrong.items():
        report.count(f"{quantity} of {total} resizes", count, total)


def check_resize_sample(folder: Path, stem: str, report: Report) -> None:
    """Resizing to within a grey level, with OpenCV exactly; normalising and padding exactly, from the same pixels."""
    reference, arrays = read_json(folder / f"{stem}.json"), read_arrays(folder / f"{stem}.npz")
    report.compare("mean", PIXELS.mean, reference["mean"], EXACT)
    report.compare("std", PIXELS.std, reference["std"], EXACT)
    image, boxes = _rgb(arrays["image_bgr"]), tensor(arrays["boxes"])
    original = (image.shape[1], image.shape[2])
    for name, options in reference["scales"].items():
        report.at(f"{name}: ")
        long, short = options["scale"]
        for flip, suffix in ((False, "resized"), (True, "flipped")):
            found, found_boxes, kept = transform(
                image,
                boxes,
                torch.arange(len(boxes)),
                Augmentation(Bounds(short, long), flip=flip),
                antialias=False,
            )
            pixels = _rgb(arrays[f"{name}_{suffix}_bgr"])
            report.compare(f"{suffix} pixels", found, pixels, GREY_LEVEL)
            same, _, _ = transform(
                image,
                boxes[:0],
                boxes[:0, 0].long(),
                Augmentation(Bounds(short, long), flip=flip),
                antialias=False,
                opencv=True,
            )
            report.compare(f"{suffix} pixels with OpenCV", same, pixels, EXACT)
            expected = tensor(arrays[f"{name}_boxes" if suffix == "resized" else f"{name}_flipped_boxes"])
            report.compare(f"{suffix} boxes of at least a pixel", found_boxes, expected[kept], BOXES)
            dropped = np.setdiff1d(np.arange(len(boxes)), kept.numpy())
            large = ((expected[:, 2:] - expected[:, :2]) >= 1).all(dim=1)[dropped]
            report.count(f"{suffix} boxes dropped though large enough", int(large.sum()), len(boxes))
        pixels = _rgb(arrays[f"{name}_resized_bgr"])
        normalised = tensor(arrays[f"{name}_normalised_hwc_rgb"]).permute(2, 0, 1)
        report.compare("normalised", normalise(pixels, PIXELS), normalised, INPUT)
        batch = collate([Sample(pixels, original, 0, boxes[:0], torch.zeros(0, dtype=torch.int64))], PIXELS)
        report.compare("model_input", batch.images, arrays[f"{name}_model_input"], INPUT)
        report.compare("scale factors", batch.scales[0], options["scale_factor_wh"], Tolerance(relative=1e-6))


def _rgb(bgr: NDArray[Any]) -> Tensor:
    """(h,w,3) BGR bytes as the project's (3,h,w) RGB."""
    return tensor(bgr[..., ::-1].copy()).permute(2, 0, 1)
