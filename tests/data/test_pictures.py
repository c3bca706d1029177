"""What changes a picture's pixels is noted once per kind; what cannot be decoded stops the preparation."""

import json
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from tood.config.datasets import YoloDataset
from tood.data.decode import decode_image, examine_image
from tood.data.findings import Findings
from tood.data.pictures import ExaminedPictures, examine_pictures, note_changes
from tood.data.prepare import prepare_dataset
from tood.io.count_line import CountLine
from tood.io.errors import UserError
from tood.io.interruption import Terminated

NOISE = np.random.default_rng(0).integers(1, 255, (40, 60), np.uint8)
COLOURS = np.stack([NOISE, NOISE[::-1], NOISE[:, ::-1]], axis=2)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def transparent(path: Path) -> Path:
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[10:20, 10:20, 3] = 255
    return saved(path.with_suffix(".png"), Image.fromarray(pixels))


def key_colour(path: Path) -> Path:
    return saved(path.with_suffix(".png"), Image.fromarray(COLOURS), transparency=tuple(COLOURS[0, 0].tolist()))


def pages(path: Path) -> Path:
    picture = Image.fromarray(COLOURS)
    return saved(path.with_suffix(".tif"), picture, save_all=True, append_images=[picture])


def twelve_bits(path: Path) -> Path:
    return saved(path.with_suffix(".png"), Image.fromarray(NOISE.astype(np.uint16) * 16))


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (transparent, "transparency"),
        (key_colour, "transparency"),
        (pages, "pages"),
        (twelve_bits, "few_bits"),
        (lambda path: saved(path.with_suffix(".tif"), Image.fromarray(NOISE.astype(np.uint16) * 257)), "sixteen_bits"),
        (lambda path: saved(path.with_suffix(".jpg"), Image.fromarray(COLOURS).convert("CMYK")), "cmyk"),
        (lambda path: saved(path.with_suffix(".png"), Image.new("RGB", (9, 9), (7, 7, 7))), "one_colour"),
    ],
)
def test_each_change_is_seen(tmp_path: Path, make, change: str) -> None:
    assert examine_image(make(tmp_path / "x"))[1] == {change}


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA"])
def test_ordinary_pictures_have_none(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(COLOURS).convert(mode))
    assert examine_image(path)[1] == frozenset()


def test_dark_objects_on_transparency_stay_visible(tmp_path: Path) -> None:
    pixels = decode_image(transparent(tmp_path / "x")).numpy()
    assert (pixels[:, 12, 12] == 0).all()
    assert (pixels[:, 0, 0] == 255).all()


@pytest.mark.parametrize(("bits", "factor"), [(10, 4), (12, 16), (14, 64), (16, 257)])
def test_gray_of_few_bits_is_as_bright_as_a_viewer_shows_it(tmp_path: Path, bits: int, factor: int) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(NOISE.astype(np.uint16) * factor))
    error = np.abs(decode_image(path)[0].numpy().astype(int) - NOISE)
    assert error.max() <= 1


