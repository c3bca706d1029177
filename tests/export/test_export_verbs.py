"""``tood export`` and the verbs that take its file, as a user calls them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tood.cli.main import app
from tood.data.decode import Decoded, decode_image
from tood.export.session import open_export
from tood.io.console import start as start_console
from tood.io.errors import UserError
from tood.weights.model_file import DetectionModel, save_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The command line in a folder with three pictures, prepared as data set ``odd``; what it says."""
    images = []
    for number in (1, 2, 3):
        (tmp_path / "files").mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (50 + number, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"files/{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 70, "height": 50 + number})
    box = {"category_id": 5, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    annotations = [box | {"id": number, "image_id": number} for number in (1, 2, 3)]
    categories = [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}]  # another order than the detector's
    (tmp_path / "files/odd.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    split = {"images": ".", "annotations": "odd.json"}
    described = {"format": "coco", "root": "files", "splits": {"train": split, "val": split}, "duplicates": "keep"}
    (tmp_path / "params/datasets").mkdir(parents=True)
    (tmp_path / "params/datasets/odd.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        start_console()
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exception is None, result.exception
        return result.output

    return call


def test_a_file_is_evaluated_and_predicts(file: Path, tood: Callable[..., str]) -> None:
    Path("model.onnx").write_bytes(file.read_bytes())
    tood("data", "prepare", "odd")
    tood("evaluate", "--export", "model.onnx", "--dataset", "odd", "--threads", "1")
    metrics = json.loads(Path("model/odd-val/metrics.json").read_text())
    assert (metrics["split"], metrics["images"], metrics["precision"]) == ("val", 3, "float32")
    assert metrics["checkpoint"] == "exported from results/demo/tood"
    assert set(metrics["per_class"]) == {"cat", "dog"}
    found = json.loads(Path("model/odd-val/detections.json").read_text())
    places = {3: 9, 7: 5}
    wanted = open_export(file, 1).find([Decoded(decode_image(Path("files/1.png")), (70, 51))])[0]
    labels = [one["category_id"] for one in found if one["image_id"] == 1]
    assert labels == [places[(3, 7)[label]] for label in wanted.labels.tolist()] != []
    tood("predict", "--export", "model.onnx", "files", "--out", "found", "--threads", "1")
    assert Path("found/1.png").is_file()


def test_options_that_do_not_fit_are_refused(tood: Callable[..., str]) -> None:
    with pytest.raises(UserError, match="with --export FILE give --dataset NAME"):
        tood("evaluate", "--export", "model.onnx")
    with pytest.raises(UserError, match="give one of --run FOLDER, --weights FILE and --export FILE"):
        tood("predict", "--export", "model.onnx", "--weights", "model.pt", "files", "--out", "found")
    with pytest.raises(UserError, match="give either --run FOLDER or --weights FILE"):
        tood("export")
    with pytest.raises(UserError, match=r"must end with \.onnx"):
        tood("export", "--weights", "model.pt", "--out", "model.bin")
    with pytest.raises(UserError, match="give either --half or --int8"):
        tood("export", "--weights", "model.pt", "--half", "--int8")
    with pytest.raises(UserError, match="--int8: needs pictures"):
        tood("export", "--weights", "model.pt", "--int8")
    with pytest.raises(UserError, match="--calibration: is for --int8"):
        tood("export", "--weights", "model.pt", "--calibration", "files")
    Path("empty").mkdir()
    with pytest.raises(UserError, match="--calibration: the folder holds no pictures"):
        tood("export", "--weights", "model.pt", "--int8", "--calibration", "empty")


@pytest.mark.long
def test_a_run_is_exported_beside_its_model(model: DetectionModel, tood: Callable[..., str]) -> None:
    folder = Path("results/demo/tood")
    save_model(folder / "model.pt", model.config, model.classes, model.category_ids, model.detector)
    said = tood("export", "--run", str(folder), "--raw")
    assert "model.raw.onnx: tood, 2 classes, threshold 0.3" in said
    session = onnxruntime.InferenceSession(folder / "model.raw.onnx")
    boxes, scores = session.run(["boxes", "scores"], {"image": np.zeros((64, 96, 3), np.uint8)})
    assert boxes.shape == (len(scores), 4)
    assert scores.shape[1] == 2
    with pytest.raises(UserError, match="has raw outputs"):
        tood("predict", "--export", str(folder / "model.raw.onnx"), "files", "--out", "found")


STUDY = {
    "title": "demo",
    "dataset": "odd",
    "baseline": "atss",
    "common": {
        "backbone": "light",
        "schedule": "quick",
        "overrides": {
            "backbone": {"weights": "none", "first_stage_width": 8, "width": 32, "norm_groups": 8},
            "schedule": {"steps": 4, "warmup": {"iterations": 1}, "precision": "float32", "batch": 2},
        },
    },
    "runs": {"atss": {"method": "atss"}},
}


@pytest.mark.long
def test_what_eight_bits_cost_is_measured_on_the_runs_split(tood: Callable[..., str]) -> None:
    shutil.copytree(ROOT / "params", "params", dirs_exist_ok=True)
    Path("params/studies/few.yaml").write_text(yaml.safe_dump(STUDY))
    tood("data", "prepare", "odd")
    run = "results/few/atss"
    tood("train", "--run", run, "--gpu", "0", "--processes", "1", "--workers", "0", "--threads", "1")
    tood("evaluate", "--run", run, "--gpu", "0", "--threads", "1")
    said = tood("export", "--run", run, "--int8", "--threads", "1")
    assert "calibrating on 3 pictures" in said
    assert re.search(rf"AP \S+ points against {run} \(95 % \S+ to \S+\)", said)
    assert open_export(Path(run, "model.int8.onnx"), 1).metadata.numbers == "int8"
    metrics = json.loads(Path(run, "model.int8/odd-val/metrics.json").read_text())
    assert (metrics["precision"], metrics["images"]) == ("int8", 3)
    said = tood("export", "--run", run, "--half", "--threads", "1")
    assert "points against" in said
    assert open_export(Path(run, "model.half.onnx"), 1).metadata.numbers == "half"
