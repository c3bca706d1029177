"""``tood import``, ``evaluate --weights``, ``submit`` and ``info`` on a small data set, as a user calls them."""

import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from tood.cli.main import app
from tood.cli.weights_verbs import import_
from tood.config.backbone import BackboneConfig, PixelsConfig
from tood.config.blocks import read_block
from tood.config.method import MethodConfig
from tood.detection.detector import INNERMOST, build_detector
from tood.io.console import start as start_console
from tood.io.errors import UserError
from tood.weights.class_layer import fit_classes
from tood.weights.mmdet.detector_kinds import KINDS, MethodName
from tood.weights.mmdet.parameter_keys import foreign_key
from tood.weights.model_file import load_detection_model

NAMES = ("cat", "dog", "teapot")
PARAMS = Path(__file__).parents[2] / "params"
SIZES = ((64, 48), (40, 60), (64, 50))
METHODS: tuple[MethodName, ...] = ("tood", "atss", "paa", "retinanet", "free_anchor", "pisa")


def save_theirs(path: Path, method: MethodName = "tood", *, named: bool = True) -> None:
    """A small detector of three classes with lively scores, under MMDetection's names.

    Unless ``named``, the file does not say which head it has.
    """
    torch.manual_seed(0)
    kind = next(kind for kind in KINDS if kind.method == method)
    config = MethodConfig.model_validate(read_block(PARAMS, "methods", method, MethodConfig, "test"))
    backbone = BackboneConfig(name="r18", kind="resnet18", width=32)
    detector = build_detector(config, backbone, len(NAMES))
    state = {foreign_key(key, kind.family, authors=False): value for key, value in detector.state_dict().items()}
    for key, value in state.items():
        if key.endswith(("_cls.bias", "cls_prob_module.2.bias")):
            value.fill_(-0.5)
        elif key.endswith("_cls.weight"):
            value.normal_(std=0.3)
    text = f"model = dict(bbox_head=dict(type='{kind.head}'))\n" if named else ""
    text += "test_pipeline = [dict(type='Resize', scale=(192, 128), keep_ratio=True)]\n"
    torch.save({"meta": {"cfg": text, "dataset_meta": {"classes": NAMES}}, "state_dict": state}, path)


