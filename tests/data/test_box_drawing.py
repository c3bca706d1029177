"""Boxes are drawn where they are, in the colour of their class, on a copy."""

import numpy as np
import pytest
import torch
from PIL import Image

from tood.data.box_drawing import as_corners, caption_font, class_colour, draw_detections, spread_evenly


def test_outline_lies_on_the_box_and_the_original_is_untouched() -> None:
    image = torch.full((3, 80, 100), 7, dtype=torch.uint8)
    drawn = np.asarray(draw_detections(image, [(20, 30, 60, 70)], [1], [0.9], ["a", "b"]))
    assert drawn.shape == (80, 100, 3)
    assert (image == 7).all()
    for y, x in ((70, 40), (50, 20), (50, 60)):
        assert tuple(drawn[y, x]) == class_colour(1)
    assert tuple(drawn[50, 40]) == (7, 7, 7)


def test_boxes_follow_when_the_picture_is_enlarged() -> None:
    image = Image.new("L", (50, 40), 7)
    drawn = draw_detections(image, np.array([[10, 10, 30, 30]]), [0], None, ["a"], longer_side=200)
    assert drawn.size == (200, 160)
    pixels = np.asarray(drawn)
    assert tuple(pixels[120, 80]) == class_colour(0)
    assert tuple(pixels[80, 80]) == (7, 7, 7)


def test_the_most_certain_detection_is_on_top() -> None:
    image = Image.new("RGB", (100, 100))
    box = [(20, 20, 80, 80)] * 2
    drawn = np.asarray(draw_detections(image, box, [0, 1], [0.9, 0.4], ["a", "b"]))
    assert tuple(drawn[80, 50]) == class_colour(0)


@pytest.mark.parametrize(
    "boxes", [[], [(-50, -50, 500, 500)], [(90, 70, 90, 70)], [(200, 200, 300, 300)], [(60, 50, 40, 30)]]
)
def test_any_box_can_be_drawn(boxes: list[tuple[float, ...]]) -> None:
    labels = [0] * len(boxes)
    drawn = draw_detections(Image.new("RGB", (100, 80)), boxes, labels, [0.5] * len(boxes), ["straße"])
    assert drawn.size == (100, 80)


@pytest.mark.parametrize("text", ["ä", "ß", "é", "Ж", "λ"])
def test_captions_have_the_letters_of_other_languages(text: str) -> None:
    font = caption_font(16, "cat", text)
    assert bytes(font.getmask(text)) != bytes(font.getmask("\uffff")), "the sign for a missing letter"


def test_colours_of_many_classes_differ() -> None:
    assert len({class_colour(label) for label in range(80)}) == 80


def test_pixels_in_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        draw_detections(np.zeros((80, 100, 3), np.uint8), [], [], None, ["a"])


def test_coco_boxes_become_corners() -> None:
    assert as_corners([[10, 20, 30, 5]]) == [(10, 20, 40, 25)]
    assert as_corners([]) == []


@pytest.mark.parametrize("many", [0, 3, 8, 9, 10, 100])
def test_choice_is_even_and_without_repetition(many: int) -> None:
    chosen = spread_evenly(range(many), 8)
    assert len(set(chosen)) == len(chosen) == min(many, 8)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)
