"""The generated data set: deterministic, honest boxes, all kinds of pictures."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from surroundings import small_disk

from tood.config.datasets import ShapesDataset
from tood.data.random_streams import random_stream
from tood.data.synthetic import shapes_files
from tood.data.synthetic.scenes import draw_outline, draw_patch
from tood.data.synthetic.shapes import CLASSES, MIN_VISIBLE, Scene, Stage, draw_scene, generate_crops
from tood.data.synthetic.shapes_files import generate_shapes
from tood.io.errors import UserError

SIZE = 96


def config(**seeds: int) -> ShapesDataset:
    splits = {name: {"images": 9, "seed": seed} for name, seed in seeds.items()}
    return ShapesDataset.model_validate({"format": "shapes", "name": "toy", "size": SIZE, "splits": splits})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(5, index, SIZE) for index in range(400)]


def test_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert generate_shapes(config(train=1, val=2), tmp_path / folder) == CLASSES
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert len(first) == 9 + 9 + 2


def test_splits_with_other_seeds_share_no_picture(tmp_path: Path) -> None:
    generate_shapes(config(train=1, val=2), tmp_path)
    files = contents(tmp_path)
    assert len(set(files.values())) == len(files)


def test_files_match_their_annotations(tmp_path: Path, said: list[str]) -> None:
    generate_shapes(config(train=1, val=2), tmp_path)
    content = [json.loads((tmp_path / f"annotations/{name}.json").read_text()) for name in ("train", "val")]
    images = [image for part in content for image in part["images"]]
    boxes = [box for part in content for box in part["annotations"]]
    assert len({image["id"] for image in images}) == 18
    assert len({box["id"] for box in boxes}) == len(boxes) > 18
    assert {Path(image["file_name"]).suffix for image in images} == {".jpg", ".png"}
    assert [category["name"] for category in content[0]["categories"]] == list(CLASSES)
    assert any("train 9/9" in message for message in said)
    for image in images:
        with Image.open(tmp_path / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
            assert max(picture.size) == SIZE


def test_scene_depends_on_seed_and_index_alone(scenes: list[Scene]) -> None:
    again = draw_scene(5, 17, SIZE)
    assert np.array_equal(again.pixels, scenes[17].pixels)
    assert again.shapes == scenes[17].shapes
    for other in (draw_scene(5, 18, SIZE), draw_scene(6, 17, SIZE), draw_scene(-5, 17, SIZE)):
        assert other.shapes != again.shapes


def test_boxes_lie_inside_and_area_is_what_can_be_seen(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.pixels.shape[:2]
        for shape in scene.shapes:
            x1, y1, x2, y2 = shape.box
            assert 0 <= x1 < x1 + 2 <= x2 <= width
            assert 0 <= y1 < y1 + 2 <= y2 <= height
            # Pixels on the border of a rotated sliver may lie half outside its box.
            assert 1 <= shape.area <= (x2 - x1 + 1) * (y2 - y1 + 1)


def test_variety(scenes: list[Scene]) -> None:
    shapes = [shape for scene in scenes for shape in scene.shapes]
    shares = np.bincount([shape.label for shape in shapes], minlength=len(CLASSES)) / len(shapes)
    assert shares.min() > 0.6 / len(CLASSES)
    assert shares.max() < 1.5 / len(CLASSES)
    counts = np.bincount([len(scene.shapes) for scene in scenes], minlength=7) / len(scenes)
    assert 0 < counts[0] < 0.06
    assert len(counts) == 7
    assert counts[1:].min() > 0.01
    sides = np.array([max(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in shapes]) / SIZE
    assert sides.min() < 0.1
    assert sides.max() > 0.85
    assert np.mean((sides > 0.15) & (sides < 0.6)) > 0.6
    ratios = {np.sign(scene.pixels.shape[1] - scene.pixels.shape[0]) for scene in scenes}
    assert ratios == {-1, 0, 1}


def test_objects_cross(scenes: list[Scene]) -> None:
    def cross(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return min(a[2], b[2]) - max(a[0], b[0]) > 3 and min(a[3], b[3]) - max(a[1], b[1]) > 3

    crossing = [
        any(cross(a.box, b.box) for k, a in enumerate(scene.shapes) for b in scene.shapes[:k]) for scene in scenes
    ]
    assert np.mean(crossing) > 0.25


@settings(max_examples=60, deadline=None)
@given(
    label=st.integers(0, len(CLASSES) - 1),
    radius=st.floats(4, 60),
    x=st.floats(-20, 120),
    y=st.floats(-20, 120),
    seed=st.integers(0, 1000),
)
def test_box_is_tight_around_the_drawn_outline(label: int, radius: float, x: float, y: float, seed: int) -> None:
    patch = draw_patch(draw_outline(random_stream("test", seed), label, radius), (x, y))
    rows, columns = (np.flatnonzero(patch.coverage.any(axis)) for axis in (1, 0))
    x1, y1, x2, y2 = patch.box
    drawn = (
        columns[0] + patch.left,
        rows[0] + patch.top,
        columns[-1] + 1 + patch.left,
        rows[-1] + 1 + patch.top,
    )
    assert drawn[0] <= x1 < drawn[0] + 1.26
    assert drawn[1] <= y1 < drawn[1] + 1.26
    assert drawn[2] - 1.26 < x2 <= drawn[2]
    assert drawn[3] - 1.26 < y2 <= drawn[3]


def test_nothing_recognisable_is_hidden_or_left_unlabelled() -> None:
    rng = random_stream("test", 0)
    stage = Stage(Image.new("RGB", (80, 80), "gray"))
    disc = CLASSES.index("disc")
    assert stage.place(rng, draw_outline(rng, disc, 22), (40, 40))
    before = np.array(stage.canvas)
    assert not stage.place(rng, draw_outline(rng, disc, 39), (40, 40))  # would hide the first
    assert not stage.place(rng, draw_outline(rng, disc, 20), (-15, 40))  # would hardly be seen itself
    assert np.array_equal(before, np.array(stage.canvas))
    assert stage.place(rng, draw_outline(rng, CLASSES.index("bar"), 25), (40, 40))
    visible = stage.shapes()[0].area
    assert MIN_VISIBLE * stage.full[0] <= visible < stage.full[0]


def test_crops() -> None:
    images, labels = generate_crops(60, 32, seed=3)
    assert images.shape == (60, 3, 32, 32)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == set(range(len(CLASSES) + 1))
    fewer, their_labels = generate_crops(7, 32, seed=3)
    assert np.array_equal(fewer, images[:7])
    assert np.array_equal(their_labels, labels[:7])
    assert not np.array_equal(generate_crops(7, 32, seed=4)[0], fewer)


def test_splits_may_not_share_a_seed() -> None:
    with pytest.raises(ValidationError, match="seed of its own"):
        config(train=1, val=1)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(UserError, match=r"images.*cannot be written"):
        generate_shapes(config(train=1), tmp_path)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "16k") as disk,
        pytest.raises(UserError, match="cannot be written: No space left on device; free some space"),
    ):
        generate_shapes(config(train=1), disk)


def test_many_pictures_are_drawn_by_several_processes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_shapes(config(train=1, val=2), tmp_path / "alone")
    monkeypatch.setattr(shapes_files, "_MANY_PICTURES", 1)
    monkeypatch.setattr(shapes_files, "_TOGETHER", 2)
    monkeypatch.setattr(shapes_files, "thread_count", lambda _: 3)
    generate_shapes(config(train=1, val=2), tmp_path / "together")
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")


def test_an_error_of_a_drawing_process_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes_files, "_MANY_PICTURES", 1)
    monkeypatch.setattr(shapes_files, "thread_count", lambda _: 2)
    (tmp_path / "images").touch()
    with pytest.raises(UserError, match="images"):
        generate_shapes(config(train=1), tmp_path)


def test_a_killed_drawing_process_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes_files, "_MANY_PICTURES", 1)
    monkeypatch.setattr(shapes_files, "thread_count", lambda _: 2)
    monkeypatch.setattr(shapes_files, "draw_scene", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="was killed"):
        generate_shapes(config(train=1), tmp_path)
    assert not (tmp_path / "annotations").exists()
