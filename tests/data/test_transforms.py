"""Geometry of network inputs: the reference's sizes and pictures, and what must hold for any image."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig
from tood.data.augmentation import Augmentation, Visit, draw_augmentation, no_augmentation
from tood.data.batch import collate
from tood.data.dataset import Sample
from tood.data.input_sizes import Bounds, padded_size, resized_size
from tood.data.normalisation import normalise
from tood.data.transforms import transform
from tood.io.errors import UserError

ROOT = Path(__file__).parents[2]
REFERENCES = [ROOT / "tests/golden/data", ROOT.parent / "shared/golden"]
SIDES = st.integers(1, 3000)
PIXELS = PixelsConfig()


def reference(name: str) -> Path:
    for folder in REFERENCES:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(name)


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((640, 480), 800, (1067, 800)),
        ((640, 480), 496, (661, 496)),
        ((480, 640), 800, (800, 1067)),
        ((1000, 200), 800, (1333, 267)),
        ((500, 375), 800, (1067, 800)),
        ((5000, 1), 800, (1333, 1)),
    ],
)
def test_resized_size_by_hand(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert resized_size(*size, Bounds(short, 1333)) == expected


def test_resized_sizes_of_the_reference() -> None:
    content = json.loads(reference("resize_shapes.json").read_text())
    checked = 0
    for row in content["rows"]:
        for key, value in row.items():
            if key.startswith("short_"):
                bounds = Bounds(int(key.removeprefix("short_")), content["long_edge"])
                new = resized_size(row["w"], row["h"], bounds)
                assert new == (value["new_w"], value["new_h"])
                assert padded_size(*new) == (value["pad_w"], value["pad_h"])
                checked += 1
    assert checked > 100


@settings(max_examples=200, deadline=None)
@given(width=SIDES, height=SIDES, short=st.integers(1, 900), extra=st.integers(0, 900))
def test_resized_size_keeps_limits_and_proportions(width: int, height: int, short: int, extra: int) -> None:
    new = resized_size(width, height, Bounds(short, short + extra))
    assert max(new) <= short + extra
    assert min(new) <= short
    assert max(new) == short + extra or min(new) == short  # as large as allowed
    assert abs(new[0] / width - new[1] / height) <= 0.5 / width + 0.5 / height + 1e-9 or min(new) == 1
    padded = padded_size(*new)
    assert all(side % 32 == 0 and 0 <= side - inner < 32 for side, inner in zip(padded, new, strict=True))


@pytest.mark.parametrize("case", ["up", "down", "slight", "wide"])
def test_pictures_and_boxes_of_the_reference(case: str) -> None:
    scales = json.loads(reference("resize_sample.json").read_text())["scales"][case]
    with np.load(reference("resize_sample.npz")) as arrays:
        stored = dict(arrays)
    image = torch.from_numpy(stored["image_bgr"][..., ::-1].copy()).permute(2, 0, 1)
    boxes, labels = torch.from_numpy(stored["boxes"]), torch.arange(8)
    long, short = scales["scale"]
    bounds = Bounds(short, long)
    for flip, name in ((False, "resized"), (True, "flipped")):
        picture, moved, kept = transform(image, boxes, labels, Augmentation(bounds, flip=flip), antialias=False)
        assert list(picture.shape[:0:-1]) == scales["new_wh"]
        expected = torch.from_numpy(stored[f"{case}_{name}_bgr"][..., ::-1].copy()).permute(2, 0, 1)
        assert (picture.int() - expected.int()).abs().max() <= 1
        same, _, _ = transform(image, boxes, labels, Augmentation(bounds, flip=flip), antialias=False, opencv=True)
        assert torch.equal(same, expected)
        wanted = stored[f"{case}_flipped_boxes" if flip else f"{case}_boxes"]
        np.testing.assert_allclose(moved, wanted[kept], atol=1e-4)
        assert len(kept) == 8
    exact = torch.from_numpy(stored[f"{case}_resized_bgr"][..., ::-1].copy()).permute(2, 0, 1)
    batch = collate([Sample(exact, (61, 97), 1, boxes, labels)], PIXELS)
    np.testing.assert_allclose(batch.images, stored[f"{case}_model_input"], atol=1e-5)
    np.testing.assert_allclose(batch.scales[0], scales["scale_factor_wh"], rtol=1e-6)


def test_without_opencv_its_pixels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    image, none = torch.zeros(3, 40, 50, dtype=torch.uint8), torch.zeros(0, 4)
    wanted = Augmentation(Bounds(32, 64))
    with pytest.raises(UserError, match=r"images\.resize: 'opencv' needs OpenCV; .* '\.\[opencv\]'"):
        transform(image, none, none[:, 0].long(), wanted, antialias=False, opencv=True)


@st.composite
def annotated(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    width, height = draw(st.integers(2, 90)), draw(st.integers(2, 90))
    corner = st.tuples(st.floats(-20, 100), st.floats(-20, 100), st.floats(1, 120), st.floats(1, 120))
    rows = draw(st.lists(corner, max_size=6))
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows]).reshape(-1, 4)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8), boxes


@settings(max_examples=80, deadline=None)
@given(sample=annotated(), short=st.integers(32, 80), extra=st.integers(0, 60), flip=st.booleans())
def test_boxes_stay_inside_and_keep_their_labels(
    sample: tuple[torch.Tensor, torch.Tensor], short: int, extra: int, flip: bool
) -> None:
    image, boxes = sample
    labels = torch.arange(len(boxes))
    bounds = Bounds(short, short + extra)
    picture, moved, kept = transform(image, boxes, labels, Augmentation(bounds, flip=flip), antialias=False)
    height, width = picture.shape[1:]
    assert (width, height) == resized_size(image.shape[2], image.shape[1], bounds)
    assert len(moved) == len(kept)
    assert (moved >= 0).all()
    assert (moved[:, 0::2] <= width).all()
    assert (moved[:, 1::2] <= height).all()
    assert ((moved[:, 2:] - moved[:, :2]) >= 1).all()
    scale = torch.tensor([width / image.shape[2], height / image.shape[1]] * 2)
    limit = torch.tensor([width, height] * 2)
    expected = torch.minimum((boxes * scale).clamp(min=0), limit)
    whole = ((expected[:, 2:] - expected[:, :2]) >= 1.001).all(1)
    assert set(labels[whole].tolist()) <= set(kept.tolist())
    mirrored = moved.clone()
    if flip:
        mirrored[:, 0::2] = width - moved[:, [2, 0]]
    torch.testing.assert_close(mirrored, expected[kept].float(), atol=1e-3, rtol=1e-4)


def test_flip_moves_pixels_with_their_boxes() -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 4:9, 2:12] = 255
    mirrored = Augmentation(Bounds(40, 60), flip=True)
    picture, boxes, _ = transform(image, torch.tensor([[2.0, 4, 12, 9]]), torch.tensor([0]), mirrored, antialias=False)
    x1, y1, x2, y2 = boxes[0].int().tolist()
    assert (x1, y1, x2, y2) == (48, 4, 58, 9)
    assert (picture[:, y1:y2, x1:x2] == 255).all()
    assert int((picture > 0).sum()) == 3 * 50


def drawn(config: ImagesConfig, seed: int, epoch: int, image_id: int) -> Augmentation:
    return draw_augmentation(config, seed, Visit(epoch), image_id, (64, 48), np.zeros((0, 4), np.float32))


def test_augmentation_is_a_pure_function_of_seed_epoch_and_image() -> None:
    config = ImagesConfig(short=600, long=1000, jitter=(480, 800))
    first = [drawn(config, 1, 2, image) for image in range(50)]
    assert [drawn(config, 1, 2, image) for image in reversed(range(50))] == first[::-1]
    for seed, epoch in ((2, 2), (1, 3), (2, 1)):
        assert [drawn(config, seed, epoch, image) for image in range(50)] != first


def test_jitter_and_flip_cover_their_range() -> None:
    config = ImagesConfig(short=40, long=50, jitter=(38, 41), flip=0.25)
    every = [drawn(config, 0, 0, image) for image in range(800)]
    counts = np.bincount([a.bounds.short for a in every], minlength=42)
    assert counts[38:42].min() > 150
    assert counts.sum() == counts[38:42].sum()
    assert 0.19 < np.mean([a.flip for a in every]) < 0.31
    still = ImagesConfig(short=40, long=50, flip=0.0)
    assert {drawn(still, 0, 0, image) for image in range(20)} == {no_augmentation(still)}


def test_normalisation() -> None:
    image = torch.tensor([[[0, 255]], [[116, 117]], [[103, 104]]], dtype=torch.uint8)
    result = normalise(image, PIXELS)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result[0, 0], torch.tensor([-123.675 / 58.395, (255 - 123.675) / 58.395]))
    torch.testing.assert_close(result[2, 0], torch.tensor([-0.53 / 57.375, 0.47 / 57.375]))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXELS.mean, PIXELS.std))
    assert torch.equal((result * std + mean).round().to(torch.uint8), image)
