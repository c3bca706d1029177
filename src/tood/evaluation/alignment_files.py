"""Files of the alignment analysis in a run's folder, ``alignment.json`` and ``alignment.npz``; needs no detector."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.config.study import RunConfig
from tood.evaluation.alignment_boxes import BoxCounts
from tood.evaluation.outputs import MadeOf
from tood.io.arrays import read_npz
from tood.io.errors import UserError
from tood.io.write import write_json, write_with

SCORE_BINS, IOU_BINS = 100, 50
NUMBERS, ARRAYS = "alignment.json", "alignment.npz"


@dataclass(frozen=True, eq=False)
class BestAnchors:
    """For A objects in sample images: the anchor with the highest score for the object, and that with the highest IoU.

    Boxes are xyxy px of the original image; the second axis of the last four is (most confident, best located).
    """

    image_ids: NDArray[np.int64]
    """(A,)"""
    objects: NDArray[np.float32]
    """(A,4)"""
    points: NDArray[np.float32]
    """(A,2,2) x and y of the anchors' locations."""
    boxes: NDArray[np.float32]
    """(A,2,4) what they predict."""
    scores: NDArray[np.float32]
    """(A,2) for the object's class."""
    ious: NDArray[np.float32]
    """(A,2) of the predicted boxes with the object."""


@dataclass(frozen=True, eq=False)
class SplitAlignment:
    """Alignment of the dense predictions of a split. Means are over objects, None where no object defines them."""

    images: int
    objects: int
    pcc_top50: float | None
    objects_with_pcc: int
    iou_top10: float | None
    objects_with_iou: int
    density: NDArray[np.int64]
    """(SCORE_BINS, IOU_BINS) numbers of candidates of all objects by score and IoU, each in equal bins of [0, 1]."""
    best: BestAnchors


def write_alignment(
    folder: Path,
    found: SplitAlignment,
    counts: BoxCounts,
    *,
    config: RunConfig,
    split: str,
    checkpoint: str,
    definitions: Mapping[str, str],
    made_of: MadeOf | None = None,
) -> None:
    """Write ``alignment.npz`` (histogram and best anchors) and, last, ``alignment.json`` (numbers, definitions).

    ``config`` is the run as it was analysed and ``checkpoint`` names the weights, as in ``metrics.json``.
    """
    arrays = {"density": found.density, **{one.name: getattr(found.best, one.name) for one in fields(BestAnchors)}}
    write_with(folder / ARRAYS, lambda path: np.savez_compressed(path, allow_pickle=False, **arrays))
    write_json(
        folder / NUMBERS,
        {
            "split": split,
            "checkpoint": checkpoint,
            "images": found.images,
            "objects": found.objects,
            "pcc_top50": found.pcc_top50,
            "objects_with_pcc": found.objects_with_pcc,
            "iou_top10": found.iou_top10,
            "objects_with_iou": found.objects_with_iou,
            "detections": counts.detections,
            **dataclasses.asdict(counts),
            "definitions": dict(definitions),
            "fingerprint": config.fingerprint,
            **({} if made_of is None else vars(made_of)),
            "inference": config.method.inference.model_dump(mode="json"),
        },
    )


def read_arrays(folder: Path) -> tuple[NDArray[np.int64], BestAnchors]:
    """The histogram and the best anchors of ``alignment.npz``; UserError where it is missing or broken."""
    path = folder / ARRAYS
    try:
        content = read_npz(path)
        density = content["density"]
        best = BestAnchors(**{one.name: content[one.name] for one in fields(BestAnchors)})
        _refuse_other_shapes(density, best)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; make it with: tood analyse --run {folder}") from error
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make it again with: tood analyse --run {folder}") from error
    return density, best


def _refuse_other_shapes(density: NDArray[Any], best: BestAnchors) -> None:
    count = best.image_ids.shape
    shapes = {"objects": (4,), "points": (2, 2), "boxes": (2, 4), "scores": (2,), "ious": (2,)}
    fitting = len(count) == 1 and density.shape == (SCORE_BINS, IOU_BINS)
    if not fitting or any(getattr(best, name).shape != count + rest for name, rest in shapes.items()):
        raise ValueError("its arrays have other shapes")
    if any(one.dtype.kind not in "iuf" for one in (density, *(getattr(best, one.name) for one in fields(BestAnchors)))):
        raise ValueError("its arrays are not of numbers")
