"""Generated data set on disk: its pictures, drawn on all cores, and COCO json."""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tood.config.datasets import ShapesDataset, ShapesSplit
from tood.data.synthetic.scenes import CLASSES
from tood.data.synthetic.shapes import Shape, draw_scene
from tood.io.console import thread_count
from tood.io.end_with_parent import end_with_parent
from tood.io.errors import UserError
from tood.io.write import write_json, write_with

log = logging.getLogger(__name__)

_PNG_EVERY = 8
_MANY_PICTURES = 500  # from which on processes are worth starting
_TOGETHER = 20  # pictures that a process draws before it is asked again

_Drawn = tuple[int, int, tuple[Shape, ...]]
"""Width and height px of a picture, and the objects in it."""
_Map = Callable[[Callable[[int], _Drawn], Iterable[int]], Iterator[_Drawn]]


def generate_shapes(config: ShapesDataset, folder: Path) -> tuple[str, ...]:
    """Write ``folder/images/<split>/*`` and ``folder/annotations/<split>.json``; return the classes.

    Deterministic; JPEG bytes may differ between versions of the JPEG library. The annotations of a split are
    written after its pictures. Raises UserError if a file cannot be written.
    """
    first_image_id, first_box_id = 1, 1
    with _drawing(sum(split.images for split in config.splits.values()), folder) as mapped:
        for name, split in config.splits.items():
            boxes = _write_split(config, name, split, folder, first_image_id, first_box_id, mapped)
            first_image_id += split.images
            first_box_id += boxes
    return CLASSES


@contextmanager
def _drawing(pictures: int, folder: Path) -> Iterator[_Map]:
    """A ``map`` that keeps the order, and uses all cores where there are many pictures."""
    cores = thread_count(0)
    if pictures < _MANY_PICTURES or cores == 1:
        yield map
        return
    pool = ProcessPoolExecutor(cores, get_context("fork"), initializer=_begin)
    try:
        yield partial(pool.map, chunksize=_TOGETHER)
    except BrokenProcessPool as error:
        raise UserError(
            f"{folder}: a process drawing pictures was killed, probably for lack of memory; repeat the command."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """End when the parent does, which alone hears Ctrl-C."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_split(
    config: ShapesDataset,
    name: str,
    split: ShapesSplit,
    folder: Path,
    first_image_id: int,
    first_box_id: int,
    mapped: _Map,
) -> int:
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    drawn = mapped(partial(_write_scene, folder / "images" / name, split.seed, config.size), range(split.images))
    for index, (width, height, shapes) in enumerate(drawn):
        image_id = first_image_id + index
        images.append({"id": image_id, "file_name": f"{name}/{_file_name(index)}", "width": width, "height": height})
        for shape in shapes:
            x1, y1, x2, y2 = shape.box
            annotations.append(
                {
                    "id": first_box_id + len(annotations),
                    "image_id": image_id,
                    "category_id": shape.label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": shape.area,
                    "iscrowd": 0,
                }
            )
        if (index + 1) % 500 == 0 or index + 1 == split.images:
            log.info("%s: %s %d/%d pictures drawn", config.name, name, index + 1, split.images)
    categories = [{"id": k + 1, "name": kind} for k, kind in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations" / f"{name}.json", content, indent=None)
    return len(annotations)


def _file_name(index: int) -> str:
    return f"{index:06d}.{'png' if index % _PNG_EVERY == 0 else 'jpg'}"


def _write_scene(folder: Path, seed: int, size: int, index: int) -> _Drawn:
    scene = draw_scene(seed, index, size)
    _write_picture(folder / _file_name(index), scene.pixels)
    height, width = scene.pixels.shape[:2]
    return width, height, scene.shapes


def _write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Not durable: the folder counts for nothing before ``dataset.json``, which is."""
    settings: dict[str, Any] = {"compress_level": 3} if path.suffix == ".png" else {"quality": 92, "subsampling": 0}
    write_with(path, lambda temporary: Image.fromarray(pixels).save(temporary, **settings), durable=False)
