"""Every kind of image file is decoded as documented or refused in one sentence that names it."""

import errno
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tood.data import decode
from tood.data.decode import decode_image
from tood.data.formats.headers import read_header
from tood.io.errors import UserError

GRADIENT = np.add.outer(np.arange(24) * 6, np.arange(40) * 2).astype(np.uint8)  # (24,40), up to 216
COLOURS = np.stack([GRADIENT, GRADIENT[::-1], GRADIENT[:, ::-1]], axis=2)


def decoded(path: Path) -> np.ndarray:
    pixels = decode_image(path)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert read_header(path).size == (pixels.shape[2], pixels.shape[1])
    return pixels.permute(1, 2, 0).numpy().astype(int)


def test_rgb_png_is_exact_and_jpeg_close(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOURS)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    assert np.array_equal(decoded(tmp_path / "a.png"), COLOURS)
    assert np.abs(decoded(tmp_path / "a.jpg") - COLOURS).mean() < 3


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("L", "jpg"), ("P", "png"), ("LA", "png"), ("1", "png"), ("RGBA", "png")],
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = Image.fromarray(GRADIENT).convert(mode)
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    expected = np.asarray(picture.convert("RGB")).astype(int)
    result = decoded(path)
    assert result.shape == (24, 40, 3)
    assert np.abs(result - expected).max() <= 3
    assert (result[..., 0] == result[..., 2]).all()


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "a.jpg", quality=98, subsampling=0)
    assert np.abs(decoded(tmp_path / "a.jpg") - COLOURS).mean() < 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(decoded(tmp_path / f"a.{suffix}")[..., 1], GRADIENT)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[:2, :, 3], pixels[2:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decoded(tmp_path / "a.png")[:, 0, 0], [255, 255, 200, 200])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([250, 10, 20, 30, 40, 50])
    palette.save(tmp_path / "p.png", transparency=0)
    assert decoded(tmp_path / "p.png")[0].tolist() == [[255, 255, 255], [30, 40, 50]]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda p: p),
        (3, lambda p: np.rot90(p, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (8, lambda p: np.rot90(p, 1)),
        (5, lambda p: p.transpose(1, 0, 2)),
    ],
)
def test_exif_rotation_is_applied(
    tmp_path: Path, orientation: int, upright: Callable[[np.ndarray], np.ndarray]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decoded(tmp_path / "a.png"), upright(COLOURS))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("LA", "png"), ("RGBA", "png"), ("I;16", "tif")]
)
def test_large_pictures_are_converted_in_strips_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    if mode == "I;16":
        Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(COLOURS).convert(mode).save(path)
    whole = decode_image(path)
    monkeypatch.setattr(decode, "_STRIP", 5 * 40)
    assert torch.equal(decode_image(path), whole)


def truncated(path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format={"jpg": "JPEG", "png": "PNG"}[suffix])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def corrupted_png(path: Path) -> None:
    Image.fromarray(COLOURS).save(path, format="PNG")
    data = bytearray(path.read_bytes())
    data[60:80] = bytes(20)
    path.write_bytes(data)


def bomb(path: Path) -> None:
    """A valid header that promises 40000 x 40000 pixels."""
    Image.new("L", (1, 1)).save(path, format="PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = (40000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("missing.jpg", lambda path: None, "no such image file"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "empty"),
        ("text.jpg", lambda path: path.write_text("<html>not found</html>"), "not in a known format"),
        ("cut.jpg", lambda path: truncated(path, "jpg"), "ends early"),
        ("cut.png", lambda path: truncated(path, "png"), "ends early"),
        (
            "header.jpg",
            lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00"),
            "known format|cannot be decoded",
        ),
        ("corrupt.png", corrupted_png, "cannot be decoded"),
        ("folder.jpg", lambda path: path.mkdir(), "is no file"),
        ("bomb.png", bomb, "million pixels"),
        ("float.tif", lambda path: Image.fromarray(GRADIENT.astype(np.float32)).save(path), "floating-point"),
    ],
)
def test_broken_files_are_refused_in_one_sentence(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        decode_image(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_what_the_machine_refuses_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("tood.data.decode._planes", refuse)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(type(error)):
        decode_image(tmp_path / "a.png")
