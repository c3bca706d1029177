"""A study that is mirrored with its models: made-up results, and small untrained detectors that find something."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tood.config.study import RunConfig, load_study
from tood.detection.detector import build_detector
from tood.evaluation.threshold_file import NAME as THRESHOLDS_FILE
from tood.io.digests import file_digest
from tood.io.write import write_json
from tood.weights.model_file import save_model

PARAMS = Path(__file__).parents[2] / "params"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BEST = 0.0875


def write_detector(target: Path, seed: int = 0) -> None:
    """A ``model.pt`` of classes cat and dog whose scores spread around the best threshold."""
    content = load_study("demo", PARAMS).run("tood").model_dump(mode="json")
    content["backbone"].update(weights="none", first_stage_width=8, width=32, norm_groups=8)
    content["schedule"]["images"].update(short=64, long=64)
    config = RunConfig.model_validate(content)
    torch.manual_seed(seed)
    detector = build_detector(config.method, config.backbone, 2)
    detector.state_dict()["bbox_head.tood_cls.bias"].fill_(1.0)
    save_model(target, config, ("cat", "dog"), (3, 7), detector)


def give_model(run: Path, seed: int = 0) -> None:
    """Give a made-up run a model, and the records of it that training and evaluation leave."""
    write_detector(run / "model.pt", seed)
    record(
        run / "train.json",
        model=file_digest(run / "model.pt"),
        data="d" * 64,
        code={"tood.training.loop": "1" * 16},
        commit=COMMIT,
        commit_changed=True,
        versions={"torch": torch.__version__, "torchvision": "0.29.1+cu999", "processor": "cpu"},
    )
    record(run / "metrics.json", data={"val": "e" * 64})
    operating = {"threshold": BEST, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    write_json(
        run / THRESHOLDS_FILE,
        {
            "chosen_on": "val",
            "reported_on": "val",
            "fingerprint": None,
            "overall": {"chosen": operating, "reported": None},
            "classes": {},
            "thresholds": [BEST],
            "right": [1.0],
            "wrong": [1.0],
            "objects": 2.0,
        },
    )


def record(file: Path, **fields: object) -> None:
    """Change some fields of a json file."""
    write_json(file, {**json.loads(file.read_text()), **fields})


def write_picture(path: Path, seed: int = 0) -> Path:
    """Noise of 90 x 70 px."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8)).save(path)
    return path
