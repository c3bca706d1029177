"""What ``fuzz.py`` begins with: valid inputs of every loader, and pieces that hostile ones are made of."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
BITS = [
    b"[" * 2000,
    b"../",
    b"\\u" + b"d83d",
    b"9" * 5000,
    b"NaN",
    b"&a",
    b"*a",
    b"!!python/name:os",
    b"<!DOCTYPE x>",
    b"\x00",
]
_IMAGE = {"id": 1, "file_name": "a.png", "width": 64, "height": 48}
_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
COCO = {"images": [_IMAGE], "annotations": [_BOX], "categories": [{"id": 1, "name": "cat"}]}
VOC = (
    "<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size><object><name>cat</name>"
    "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>"
    "</annotation>"
)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _archives() -> list[bytes]:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/a.txt", "a" * 99)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        entry = tarfile.TarInfo("set/a.txt")
        entry.size = 99
        tar.addfile(entry, io.BytesIO(b"a" * 99))
    return [zipped.getvalue(), tarred.getvalue()]


def _images() -> list[bytes]:
    from PIL import Image

    found = []
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"):
        stream = io.BytesIO()
        Image.linear_gradient("L").resize((9, 7)).convert("RGB").save(stream, kind)
        found.append(stream.getvalue())
    return found


def _checkpoints() -> list[bytes]:
    import torch

    found = []
    for modern in (True, False):
        stream = io.BytesIO()
        value = {"state_dict": {"a": torch.ones(2, 3)}, "meta": {"CLASSES": ("a",)}}
        torch.save(value, stream, _use_new_zipfile_serialization=modern)
        found.append(stream.getvalue())
    return found


def seeds(loader: str) -> list[bytes]:
    """Valid inputs of a loader."""
    params = PROJECT / "params"
    made: dict[str, Callable[[], list[bytes]]] = {
        "coco": lambda: [_text(COCO)],
        "json": lambda: [_text([{**_BOX, "score": 0.5}]), _text({"split": "val", "images": 3, "AP": 0.5})],
        "voc": lambda: [VOC.encode()],
        "yolo": lambda: [b"images/a.png\n0 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.1 0.2 0.3 0.2\n"],
        "names": lambda: [b"names: {0: cat}\nnc: 1\n", b"names: &n [cat]\ntrain: *n\n"],
        "dataset": lambda: [path.read_bytes() for path in sorted((params / "datasets").glob("*.yaml"))],
        "study": lambda: [path.read_bytes() for path in sorted((params / "studies").glob("*.yaml"))],
        "archive": _archives,
        "image": _images,
        "weights": _checkpoints,
    }
    return made[loader]()
