"""``tood.load``: what a detector finds is what ``tood predict`` finds, however a picture is given."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tood
from tood.config.study import RunConfig, load_study
from tood.data.box_drawing import SHOWN_SCORE
from tood.detection.detector import build_detector
from tood.verbs.predict import Request, predict
from tood.weights.model_file import save_model

PARAMS = Path(__file__).parents[2] / "params"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a small untrained detector that finds something everywhere."""
    folder = tmp_path_factory.mktemp("run")
    content = load_study("demo", PARAMS).run("tood").model_dump(mode="json")
    content["backbone"].update(weights="none", first_stage_width=8, width=32, norm_groups=8)
    content["schedule"]["images"].update(short=64, long=64)
    config = RunConfig.model_validate(content)
    torch.manual_seed(0)
    detector = build_detector(config.method, config.backbone, 2)
    detector.state_dict()["bbox_head.tood_cls.bias"].fill_(1.0)
    save_model(folder / "model.pt", config, ("cat", "dog"), (3, 7), detector)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)).save(path)
    return path


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(one[key], other[key]) for key in ("boxes", "labels", "scores"))


@pytest.mark.parametrize("tile", [None, 64])
def test_it_finds_what_predict_finds(run: Path, picture: Path, tmp_path: Path, tile: int | None) -> None:
    predict(run / "model.pt", Request([picture], tmp_path / "out", 0.3, 1, tile), "0")
    kept = json.loads((tmp_path / "out/detections.json").read_text())["annotations"]
    found = tood.load(run, threshold=0)(picture, tile=tile)
    assert len(kept) > 5
    assert [one["score"] for one in kept] == found["scores"].double().tolist()
    assert [one["category_id"] for one in kept] == [(3, 7)[label] for label in found["labels"].tolist()]
    corners = torch.tensor([one["bbox"] for one in kept], dtype=torch.float64)
    corners[:, 2:] += corners[:, :2]
    torch.testing.assert_close(found["boxes"].double(), corners, rtol=0, atol=2e-4)


def test_a_picture_may_be_given_in_any_form(run: Path, picture: Path) -> None:
    detector = tood.load(run / "model.pt", threshold=0.06)
    opened = Image.open(picture)
    pixels = np.asarray(opened)
    forms = [picture, str(picture), opened, pixels, torch.from_numpy(pixels.copy()).permute(2, 0, 1)]
    first, *others = detector(forms)
    assert len(first["scores"]) > 5
    assert all(same(first, other) for other in others)
    gray = pixels[..., 0]
    assert same(detector(gray), detector(np.stack([gray] * 3, axis=2)))
    turned = Image.open(picture)
    turned.getexif()[0x0112] = 6
    assert detector(turned)["boxes"][:, 2].max() <= 70, "upright, it is 70 px wide"


def test_the_threshold_begins_as_predicts_and_can_be_set(run: Path, picture: Path) -> None:
    detector = tood.load(str(run))
    assert detector.threshold == SHOWN_SCORE
    assert detector.classes == ("cat", "dog")
    detector.threshold = 0
    everything = detector(picture)["scores"]
    detector.threshold = float(everything.median())
    assert torch.equal(detector(picture)["scores"], everything[everything >= everything.median()])
    assert detector.to("cpu") is detector
    assert repr(detector).startswith("<LoadedDetector tood, 2 classes, threshold ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((4, 5, 3)), "4x5x3 values of float64: must be uint8"),
        (np.zeros((3, 4, 5), np.uint8), "3x4x5 values of uint8"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "4x5x3 values of torch.uint8"),
        (np.zeros(7, np.uint8), "7 values of uint8"),
        (7, "a picture must be a path, an array, a tensor or Pillow's, not a int"),
        ("nowhere.jpg", "nowhere.jpg: no such image file"),
    ],
)
def test_what_is_no_picture_gets_its_sentence(run: Path, given: Any, words: str) -> None:
    with pytest.raises(tood.UserError, match=words):
        tood.load(run)(given)


def test_what_is_no_model_gets_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(tood.UserError, match=r"has no model.pt"):
        tood.load(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(tood.UserError, match=r"model.pt"):
        tood.load(tmp_path)


def test_supervision_gets_its_own_form(run: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = tood.load(run, threshold=0.06)
    found = detector(picture)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(tood.UserError, match="supervision"):
        detector.to_supervision(found)
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **fields: fields))
    fields = detector.to_supervision(found)
    assert fields["xyxy"].shape == (len(found["scores"]), 4)
    assert set(fields["data"]["class_name"]) <= {"cat", "dog"}


def test_public_names_are_there_and_importing_stays_quick() -> None:
    for name in tood.__all__:
        assert getattr(tood, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tood.nothing
    code = "import sys, tood; assert 'torch' not in sys.modules; assert set(tood.__all__) <= set(dir(tood))"
    subprocess.run([sys.executable, "-c", code], check=True)
