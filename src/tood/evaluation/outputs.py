"""Files of an evaluation in a run's folder: ``metrics.json`` and ``pr.csv``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tood.config.datasets import TileConfig
from tood.config.imported import ImportedConfig
from tood.config.study import RunConfig
from tood.evaluation.coco_metrics import PR_IOU, RECALLS, CocoResult
from tood.io.escape import csv_cell
from tood.io.write import write_json, write_with


@dataclass(frozen=True)
class MadeOf:
    """The training that was measured, and the code and data that measured it, by their digests."""

    fingerprint: str
    """As in ``train.json``."""
    model: str
    """Of ``model.pt``."""
    code: Mapping[str, str]
    """By module."""
    data: Mapping[str, str]
    """By split."""


def write_evaluation(
    folder: Path,
    result: CocoResult,
    *,
    split: str,
    checkpoint: str,
    images_per_second: float | None,
    seconds: float | None,
    precision: str | None = None,
    tile: TileConfig | None = None,
    config: RunConfig | ImportedConfig | None = None,
    made_of: MadeOf | None = None,
) -> None:
    """Write ``pr.csv``, with classes as ``csv_cell`` has them, and, last, ``metrics.json``.

    ``checkpoint`` says in words which weights were evaluated, e.g. ``last (epoch 12)``; ``images_per_second``
    and ``seconds`` describe inference on the whole split, cut into tiles if ``tile`` is given, in the number format
    ``precision``. ``config`` is the run as
    it was evaluated, so that a comparison notices numbers from before the run was trained again or its inference
    settings changed; for imported weights it names their source.
    """
    curves = precision_recall_table(result)
    curves["class"] = curves["class"].map(csv_cell)
    write_with(folder / "pr.csv", lambda path: curves.to_csv(path, index=False))
    write_json(
        folder / "metrics.json",
        {
            "split": split,
            "checkpoint": checkpoint,
            "images": result.images,
            **result.stats,
            "per_class": {name: {"AP": one.ap, "AP50": one.ap50} for name, one in result.per_class.items()},
            "images_per_second": images_per_second,
            "seconds": seconds,
            "precision": precision,
            "tile": None if tile is None else tile.model_dump(mode="json"),
            "fingerprint": config.fingerprint if isinstance(config, RunConfig) else None,
            **({} if made_of is None else vars(made_of)),
            "inference": None if config is None else config.method.inference.model_dump(mode="json"),
            **({"imported": config.source.model_dump(mode="json")} if isinstance(config, ImportedConfig) else {}),
        },
    )


def precision_recall_table(result: CocoResult) -> pd.DataFrame:
    """Columns class, iou, recall, precision, score: 101 rows for each class that has objects."""
    names = np.asarray(list(result.per_class), dtype=object)
    defined = ~np.isnan(result.precision[:, 0])
    return pd.DataFrame(
        {
            "class": np.repeat(names[defined], len(RECALLS)),
            "iou": PR_IOU,
            "recall": np.tile(RECALLS.round(2), int(defined.sum())),
            "precision": result.precision[defined].ravel().round(6),
            "score": result.scores[defined].ravel().round(6),
        }
    )
