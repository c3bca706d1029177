"""An exported file finds what the detector finds that it was made from, and says what it is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image
from scipy.optimize import linear_sum_assignment

from tood.config.blocks import load_block
from tood.config.datasets import TileConfig
from tood.config.method import MethodConfig
from tood.data.decode import Decoded
from tood.data.split_table import SplitTable
from tood.detection.postprocess import Detections
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.detections import as_coco_results, detect_split
from tood.evaluation.picture_detections import ModelFinder, detect_in_file
from tood.export import extra
from tood.export.exporting import exported, metadata_of, save
from tood.export.session import open_export
from tood.io.errors import UserError
from tood.verbs.evaluate_export import detect_exported
from tood.weights.model_file import DetectionModel

ROOT = Path(__file__).parents[2]
SIZES = [(75, 110), (64, 64), (31, 200), (150, 97), (480, 641)]
"""Height and width px."""


def draw_image(height: int, width: int) -> np.ndarray[Any, Any]:
    """Smooth blotches, on which detectors differ from place to place."""
    coarse = np.random.default_rng(height).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def decoded(image: np.ndarray[Any, Any]) -> Decoded:
    return Decoded(torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous(), (image.shape[1], image.shape[0]))


def assert_same(found: Detections, wanted: Detections) -> None:
    """One for one; scores that differ in the last digit alone may stand in another order."""
    assert len(found.scores) == len(wanted.scores) > 0
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0)
    near = (found.boxes[None] - wanted.boxes[:, None]).abs().amax(dim=2) <= 0.01
    near &= (found.scores - wanted.scores[:, None]).abs() <= 1e-5
    near &= found.labels == wanted.labels[:, None]
    rows, columns = linear_sum_assignment(near.numpy(), maximize=True)
    assert near[rows, columns].all()


def assert_agrees(model: DetectionModel, path: Path) -> None:
    run, loaded = open_export(path, 1), ModelFinder.on(torch.device("cpu"), model)
    for height, width in SIZES:
        picture = decoded(draw_image(height, width))
        assert_same(run.find([picture])[0], loaded.find([picture])[0])


def test_it_finds_the_same_at_odd_sizes(model: DetectionModel, file: Path) -> None:
    assert_agrees(model, file)


def compositions() -> list[tuple[str, str]]:
    """A method of each head on the light backbone, one on each other; rules of inference are tested apart."""
    methods: dict[str, str] = {}
    for path in sorted((ROOT / "params/methods").glob("*.yaml")):
        config: MethodConfig = load_block(ROOT / "params", "methods", path.stem, MethodConfig, "test")
        kept = config.model_dump_json(include={"neck", "head"})
        methods.setdefault(kept, path.stem)
    others = [("tood", "lite0"), ("atss", "r18"), ("tood", "light_dcn")]
    return [*((method, "light") for method in methods.values()), *others]


@pytest.mark.long
@pytest.mark.parametrize(("method", "backbone"), compositions())
def test_every_method_and_backbone_is_exported(
    method: str, backbone: str, make_model: Callable[[str, str], DetectionModel], tmp_path: Path
) -> None:
    model = make_model(method, backbone)
    save(exported(model, metadata_of(model, "test", 0.25, raw=False)), tmp_path / "model.onnx")
    assert_agrees(model, tmp_path / "model.onnx")


@pytest.fixture
def split(model: DetectionModel, tmp_path: Path) -> SplitTable:
    """Pictures in which every second detection is an object."""
    listing: dict[str, Any] = {"images": [], "annotations": []}
    listing["categories"] = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    for number, (height, width) in enumerate(SIZES, start=1):
        image = draw_image(height, width)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        listing["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        found = ModelFinder.on(torch.device("cpu"), model).find([decoded(image)])
        for one in as_coco_results(found, [number], (3, 7))[::2]:
            area = one["bbox"][2] * one["bbox"][3]
            kept = {key: one[key] for key in ("image_id", "category_id", "bbox")}
            listing["annotations"].append(kept | {"id": len(listing["annotations"]) + 1, "area": area, "iscrowd": 0})
    (tmp_path / "val.json").write_text(json.dumps(listing))
    return SplitTable.of_json(tmp_path / "val.json")


def test_its_ap_is_the_detectors(model: DetectionModel, file: Path, split: SplitTable, tmp_path: Path) -> None:
    inference, device = model.method.inference, torch.device("cpu")
    wanted = detect_split(model.detector, split, tmp_path, model.network_input, inference, device=device)
    found = detect_exported(open_export(file, 1), split, tmp_path, None, "test")
    ours, theirs = (evaluate_detections(split, one.results).stats for one in (found, wanted))
    assert theirs["AP"] is not None
    assert theirs["AP"] > 0.1
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_tiles_are_merged_alike(model: DetectionModel, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(draw_image(150, 200)).save(path)
    tile = TileConfig(size=96)
    wanted = detect_in_file(ModelFinder.on(torch.device("cpu"), model), path, tile)
    assert_same(detect_in_file(open_export(file, 1), path, tile), wanted)


def test_the_file_says_what_it_is(model: DetectionModel, file: Path) -> None:
    found = open_export(file, 1).metadata
    assert (found.classes, found.category_ids, found.threshold) == (("cat", "dog"), (3, 7), 0.25)
    assert (found.method, found.made_from, found.outputs) == ("tood", "results/demo/tood", "detections")
    assert found.images == model.network_input.images
    assert found.inference == model.method.inference


def test_the_example_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The documented program, which imports nothing of this project."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 20
    assert "tood" not in re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)
    image = draw_image(75, 110)
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "model.onnx").write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/export.md", "exec"), {})
    wanted = open_export(file, 1).find([decoded(image)])[0]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == int((wanted.scores >= 0.25).sum()) > 0
    assert lines[0].split()[0] == ("cat", "dog")[int(wanted.labels[0])]


def sentence(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_export(path, 1)
    return str(caught.value)


def test_other_files_are_refused_in_one_sentence(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    assert "no such file" in sentence(path)
    path.write_bytes(b"no protobuf at all")
    assert "is damaged or no ONNX file" in sentence(path)
    whole = file.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is damaged or no ONNX file" in sentence(path)
    identity = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    foreign = helper.make_model(helper.make_graph([identity], "g", [x], [y]), ir_version=10)
    foreign.opset_import[0].version = 20
    path.write_bytes(foreign.SerializeToString())
    assert "is an ONNX file, but not a detector that tood export wrote" in sentence(path)
    for change in ({"opset": 999}, {"ir": 999}):
        newer = onnx.load_from_string(whole)
        newer.opset_import[0].version = change.get("opset", newer.opset_import[0].version)
        newer.ir_version = change.get("ir", newer.ir_version)
        path.write_bytes(newer.SerializeToString())
        assert "is written in a version of ONNX that the installed onnxruntime" in sentence(path)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("format", '"tood-export-9"', "was exported by another version"),
        ("outputs", '"raw"', "has raw outputs"),
        ("category_ids", "[3]", "names 2 classes and 1 ids"),
        ("threshold", "7", "threshold"),
        ("classes", "[", "not a detector that tood export wrote"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(entry: str, value: str, said: str, file: Path, tmp_path: Path) -> None:
    changed = onnx.load(file)
    for one in changed.metadata_props:
        if one.key == entry:
            one.value = value
    onnx.save(changed, tmp_path / "model.onnx")
    assert said in sentence(tmp_path / "model.onnx")


def test_a_missing_extra_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    assert "needs onnxruntime, which is not installed" in sentence(file)
    assert "pip install '.[export]'" in sentence(file)