def write_images(folder: Path) -> list[dict[str, Any]]:
    folder.mkdir(parents=True)
    rows = []
    for number, (width, height) in enumerate(SIZES, start=1):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"id": 10 * number, "file_name": f"{number}.png", "width": width, "height": height})
    return rows


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images as data set `odd` (other order and ids of two of the classes) and as `list` (no annotations)."""
    images = write_images(tmp_path / "files/images")
    categories = [{"id": 5, "name": "teapot"}, {"id": 9, "name": "cat"}]
    boxes = [
        {"id": k, "image_id": 10 * k, "category_id": 5, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
        for k in (1, 2, 3)
    ]
    (tmp_path / "files/odd.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )
    (tmp_path / "files/list.json").write_text(json.dumps({"images": images, "categories": categories}))
    split = {"images": "images", "annotations": "odd.json"}
    datasets = {
        "odd": {"format": "coco", "root": "files", "splits": {"train": split, "val": split}, "duplicates": "keep"},
        "list": {
            "format": "images",
            "root": "files",
            "splits": {"test-dev2017": {"images": "images", "listing": "list.json"}},
        },
    }
    (tmp_path / "params/datasets").mkdir(parents=True)
    for name, content in datasets.items():
        (tmp_path / f"params/datasets/{name}.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tood(project: Path) -> Callable[..., str]:
    """The command line; what it says, or the sentence it refuses with."""

    def call(*arguments: str) -> str:
        start_console()
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exception is None, result.exception
        return result.output

    return call


def test_imported_weights_need_nothing_else(project: Path, tood: Callable[..., str]) -> None:
    save_theirs(project / "theirs.pth")
    said = tood("import", "theirs.pth", "--out", "ours.pt")
    assert "tood with resnet18, 3 classes" in said
    assert "not clipped" in said
    tood("data", "prepare", "odd")
    tood("evaluate", "--weights", "ours.pt", "--dataset", "odd", "--gpu", "0", "--threads", "1")
    folder = project / "ours/odd-val"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["split"], metrics["images"], metrics["fingerprint"]) == ("val", 3, None)
    assert metrics["checkpoint"] == "imported from theirs.pth"
    assert metrics["imported"]["file"] == "theirs.pth"
    assert metrics["inference"]["clip_boxes"] is False
    assert set(metrics["per_class"]) == {"teapot", "cat"}
    found = json.loads((folder / "detections.json").read_text())
    assert {one["image_id"] for one in found} == {10, 20, 30}
    assert {one["category_id"] for one in found} == {5, 9}
    assert (folder / "pr.csv").is_file()
    assert len(list((folder / "samples").iterdir())) == 3


def test_imported_weights_predict_what_they_are_evaluated_with(project: Path, tood: Callable[..., str]) -> None:
    save_theirs(project / "theirs.pth")
    tood("import", "theirs.pth", "--out", "ours.pt")
    tood("predict", "files/images", "--weights", "ours.pt", "--out", "found", "--gpu", "0", "--threads", "1")
    tood("data", "prepare", "odd")
    tood("evaluate", "--weights", "ours.pt", "--dataset", "odd", "--gpu", "0", "--threads", "1")
    predicted = json.loads((project / "found/detections.json").read_text())
    names = {one["id"]: one["name"] for one in predicted["categories"]}
    cats = {
        (10 * one["image_id"], *one["bbox"]) for one in predicted["annotations"] if names[one["category_id"]] == "cat"
    }
    found = json.loads((project / "ours/odd-val/detections.json").read_text())
    # Dogs take places among the best 100 here; they are not evaluated on this data set.
    assert cats
    assert cats <= {(one["image_id"], *one["bbox"]) for one in found if one["category_id"] == 9}


@pytest.mark.parametrize("resize", ["exact", "opencv"])
def test_the_image_path_is_the_references(project: Path, tood: Callable[..., str], resize: str) -> None:
    """Decoded, resized (64x48 to 171x128), normalised, padded: the same scores as by hand."""
    save_theirs(project / "theirs.pth")
    said = tood("import", "theirs.pth", "--out", "ours.pt", "--resize", resize)
    assert ("as OpenCV rounds" in said) == (resize == "opencv")
    tood("data", "prepare", "odd")
    tood("evaluate", "--weights", "ours.pt", "--dataset", "odd", "--gpu", "0", "--threads", "1")
    found = [one for one in json.loads((project / "ours/odd-val/detections.json").read_text()) if one["image_id"] == 10]
    best = max(one["score"] for one in found if one["category_id"] == 5)
    pixels = np.asarray(Image.open(project / "files/images/1.png"))
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(image, (128, 171), mode="bilinear", align_corners=False).round()
    if resize == "opencv":
        bilinear = cv2.resize(pixels, (171, 128), interpolation=cv2.INTER_LINEAR)
        resized = torch.from_numpy(bilinear).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (PixelsConfig().mean, PixelsConfig().std))
    padded = torch.zeros(1, 3, 128, 192)
    padded[..., :171] = (resized - mean) / std
    model = load_detection_model(project / "ours.pt")
    with torch.inference_mode():
        scores = model.detector(padded).scores()
    assert best == pytest.approx(
        float(scores[..., NAMES.index("teapot")].max()), abs=2e-3 if resize == "exact" else 1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_classes_are_matched_by_name(project: Path, tood: Callable[..., str], method: MethodName) -> None:
    save_theirs(project / "theirs.pth", method)
    tood("import", "theirs.pth", "--out", "ours.pt")
    whole, part = load_detection_model(project / "ours.pt"), load_detection_model(project / "ours.pt")
    assert fit_classes(part, ("teapot", "cat"), "ours.pt", "odd") == ("dog",)
    images = torch.randn(1, 3, 128, 192)
    for model in (whole, part):  # there a convolution's sums do not depend on the number of its outputs
        model.detector.lay_out(INNERMOST, INNERMOST)
    with torch.inference_mode():
        before, after = whole.detector(images), part.detector(images)
    assert torch.equal(after.class_logits, before.class_logits[..., [2, 0]])
    assert torch.equal(after.boxes, before.boxes)
    with pytest.raises(UserError, match=r"does not know 1 of the 2 classes of data set 'odd' \(kettle\)"):
        fit_classes(whole, ("cat", "kettle"), "ours.pt", "odd")


@pytest.mark.parametrize(
    "method", ["paa", pytest.param("free_anchor", marks=pytest.mark.long), pytest.param("pisa", marks=pytest.mark.long)]
)
def test_relatives_of_atss_and_retinanet_are_used_as_what_they_are(
    project: Path, tood: Callable[..., str], method: MethodName
) -> None:
    save_theirs(project / "theirs.pth", method, named=False)
    with pytest.raises(UserError, match=rf"does not say whether it is .*; give .*--method {method}\b"):
        tood("import", "theirs.pth", "--out", "ours.pt")
    tood("import", "theirs.pth", "--out", "told.pt", "--method", method)
    save_theirs(project / "theirs.pth", method)
    said = tood("import", "theirs.pth", "--out", "ours.pt")
    assert f"{method} with resnet18, 3 classes" in said
    assert ("with score voting (0.025)" in said) == (method == "paa")
    found = {}
    for name in ("told", "ours"):
        tood("predict", "files/images", "--weights", f"{name}.pt", "--out", name, "--gpu", "0", "--threads", "1")
        found[name] = json.loads((project / name / "detections.json").read_text())["annotations"]
    assert found["ours"]
    assert found["ours"] == found["told"]
    assert all(np.isfinite(one["bbox"]).all() for one in found["ours"])


def test_a_submission_is_what_the_server_takes(project: Path, tood: Callable[..., str]) -> None:
    save_theirs(project / "theirs.pth")
    tood("import", "theirs.pth", "--out", "r18.pt")
    assert "3 images" in tood("data", "prepare", "list")
    said = tood("submit", "--weights", "r18.pt", "--dataset", "list", "--out", "sent", "--gpu", "0", "--threads", "1")
    name = "detections_test-dev2017_r18_results"
    assert f"sent/{name}.zip" in said
    results = json.loads((project / f"sent/{name}.json").read_text())
    with zipfile.ZipFile(project / f"sent/{name}.zip") as archive:
        assert archive.namelist() == [f"{name}.json"]
        assert json.loads(archive.read(f"{name}.json")) == results
    assert {one["image_id"] for one in results} == {10, 20, 30}
    assert {one["category_id"] for one in results} <= {5, 9}
    assert all(set(one) == {"image_id", "category_id", "bbox", "score"} for one in results)
    assert all(len(one["bbox"]) == 4 for one in results)
    before = (project / f"sent/{name}.zip").read_bytes()
    tood("submit", "--weights", "r18.pt", "--dataset", "list", "--out", "sent", "--gpu", "0", "--threads", "1")
    assert (project / f"sent/{name}.zip").read_bytes() == before
    with pytest.raises(UserError, match="has no annotations to compare with; use tood submit"):
        tood("evaluate", "--weights", "r18.pt", "--dataset", "list", "--gpu", "0")


def test_lists_of_images_are_checked_too(project: Path, tood: Callable[..., str]) -> None:
    assert "Nothing to put right" in tood("data", "check", "list")
    (project / "files/images/2.png").unlink()
    with pytest.raises(UserError, match=r"2\.png"):
        tood("data", "prepare", "list")
    (project / "files/list.json").write_text(json.dumps({"images": []}))
    with pytest.raises(UserError, match="field 'categories' is missing"):
        tood("data", "prepare", "list")


def test_info_of_a_file_says_where_it_is_from(project: Path, tood: Callable[..., str]) -> None:
    save_theirs(project / "theirs.pth", "retinanet")
    tood("import", "theirs.pth", "--out", "ours.pt")
    said = tood("info", "ours.pt")
    assert "retinanet with resnet18, 3 classes" in said
    assert "imported from theirs.pth (sha256 " in said
    assert "clip_boxes True" in said
    assert "note: the nine anchors are taken to be those of RetinaNet" in said
    assert "GFLOPs at 1280x800" in said


def test_classes_may_come_from_a_text_file(project: Path, tood: Callable[..., str]) -> None:
    save_theirs(project / "theirs.pth", "atss")
    content = torch.load(project / "theirs.pth")
    del content["meta"]["dataset_meta"]
    torch.save(content, project / "theirs.pth")
    with pytest.raises(UserError, match="give --classes FILE"):
        tood("import", "theirs.pth", "--out", "ours.pt")
    (project / "names.txt").write_text("x\n\ny\nz\n")
    tood("import", "theirs.pth", "--out", "ours.pt", "--classes", "names.txt")
    assert load_detection_model(project / "ours.pt").classes == ("x", "y", "z")
    with pytest.raises(UserError, match=r"--classes none[.]txt: cannot be read"):
        tood("import", "theirs.pth", "--out", "ours.pt", "--classes", "none.txt")
    with pytest.raises(UserError, match="is the checkpoint itself"):
        tood("import", "theirs.pth", "--out", "theirs.pth", "--classes", "names.txt")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("evaluate",), "give either --run FOLDER, or --weights FILE"),
        (("evaluate", "--weights", "x.pt"), "give either --run FOLDER, or --weights FILE"),
        (("evaluate", "--weights", "x.pt", "--run", "y", "--dataset", "odd"), "give either --run FOLDER"),
        (("evaluate", "--weights", "x.pt", "--dataset", "od"), "x.pt: no such file"),
        (("submit", "--dataset", "list", "--out", "x"), "give either --run FOLDER or --weights FILE"),
        (("predict", "files/images", "--out", "x"), "give one of --run FOLDER, --weights FILE and --export FILE"),
        (("predict", "files/images", "--out", "x", "--run", "y"), "y: has no model.pt"),
        (("info",), "give a FILE, or --run FOLDER, or --method NAME and --backbone NAME"),
        (("info", "--method", "tood"), "give a FILE"),
    ],
)
def test_what_is_left_out_is_said(tood: Callable[..., str], arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tood(*arguments)


def test_every_detector_that_shares_its_layers_names_can_be_said() -> None:
    shared = Counter(kind.family for kind in KINDS)
    wanted = {kind.method for kind in KINDS if shared[kind.family] > 1}
    offered, _ = get_args(get_type_hints(import_)["method"])  # or None
    assert set(get_args(offered)) == wanted
