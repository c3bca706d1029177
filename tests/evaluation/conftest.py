"""Small random scenes with everything that makes COCO evaluation hard."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tood.data.split_table import SplitTable


@dataclass(frozen=True)
class Scene:
    """Annotations (on disk and parsed) and a result list."""

    path: Path
    annotations: dict[str, Any]
    detections: list[dict[str, Any]]

    @property
    def table(self) -> SplitTable:
        return SplitTable.of_json(self.path)


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Scene]:
    def build(seed: int = 0, images: int = 12, categories: tuple[int, ...] = (2, 5, 9), levels: int = 0) -> Scene:
        """``levels`` > 0 rounds scores to that many values, so that most are equal to others.

        Image 1 has neither objects nor detections, image 2 no objects, image 3 no detections; the last
        category has few objects, every sixth object is a crowd.
        """
        rng = np.random.default_rng(seed)
        objects: list[dict[str, Any]] = []
        detections: list[dict[str, Any]] = []
        for image in range(1, images + 1):
            count = 0 if image <= 2 else int(rng.integers(1, 7))
            for _ in range(count):
                weights = np.array([4.0] * (len(categories) - 1) + [1.0])
                category = int(rng.choice(categories, p=weights / weights.sum()))
                box = [*rng.uniform(0, 150, 2), *np.exp(rng.uniform(2.2, 5.0, 2))]
                crowd = int(rng.random() < 1 / 6)
                objects.append(
                    {
                        "id": len(objects) + 1,
                        "image_id": image,
                        "category_id": category,
                        "bbox": [float(v) for v in box],
                        "area": float(box[2] * box[3]),
                        "iscrowd": crowd,
                    }
                )
                for _ in range(0 if image == 3 else int(rng.integers(0, 4))):
                    jitter = rng.normal(0, 0.12, 4) * [box[2], box[3], box[2], box[3]]
                    moved = np.maximum(np.asarray(box) + jitter, 1.0)
                    guess = category if rng.random() < 0.85 else int(rng.choice(categories))
                    detections.append(_detection(image, guess, moved, rng.beta(3, 2)))
            for _ in range(0 if image in (1, 3) else int(rng.integers(0, 4))):
                stray = [*rng.uniform(0, 150, 2), *rng.uniform(8, 120, 2)]
                detections.append(_detection(image, int(rng.choice(categories)), np.asarray(stray), rng.beta(2, 3)))
        if levels:
            for entry in detections:
                entry["score"] = round(entry["score"] * levels) / levels
        rng.shuffle(detections)  # type: ignore[arg-type]
        annotations = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 300, "height": 300} for i in range(1, images + 1)],
            "annotations": objects,
            "categories": [{"id": c, "name": f"class{c}"} for c in categories],
        }
        path = tmp_path / f"scene{seed}_{images}_{levels}.json"
        path.write_text(json.dumps(annotations))
        return Scene(path, annotations, detections)

    return build


def _detection(image: int, category: int, box: np.ndarray, score: float) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [float(v) for v in box],
        "score": float(score),
    }
