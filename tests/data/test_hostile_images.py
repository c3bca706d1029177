"""Image files made to do harm, or only broken: each is a picture or one sentence, in little memory."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood.data.decode import decode_image
from tood.data.findings import Findings
from tood.data.formats import headers
from tood.data.formats.headers import LARGEST_IMAGE, settle_frame
from tood.io.errors import UserError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
KINDS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(height * (3 * width + 1)) if width * height < 10**6 else b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    NOISE.save(stream, kind, **options)
    return stream.getvalue()


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def refusals(path: Path) -> str:
    """The sentence of both readers, which must agree that there is something wrong."""
    findings = Findings()
    frame = settle_frame(path, None, findings, str(path))
    with pytest.raises(UserError) as caught:
        decode_image(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    if frame is None:
        assert len(findings.errors) == 1
    return sentence


@pytest.mark.parametrize(
    "content",
    [
        png(100_000, 100_000),
        png(2**31 - 1, 2**31 - 1),
        png(12_000, LARGEST_IMAGE // 12_000 + 1),
        bmp(60_000, 60_000),
        b"P6 100000 100000 255\n",
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\2\2",
    ],
)
def test_more_pixels_than_are_decoded_are_refused_by_the_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert refusals(path).startswith(f"{path}: has more than 150 million pixels")


def test_pictures_up_to_the_limit_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LARGEST_IMAGE > 12_000 * 9_000
    (tmp_path / "y.png").write_bytes(png(120, 90))
    monkeypatch.setattr(headers, "LARGEST_IMAGE", 120 * 90)
    assert decode_image(tmp_path / "y.png").shape == (3, 90, 120)
    monkeypatch.setattr(headers, "LARGEST_IMAGE", 120 * 90 - 1)
    with pytest.raises(UserError, match="million pixels"):
        decode_image(tmp_path / "y.png")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 0.9])
def test_files_that_are_cut_off(tmp_path: Path, kind: str, share: float) -> None:
    content = encoded(kind)
    path = tmp_path / "x.jpg"
    path.write_bytes(content[: int(share * len(content))])
    try:
        assert decode_image(path).shape == (3, 48, 64)  # some formats begin with what is needed
    except UserError:
        refusals(path)


@pytest.mark.parametrize(
    "content",
    [
        b"just text",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1e9' height='1e9'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n",
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"",
    ],
)
def test_other_files_are_no_pictures_whatever_they_are_called(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert "not in a known format" in refusals(path) or "is empty" in refusals(path)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(20 << 20))),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20 << 20))),
    ],
)
def test_text_and_profiles_that_expand_are_not_read(tmp_path: Path, extra: bytes) -> None:
    (tmp_path / "x.png").write_bytes(png(8, 8, extra))
    assert "too large" in refusals(tmp_path / "x.png")


def test_of_thousands_of_pictures_in_a_file_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("L", (16, 16), index % 256) for index in range(1000)]
    for kind in ("TIFF", "PNG"):
        frames[0].save(tmp_path / "x", kind, save_all=True, append_images=frames[1:])
        assert decode_image(tmp_path / "x").shape == (3, 16, 16)


def test_large_notes_beside_the_picture_do_no_harm(tmp_path: Path) -> None:
    notes = Image.Exif()
    notes[0x0112], notes[0x9286] = 6, b"x" * 60_000
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG", exif=notes, icc_profile=b"i" * 3_000_000))
    assert decode_image(tmp_path / "x.jpg").shape == (3, 64, 48)


def linked_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, linked_to_a_device, os.mkdir])
def test_pipes_and_devices_keep_nobody_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.jpg")
    assert "is no file" in refusals(tmp_path / "x.jpg")


@pytest.mark.parametrize("name", ["a\0.jpg", "a" * 300 + ".jpg"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    refusals(tmp_path / name)