def write_wide_png(path: Path, values: np.ndarray) -> Path:
    """A PNG with 16 bits a colour (H,W,3), which no library here writes."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


def test_colours_of_few_bits_are_refused_and_of_16_bits_read(tmp_path: Path) -> None:
    wide = COLOURS.astype(np.uint16)
    read = decode_image(write_wide_png(tmp_path / "x.png", wide * 257)).permute(1, 2, 0).numpy()
    assert np.array_equal(read, COLOURS)
    with pytest.raises(UserError, match=r"x\.png: has colours of 16 bits"):
        decode_image(write_wide_png(tmp_path / "x.png", wide * 16))


def test_notes_are_one_a_kind(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        paths.append(transparent(tmp_path / str(number) / f"p{number}.png"))
    findings = Findings()
    note_changes(dict(examine_pictures(paths, findings)), findings)
    (note,) = findings.sentences("note")
    assert note.startswith("5 pictures")
    assert "p0.png" in note


def yolo(root: Path) -> YoloDataset:
    return YoloDataset(
        name="mine", format="yolo", root=str(root), splits={"train": "images/train", "val": "images/val"}
    )


@pytest.mark.parametrize("missing", [2, 40, 2000])
def test_a_picture_that_ends_early_is_used_and_noted(tmp_path: Path, yolo_root: Path, missing: int) -> None:
    path = yolo_root / "images" / "train" / "a.png"
    path.unlink()
    picture = saved(path.with_suffix(".jpg"), Image.fromarray(COLOURS).resize((640, 480)))
    picture.write_bytes(picture.read_bytes()[:-missing])
    prepared = prepare_dataset(
        yolo(yolo_root), tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params"
    )
    assert any("ending early" in note and "a.jpg" in note for note in prepared.notes)


def test_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = transparent(tmp_path / "x")
    first, second = Findings(), Findings()
    ExaminedPictures(tmp_path / "record.json").examine({path: "digest"}, first)

    def refuse(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("tood.data.pictures.examine_image", refuse)
    ExaminedPictures(tmp_path / "record.json").examine({path: "digest"}, second)
    assert first.sentences("note") == second.sentences("note") != []
    (tmp_path / "record.json").write_text("broken")
    with pytest.raises(AssertionError):
        ExaminedPictures(tmp_path / "record.json").examine({path: "digest"}, Findings())


def test_a_record_of_fewer_changes_is_not_believed(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", Image.fromarray(COLOURS).resize((640, 480)))
    path.write_bytes(path.read_bytes()[:-40])
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"by": f"Pillow {PIL.__version__}", "changes": {"digest": []}}))
    findings = Findings()
    ExaminedPictures(record).examine({path: "digest"}, findings)
    assert any("ending early" in note for note in findings.sentences("note"))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Terminated])
def test_what_was_examined_is_known_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    paths = [transparent(tmp_path / str(number)) for number in range(40)]
    digests = {path: path.name for path in paths}
    seen: list[Path] = []

    def stop(path: Path) -> tuple[object, frozenset[str]]:
        seen.append(path)
        if path == paths[20]:
            raise interruption
        return examine_image(path)

    monkeypatch.setattr("tood.data.pictures.examine_image", stop)
    with pytest.raises(interruption):
        ExaminedPictures(tmp_path / "record.json").examine(digests, Findings())
    first = set(seen)
    seen.clear()
    monkeypatch.setattr("tood.data.pictures.examine_image", lambda path: (seen.append(path), examine_image(path))[1])
    findings = Findings()
    ExaminedPictures(tmp_path / "record.json").examine(digests, findings)
    assert set(seen) == set(paths[20:])
    assert set(paths[:20]) <= first
    assert findings.sentences("note")[0].startswith("40 pictures")


def test_progress_says_how_many_and_how_long(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 4.0, 10.0, 12.0, 100.0])
    monkeypatch.setattr("tood.io.count_line.time.monotonic", lambda: next(now))
    line = CountLine(logging.getLogger("tood.test"), "pictures read", 5000, before=1000)
    with caplog.at_level(logging.INFO, "tood.test"):
        for done in (1100, 1200, 1300, 5000):
            line.show(done)
    assert caplog.messages == ["1,200 of 5,000 pictures read, 3m 10s left"]


def test_transparency_of_a_gray_picture_of_16_bits_is_laid_over_white(tmp_path: Path) -> None:
    values = NOISE.astype(np.uint16) * 200 + 7
    values[: len(values) // 2] = 0
    plain = saved(tmp_path / "x.png", Image.fromarray(values)).read_bytes()
    place = plain.index(b"IDAT") - 4
    chunk = b"tRNS\x00\x00"
    path = tmp_path / "y.png"
    path.write_bytes(
        plain[:place] + (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + plain[place:]
    )
    image, changes = examine_image(path)
    assert (image[:, : len(values) // 2] == 255).all()
    assert (image[:, len(values) // 2 :] == decode_image(tmp_path / "x.png")[:, len(values) // 2 :]).all()
    assert changes == {"sixteen_bits", "transparency"}


def test_a_gray_tiff_of_16_bits_whose_zero_is_white_is_turned(tmp_path: Path) -> None:
    values = NOISE.astype(np.uint16) * 257
    content = saved(tmp_path / "x.tif", Image.fromarray(values)).read_bytes()
    black_is_zero = (262).to_bytes(2, "little") + b"\x03\x00\x01\x00\x00\x00\x01\x00"
    assert content.count(black_is_zero) == 1
    (tmp_path / "y.tif").write_bytes(content.replace(black_is_zero, black_is_zero[:-2] + b"\x00\x00"))
    assert (decode_image(tmp_path / "y.tif") == 255 - decode_image(tmp_path / "x.tif")).all()


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_tiff_whose_zero_is_white_is_turned_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    paths = [
        saved(
            tmp_path / f"{name}.tif", Image.fromarray(NOISE.astype(np.uint16) * 257), exif=exif, tiffinfo={262: value}
        )
        for name, value in (("black", 1), ("white", 0))
    ]
    with Image.open(paths[1]) as image:
        assert image.tag_v2[262] == 0
    assert (decode_image(paths[1]) == 255 - decode_image(paths[0])).all()
