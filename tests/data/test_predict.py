"""``tood predict`` on folders as people have them: nothing of theirs is overwritten, nothing is lost or doubled."""

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tood.api.loaded_detector import load
from tood.config.study import RunConfig, load_study
from tood.data.batch import Batch, collate
from tood.data.decode import Decoded, decode_image
from tood.data.split_table import SplitTable
from tood.data.video import Video, opened, written
from tood.detection.detector import Detector, build_detector
from tood.detection.postprocess import Detections
from tood.evaluation import detections, picture_detections
from tood.evaluation.detections import detect_batch
from tood.evaluation.picture_detections import as_sample
from tood.io.errors import UserError
from tood.verbs import predict as verb
from tood.verbs.model_source import model_of
from tood.verbs.predict import Request, predict
from tood.verbs.prediction_outputs import Outputs, folder_of
from tood.weights.model_file import load_detection_model, save_model

PARAMS = Path(__file__).parents[2] / "params"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a small untrained detector that finds something everywhere."""
    folder = tmp_path_factory.mktemp("run")
    content = load_study("demo", PARAMS).run("atss").model_dump(mode="json")
    content["backbone"].update(weights="none", first_stage_width=8, width=32, norm_groups=8)
    content["schedule"]["images"].update(short=64, long=64)
    config = RunConfig.model_validate(content)
    torch.manual_seed(0)
    detector = build_detector(config.method, config.backbone, 2)
    state = detector.state_dict()
    state["bbox_head.cls.bias"].fill_(0.0)
    detector.load_state_dict(state)
    save_model(folder / "model.pt", config, ("cat", "dog"), (3, 7), detector)
    return folder


def test_images_are_normalised_as_the_models_backbone_takes_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(run / "model.pt", weights_only=True)
    config = json.loads(content["config"])
    config["backbone"]["pixels"] = {"mean": [127, 100, 0], "std": [128, 50, 255]}
    torch.save({**content, "config": json.dumps(config)}, tmp_path / "model.pt")
    Image.new("RGB", (64, 64), (255, 0, 51)).save(tmp_path / "a.png")
    seen: list[Batch] = []

    def detecting(detector: Detector, batch: Batch, *options: Any) -> list[Detections]:
        seen.append(batch)
        return detect_batch(detector, batch, *options)

    monkeypatch.setattr(picture_detections, "detect_batch", detecting)
    predict(tmp_path / "model.pt", Request([tmp_path / "a.png"], tmp_path / "out", 0.3, 1), "0")
    (batch,) = seen
    torch.testing.assert_close(batch.images[0].mean((1, 2)), torch.tensor([1.0, -2.0, 0.2]))


def test_a_large_photograph_is_seen_as_evaluation_sees_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(run / "model.pt", weights_only=True)
    config = json.loads(content["config"])
    config["schedule"]["images"]["antialias"] = True
    torch.save({**content, "config": json.dumps(config)}, tmp_path / "model.pt")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(pixels).resize((640, 480)).save(tmp_path / "a.jpg")
    listing = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(listing))
    seen: list[Batch] = []

    def detecting(detector: Detector, batch: Batch, *options: Any) -> list[Detections]:
        seen.append(batch)
        return detect_batch(detector, batch, *options)

    monkeypatch.setattr(picture_detections, "detect_batch", detecting)
    monkeypatch.setattr(detections, "detect_batch", detecting)
    predict(tmp_path / "model.pt", Request([tmp_path / "a.jpg"], tmp_path / "out", 0.3, 1), "0")
    model = load_detection_model(tmp_path / "model.pt")
    table = SplitTable.of_json(tmp_path / "val.json")
    given, device = model.network_input, torch.device("cpu")
    found = detections.detect_split(model.detector, table, tmp_path, given, model.method.inference, device=device)
    predicted, evaluated = seen
    assert torch.equal(predicted.images, evaluated.images)
    assert torch.equal(predicted.scales, evaluated.scales)
    whole = as_sample(Decoded(decode_image(tmp_path / "a.jpg"), (640, 480)), 1, given)
    assert not torch.equal(collate([whole], given.pixels).images, predicted.images), "it is not decoded whole"
    kept = json.loads((tmp_path / "out" / "detections.json").read_text())["annotations"]
    assert [(one["bbox"], one["score"]) for one in kept] == [(one["bbox"], one["score"]) for one in found.results]


@pytest.fixture
def photos(tmp_path: Path, make_image) -> Path:
    for name in ("a.jpg", "a.png", "sub dir/größe 1.JPG"):
        make_image(tmp_path / "photos" / name.replace("JPG", "jpg")).rename(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def detect(
    run: Path,
    images: Path | list[Path],
    out: Path,
    threshold: float = 0.3,
    outputs: Outputs | None = None,
    batch: int = 1,
) -> None:
    given = images if isinstance(images, list) else [images]
    predict(run / "model.pt", Request(given, out, threshold, 1, batch=batch, outputs=outputs or Outputs()), "0")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_every_image_gets_a_picture_of_its_own_and_its_boxes(
    run: Path, photos: Path, tmp_path: Path, said: list[str]
) -> None:
    detect(run, photos, tmp_path / "out")
    assert list(files(tmp_path / "out")) == ["a.jpg.png", "a.png.png", "detections.json", "sub dir/größe 1.png"]
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [
        (1, "a.jpg"),
        (2, "a.png"),
        (3, "sub dir/größe 1.JPG"),
    ]
    assert {row["image_id"] for row in content["annotations"]} == {1, 2, 3}
    assert {row["category_id"] for row in content["annotations"]} <= {3, 7}
    assert content["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    assert f"3 pictures and detections.json are in {tmp_path / 'out'}" in said
    with Image.open(tmp_path / "out" / "a.jpg.png") as picture:
        assert picture.size == (64, 48)


def test_a_folder_inside_the_images_is_never_taken_for_images(run: Path, photos: Path) -> None:
    detect(run, photos, photos / "found")
    once = files(photos)
    detect(run, photos, photos / "found")
    assert files(photos) == once
    assert len(json.loads(once["found/detections.json"])["images"]) == 3


@pytest.mark.parametrize(("images", "out"), [(".", "."), ("a.png", "."), (".", "sub dir/..")])
def test_no_image_is_overwritten(run: Path, photos: Path, images: str, out: str) -> None:
    before = files(photos)
    with pytest.raises(UserError, match=r"--out .*; give another"):
        detect(run, photos / images, photos / out)
    assert files(photos) == before


def test_unreadable_images_are_named_and_the_others_done(run: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes(b"")
    (photos / "dead.jpg").symlink_to("nowhere")
    shutil.copyfile(photos / "a.jpg", photos / "\udcf6.jpg")
    with pytest.raises(UserError, match=r"3 of 5 images could not be read: a.png, dead.jpg, \\udcf6.jpg\.$"):
        detect(run, photos, tmp_path / "out")
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 2


def test_nothing_is_written_when_nothing_can_be_read(run: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 1 image could not be read: notes.txt; nothing was written"):
        detect(run, photos / "notes.txt", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        detect(run, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match=r"has no model\.pt; give the folder results/<study>/<run>"):
        model_of(tmp_path)
    assert not (tmp_path / "out").exists()


def test_drawn_boxes_become_annotations_and_crops(run: Path, photos: Path, tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(UserError, match=r"--labels voc: .*a\.(jpg|png) and .*a\.(jpg|png)"):
        detect(run, photos, tmp_path / "out", outputs=Outputs("voc"))
    (photos / "a.png").unlink()
    out = tmp_path / "out"
    everything = json.loads(files_of(run, photos, out / "first", Outputs())["detections.json"])["annotations"]
    threshold = sorted(one["score"] for one in everything)[-6]
    detect(run, photos, out / "second", threshold, Outputs("yolo", crops=True))
    drawn = [one for one in everything if one["score"] >= threshold]
    written = files(out / "second")
    lines = {name: text.decode().splitlines() for name, text in written.items() if name.endswith(".txt")}
    assert set(lines) == {f"labels/yolo/labels/{name}.txt" for name in ("a", "sub dir/größe 1")}
    assert b"0: cat\n  1: dog" in written["labels/yolo/data.yaml"]
    crops = [name for name in written if name.startswith("crops/")]
    assert len(crops) == len(drawn) >= 6
    assert {name.split("/")[1] for name in crops} <= {"0-cat", "1-dog"}
    assert any("images/s" in line for line in said)


def files_of(run: Path, images: Path, out: Path, outputs: Outputs) -> dict[str, bytes]:
    detect(run, images, out, outputs=outputs)
    return files(out)


def test_a_class_may_be_called_anything() -> None:
    assert [folder_of(number, ("../x", "a/b", "größe 1.", "")) for number in range(4)] == [
        "0-.._x",
        "1-a_b",
        "2-größe 1",
        "3-",
    ]


def clip(path: Path, frames: int = 5) -> Path:
    with written(path, Fraction(10)) as writer:
        for number in range(frames):
            writer.add(Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)), Fraction(number, 10))
    return path


def test_a_video_becomes_a_video_and_its_boxes(run: Path, tmp_path: Path, said: list[str]) -> None:
    path = clip(tmp_path / "films" / "a clip.mp4")
    detect(run, path.parent, tmp_path / "out")
    assert list(files(tmp_path / "out")) == ["a clip.mp4", "a clip.mp4.json"]
    with opened(tmp_path / "out/a clip.mp4") as video:
        assert [frame.time for frame in video.frames()] == [Fraction(number, 10) for number in range(5)]
    content = json.loads((tmp_path / "out/a clip.mp4.json").read_text())
    assert [(image["frame"], image["seconds"]) for image in content["images"]] == [(k, k / 10) for k in range(5)]
    assert {(image["file_name"], image["width"], image["height"]) for image in content["images"]} == {
        ("a clip.mp4", 64, 48)
    }
    with opened(path) as video:
        first = torch.from_numpy(next(video.frames()).pixels.copy()).permute(2, 0, 1)
    wanted = load(run, threshold=0)(first)
    scores = [row["score"] for row in content["annotations"] if row["image_id"] == 1]
    assert scores == wanted["scores"].double().tolist() != []
    assert any("5 frames in" in line for line in said)


def test_a_video_that_ends_early_keeps_what_there_is(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip(photos / "clip.mp4")
    monkeypatch.setattr(Video, "announced", property(lambda self: 90))
    with pytest.raises(UserError, match=r"1 of 3 images and 1 video could not be read whole: clip\.mp4\.$"):
        detect(run, photos, tmp_path / "out")
    assert len(json.loads((tmp_path / "out/clip.mp4.json").read_text())["images"]) == 5
    assert (tmp_path / "out/detections.json").is_file()
    (photos / "clip.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"clip\.mp4; nothing was written"):
        detect(run, photos / "clip.mp4", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def names_in(out: Path) -> list[str]:
    return [image["file_name"] for image in json.loads((out / "detections.json").read_text())["images"]]


def test_several_files_folders_and_patterns(run: Path, photos: Path, tmp_path: Path) -> None:
    detect(run, [photos / "sub dir", photos / "a.png", photos / "a.png"], tmp_path / "several")
    assert names_in(tmp_path / "several") == ["sub dir/größe 1.JPG", "a.png"]
    detect(run, photos / "**/*.*", tmp_path / "pattern")
    assert names_in(tmp_path / "pattern") == ["a.jpg", "a.png", "sub dir/größe 1.JPG"]
    detect(run, photos / "sub*" / "*", tmp_path / "below")
    assert names_in(tmp_path / "below") == ["größe 1.JPG"]
    with pytest.raises(UserError, match="matches no image or video"):
        detect(run, photos / "*.tiff", tmp_path / "none")
    (photos / "[a].png").write_bytes((photos / "a.png").read_bytes())
    detect(run, photos / "[a].png", tmp_path / "brackets")
    assert names_in(tmp_path / "brackets") == ["[a].png"]


def test_images_of_one_size_may_be_computed_together(run: Path, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 50)).save(photos / "other size.png")
    detect(run, photos, tmp_path / "alone")
    detect(run, photos, tmp_path / "together", batch=2)
    one, two = (json.loads((tmp_path / name / "detections.json").read_text()) for name in ("alone", "together"))
    assert one["images"] == two["images"]
    assert len(one["annotations"]) == len(two["annotations"]) > 0
    for ours, theirs in zip(one["annotations"], two["annotations"], strict=True):
        assert (ours["image_id"], ours["category_id"]) == (theirs["image_id"], theirs["category_id"])
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-3)


def test_a_picture_that_cannot_be_written_stops_it(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verb, "write_picture", full)
    with pytest.raises(OSError, match="No space left"):
        detect(run, photos, tmp_path / "out")
    assert not (tmp_path / "out/detections.json").exists()
