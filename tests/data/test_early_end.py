"""Files that end early are decoded as Pillow does when asked to, or refused where too little is left of them."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tood.data.decode import decode_image, examine_image
from tood.data.formats.headers import read_header
from tood.io.errors import UserError

WIDTH, HEIGHT = 96, 80
SMOOTH = Image.fromarray(np.random.default_rng(0).integers(30, 226, (10, 12, 3), np.uint8)).resize((WIDTH, HEIGHT))
OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {},
    "progressive": {"format": "JPEG", "progressive": True, "quality": 90},
    "gray": {"format": "JPEG"},
    "CMYK": {"format": "JPEG"},
    "PNG": {},
    "palette": {"format": "PNG"},
    "GIF": {},
    "BMP": {},
    "PPM": {},
    "TIFF": {},
    "packed": {"format": "TIFF", "compression": "tiff_lzw"},
    "WEBP": {},
    "JPEG2000": {},
}
MODES = {"gray": "L", "CMYK": "CMYK", "palette": "P"}
WHOLE_NEEDED = ("packed", "WEBP", "JPEG2000")


def encoded(kind: str, picture: Image.Image = SMOOTH) -> bytes:
    stream = io.BytesIO()
    picture.convert(MODES.get(kind, "RGB")).save(stream, **{"format": kind, **OPTIONS[kind]})
    return stream.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def by_pillow(content: bytes, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Pixels (3,H,W) as Pillow gives them with its flag."""
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if kind not in WHOLE_NEEDED])
@pytest.mark.parametrize("missing", [20, 0.1, 0.3])
def test_the_pixels_are_those_of_pillow_with_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, missing: float
) -> None:
    content = encoded(kind)
    cut = missing if isinstance(missing, int) else int(missing * len(content))
    path = written(tmp_path / "x", content[:-cut])
    image, changes = examine_image(path)
    assert np.array_equal(image.numpy(), by_pillow(content[:-cut], monkeypatch))
    assert np.array_equal(decode_image(path).numpy(), image.numpy())
    is_whole = np.array_equal(image.numpy(), by_pillow(content, monkeypatch))
    assert ("ended_early" in changes) or is_whole  # of a PNG the last bytes hold no pixels
    assert read_header(path).size == (WIDTH, HEIGHT)
    assert "ended_early" not in examine_image(written(tmp_path / "y", content))[1]


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if kind not in ("progressive", *WHOLE_NEEDED)])
def test_less_than_half_of_the_rows_are_refused(tmp_path: Path, kind: str) -> None:
    content = encoded(kind)
    for share in (0.25, 0.4):
        with pytest.raises(UserError, match=r"x: .*(ends early: only \d+ of its 80 rows|cannot be decoded)"):
            decode_image(written(tmp_path / "x", content[: int(share * len(content))]))


@pytest.mark.parametrize("kind", WHOLE_NEEDED)
def test_kinds_that_are_decoded_as_a_whole_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match="x: "):
        decode_image(written(tmp_path / "x", encoded(kind)[:-20]))


def test_of_a_progressive_jpeg_a_preview_or_nothing_is_refused(tmp_path: Path) -> None:
    content = encoded("progressive")
    scans = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 4
    assert "ended_early" in examine_image(written(tmp_path / "x", content[: scans[-1] + 40]))[1]
    preview = content[: content.index(b"\xff\xc4", scans[0])]
    with pytest.raises(UserError, match="coarse preview"):
        decode_image(written(tmp_path / "x", preview))
    inside_a_table = content[: content.index(b"\xff\xc4", scans[3]) + 12]
    assert not by_flag_alone(inside_a_table).any()
    with pytest.raises(UserError, match="only 0 of its 80 rows"):
        decode_image(written(tmp_path / "x", inside_a_table))


def by_flag_alone(content: bytes) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        return by_pillow(content, patch)


def test_zeros_that_fill_a_file_are_no_picture(tmp_path: Path) -> None:
    content = encoded("JPEG")
    whole = len(content)
    assert "ended_early" in examine_image(written(tmp_path / "x", content[:-100] + bytes(100)))[1]
    with pytest.raises(UserError, match="of its 80 rows"):
        decode_image(written(tmp_path / "x", content[: whole // 2] + bytes(whole - whole // 2)))


def test_damage_that_stops_the_decoder_before_the_end_is_refused(tmp_path: Path) -> None:
    content = bytearray(encoded("JPEG"))
    content[-300:-200] = b"\xff" * 100
    with pytest.raises(UserError, match="broken data stream"):
        decode_image(written(tmp_path / "x", bytes(content)))


def test_other_threads_see_pillow_unchanged(tmp_path: Path) -> None:
    path = written(tmp_path / "x", encoded("JPEG")[:-20])
    expected = decode_image(path)

    def strictly(_: int) -> bool:
        with Image.open(path) as image, pytest.raises(OSError, match="truncated"):
            image.load()
        return True

    def leniently(_: int) -> bool:
        return bool((decode_image(path) == expected).all())

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit((strictly, leniently)[number % 2], number) for number in range(200)]
        assert all(one.result() for one in found)


def test_it_is_noted_where_a_program_set_pillows_flag_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = written(tmp_path / "x", encoded("JPEG")[:-20])
    assert "ended_early" in examine_image(path)[1]
    with Image.open(path) as image:
        image.load()  # as that program wants it
