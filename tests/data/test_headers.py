import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from tood.data.decode import decode_image
from tood.data.formats.folder_files import list_images
from tood.data.formats.headers import read_header
from tood.io.errors import UserError


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4)
    return len(content).to_bytes(4) + kind + content + checksum


def turned_exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif.tobytes().removeprefix(b"Exif\0\0")


XMP = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
RAW = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n8\n" + (b"Exif\0\0" + turned_exif()).hex().encode())


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("added", "orientation"),
    [
        (chunk(b"eXIf", turned_exif()), 6),
        (chunk(b"iTXt", XMP), 6),
        (chunk(b"zTXt", RAW), 6),
        (chunk(b"tEXt", b"date:create\x002026-01-01"), 1),
        (b"", 1),
    ],
    ids=["exif", "xmp", "raw profile", "other text", "nothing"],
)
def test_a_png_is_decoded_for_its_orientation_only_where_it_may_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_image, added: bytes, orientation: int, behind: bool
) -> None:
    content = make_image(tmp_path / "a.png").read_bytes()
    place = content.index(b"IEND" if behind else b"IDAT") - 4
    path = tmp_path / "b.png"
    path.write_bytes(content[:place] + added + content[place:])
    with Image.open(path) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == orientation
    if orientation == 1:
        monkeypatch.setattr(PngImageFile, "load", lambda _: pytest.fail("decoded"))
    assert read_header(path).orientation == orientation


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_picture(tmp_path: Path, make_image, orientation: int, suffix: str) -> None:
    path = make_image(tmp_path / f"a.{suffix}", (50, 20), exif=orientation)
    width, height = read_header(path).size
    assert decode_image(path).shape == (3, height, width)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_box_is_turned_as_the_picture_is(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((30, 50), np.uint8)
    x1, y1, x2, y2 = box = (4, 9, 17, 13)
    pixels[y1:y2, x1:x2] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    image.save(path, exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    rows, columns = np.nonzero(turned)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert read_header(path).upright(box) == found
    assert found != box, "the picture must have been turned for this to say anything"


def test_images_are_listed_in_order_without_hidden_and_other_files(tmp_path: Path, make_image) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "._a.jpg"):
        make_image(tmp_path / name.replace(".PNG", ".png")).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
        "a.jpg",
        "b.PNG",
        "sub/c.webp",
    ]


def test_links_are_followed_but_never_in_circles(tmp_path: Path, make_image) -> None:
    make_image(tmp_path / "elsewhere" / "a.jpg")
    images = tmp_path / "set" / "images"
    make_image(images / "b.jpg")
    make_image(images / ".cache" / "hidden.jpg")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "linked again").symlink_to(tmp_path / "elsewhere")
    (images / "up").symlink_to(tmp_path / "set")
    (images / "dead.jpg").symlink_to("nowhere")
    assert [path.relative_to(images).as_posix() for path in list_images(images)] == [
        "b.jpg",
        "dead.jpg",
        "linked/a.jpg",
    ]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"cannot be read: Permission denied"):
        list_images(tmp_path)
