"""``tood predict`` on a video: the frames with boxes as a video, and the detections of each as COCO json."""

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tood.config.datasets import TileConfig
from tood.data.decode import Decoded
from tood.data.findings import plural
from tood.data.video import Frame, opened, written
from tood.evaluation.picture_detections import Finder, detect_in_pictures
from tood.io.count_line import CountLine
from tood.io.errors import UserError
from tood.io.write import write_json
from tood.verbs.prediction_outputs import CocoFile, drawn, drawn_boxes

log = logging.getLogger(__name__)


def predict_video(
    finder: Finder, path: Path, name: Path, target: Path, threshold: float, tile: TileConfig | None, batch: int
) -> UserError | None:
    """Write ``target``, a video without sound, and beside it ``<target>.json``: an image for each frame, by its time.

    Frames are detected in as evaluation does in pictures, ``batch`` at a time. Returns why it ends early if it does;
    what comes before is written. Raises UserError, and writes nothing, where no frame can be read.
    """
    coco = CocoFile(finder.classes, finder.category_ids)
    seconds, began = 0.0, time.perf_counter()
    with opened(path) as video:
        readable = _Readable(video.frames())
        frames = iter(readable)
        first = next(frames, None)
        if first is None:
            raise readable.error or UserError(f"{path}: holds no frames.")
        line = CountLine(log, f"frames of {name}", max(video.announced, 1))
        with written(target, video.rate) as writer:
            for group in _grouped(chain([first], frames), batch):
                started = time.perf_counter()
                found = detect_in_pictures(finder, [_decoded(frame) for frame in group], tile)
                seconds += time.perf_counter() - started
                for frame, detections in zip(group, found, strict=True):
                    size = (frame.pixels.shape[1], frame.pixels.shape[0])
                    shown = drawn_boxes(name, size, detections, threshold)
                    writer.add(drawn(Image.fromarray(frame.pixels), shown, finder.classes), frame.time)
                    number = len(coco.images) + 1
                    coco.add(number, name, size, detections, frame=number - 1, seconds=round(float(frame.time), 6))
                line.show(len(coco.images))
    listing = target.with_name(f"{target.name}.json")
    write_json(listing, coco.content(), indent=None)
    whole, count = time.perf_counter() - began, len(coco.images)
    log.info("%s: %s in %s and %s", name, plural(count, "frame"), target, listing.name)
    log.info("%.1f frames/s, %.1f with reading and drawing", count / seconds, count / whole)
    return readable.error


class _Readable:
    """Frames up to the first that cannot be read, and why that is."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self.error: UserError | None = None

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._frames
        except UserError as error:
            self.error = error


def _grouped(frames: Iterable[Frame], most: int) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    for frame in frames:
        if len(group) == most or (group and frame.pixels.shape != group[0].pixels.shape):
            yield group
            group = []
        group.append(frame)
    yield group


def _decoded(frame: Frame) -> Decoded:
    planes = torch.from_numpy(np.ascontiguousarray(frame.pixels.transpose(2, 0, 1)))
    return Decoded(planes, (planes.shape[2], planes.shape[1]))
