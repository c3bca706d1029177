"""``tood predict``: detections in any images and videos, drawn and as COCO json."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tood.config.datasets import TileConfig
from tood.data.decode import Change, Decoded, examine_image
from tood.data.findings import Findings, plural, printable
from tood.data.formats.label_files import Labelled, write_labels
from tood.data.pictures import note_changes
from tood.data.tiles import in_tiles
from tood.detection.postprocess import Detections
from tood.evaluation.picture_detections import Finder, ModelFinder, detect_in_pictures, read_for
from tood.export.session import open_export
from tood.io.count_line import CountLine
from tood.io.errors import UserError, listed
from tood.io.escape import is_unicode
from tood.io.write import write_json
from tood.training.processes.devices import one_device
from tood.verbs.predict_video import predict_video
from tood.verbs.prediction_inputs import Inputs, inputs_of
from tood.verbs.prediction_outputs import CocoFile, Outputs, drawn_boxes, write_crops, write_picture
from tood.weights.model_file import load_detection_model

log = logging.getLogger(__name__)

_NAMED = 50
"""Of more pictures than this only the count is said."""


@dataclass(frozen=True)
class Request:
    """What ``tood predict`` is to do."""

    given: Sequence[Path]
    """Images, videos, folders of them and patterns."""
    out: Path
    threshold: float | None
    """The lowest score that is drawn; None for that of an exported file."""
    threads: int
    tile: int | None = None
    """Side px of the tiles that images are cut into; None for those that the detector was trained on."""
    batch: int = 1
    """Images of one size that are computed together."""
    outputs: Outputs = field(default_factory=Outputs)


def predict(weights: Path, request: Request, gpu: str) -> None:
    """Detect objects with any ``model.pt``, as :func:`predict_with` says."""
    inputs = inputs_of(request.given, request.out)
    _refuse_shared_names(inputs, request.outputs)
    model = load_detection_model(weights)
    torch.set_num_threads(request.threads)
    with one_device(gpu) as device:
        predict_with(ModelFinder.on(device, model), inputs, request, request.threshold or 0.0)


def predict_export(file: Path, request: Request) -> None:
    """The same with a file of ``tood export``; by default with the threshold that it names."""
    inputs = inputs_of(request.given, request.out)
    _refuse_shared_names(inputs, request.outputs)
    detector = open_export(file, request.threads)
    predict_with(detector, inputs, request, detector.threshold if request.threshold is None else request.threshold)


def predict_with(finder: Finder, inputs: Inputs, request: Request, threshold: float) -> None:
    """Detect objects in images and videos.

    Writes one picture per image (boxes scoring at least ``threshold``), ``detections.json`` (all boxes) and the
    other outputs; for each video a video and a json file. Says the speed at the end.
    What cannot be read is named and left out, and makes the command fail in the end; if nothing can be read,
    nothing is written. Files below ``out`` are not looked at, and none that is given is ever overwritten.
    """
    tile = finder.tile if request.tile is None else TileConfig(size=request.tile)
    if tile is not None:
        log.info("detecting objects in %s%s", _count(inputs), in_tiles(tile))
    unreadable: list[str] = []
    written = _predict_pictures(finder, inputs, request, threshold, tile, unreadable) if inputs.pictures else 0
    for path, target in inputs.videos.items():
        try:
            early = predict_video(finder, path, inputs.name(path), target, threshold, tile, request.batch)
            written += 1
        except UserError as error:
            early = error
        if early is not None:
            log.info(str(early))
            unreadable.append(printable(path.name))
    given = ", ".join(str(path) for path in request.given[:3]) + (", ..." if len(request.given) > 3 else "")
    if written == 0:
        raise UserError(f"{given}: {_unread(unreadable, inputs)}; nothing was written.")
    if inputs.videos and (request.outputs.labels or request.outputs.crops):
        log.info("note: annotations and crops are of images only")
    if unreadable:
        raise UserError(f"{given}: {_unread(unreadable, inputs)}.")


class _Read(NamedTuple):
    number: int
    path: Path
    pixels: Tensor
    """(3,H,W), as it is drawn on."""
    picture: Decoded
    """As the detector takes it."""
    changes: frozenset[Change]


def _predict_pictures(
    finder: Finder,
    inputs: Inputs,
    request: Request,
    threshold: float,
    tile: TileConfig | None,
    unreadable: list[str],
) -> int:
    """How many are written; those that cannot be read are added to ``unreadable``."""
    out, outputs = request.out, request.outputs
    coco = CocoFile(finder.classes, finder.category_ids)
    shown: list[Labelled] = []
    changes: dict[Path, frozenset[Change]] = {}
    total, began, seconds = len(inputs.pictures), time.perf_counter(), 0.0
    line = CountLine(log, "images", total)
    # Pictures are read and drawn while others are computed.
    with ThreadPoolExecutor(min(request.threads, 8)) as pool, _Pending(2 * request.batch + 2) as pending:
        for group in _of_one_size(_readable(pool, finder, inputs, tile, unreadable, request.batch + 2), request.batch):
            started = time.perf_counter()
            found = detect_in_pictures(finder, [one.picture for one in group], tile)
            seconds += time.perf_counter() - started
            for one, detections in zip(group, found, strict=True):
                name, size = inputs.name(one.path), (one.pixels.shape[2], one.pixels.shape[1])
                labelled = drawn_boxes(name, size, detections, threshold)
                pending.add(
                    pool.submit(_write, inputs.pictures[one.path], one.pixels, labelled, finder.classes, request)
                )
                coco.add(one.number, name, size, detections)
                shown.append(labelled)
                changes[one.path] = one.changes
                _say(name, labelled, detections, threshold, total)
            line.show(group[-1].number)
    if not shown:
        return 0
    write_json(out / "detections.json", coco.content(), indent=None)
    log.info("%s and detections.json are in %s", plural(len(shown), "picture"), out)
    if outputs.labels is not None:
        target = write_labels(outputs.labels, out / "labels" / outputs.labels, shown, finder.classes)
        log.info("annotations of %s: %s", plural(sum(len(one.boxes) for one in shown), "box"), target)
    whole = time.perf_counter() - began
    log.info("%.1f images/s, %.1f with reading and drawing", len(shown) / seconds, len(shown) / whole)
    findings = Findings()
    note_changes(changes, findings)
    for note in findings.sentences("note"):
        log.info("note: %s", note)
    return len(shown)


def _say(name: Path, shown: Labelled, found: Detections, threshold: float, total: int) -> None:
    if total <= _NAMED:
        objects = plural(len(shown.boxes), "object")
        log.info("%s: %s at %g or above, %d in all", name, objects, threshold, len(found.scores))


def _write(target: Path, pixels: Tensor, shown: Labelled, classes: Sequence[str], request: Request) -> None:
    write_picture(target, pixels, shown, classes)
    if request.outputs.crops:
        write_crops(request.out / "crops", pixels, shown, classes)


class _Pending:
    """Work in other threads, no more than ``most`` at a time; what fails there fails here."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: deque[Future[None]] = deque()

    def __enter__(self) -> "_Pending":
        return self

    def add(self, work: Future[None]) -> None:
        self._work.append(work)
        while len(self._work) > self._most:
            self._work.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for work in self._work:
            if kind is None:
                work.result()
            else:
                work.cancel()


def _readable(
    pool: ThreadPoolExecutor,
    finder: Finder,
    inputs: Inputs,
    tile: TileConfig | None,
    unreadable: list[str],
    most: int,
) -> Iterator[_Read]:
    """The images that can be read, up to ``most`` ahead of what is asked for."""
    numbered = enumerate(inputs.pictures, start=1)
    ahead: deque[tuple[Path, Future[_Read]]] = deque()
    while True:
        for number, path in islice(numbered, most - len(ahead)):
            ahead.append((path, pool.submit(_read, finder, number, path, tile)))
        if not ahead:
            return
        path, reading = ahead.popleft()
        try:
            yield reading.result()
        except UserError as error:
            log.info(str(error))
            unreadable.append(printable(path.name))


def _read(finder: Finder, number: int, path: Path, tile: TileConfig | None) -> _Read:
    if not is_unicode(str(path)):
        raise UserError(f"{printable(path)}: the file's name is not valid UTF-8; rename it.")
    pixels, changes = examine_image(path)
    return _Read(number, path, pixels, read_for(finder, path, tile, pixels), changes)


def _of_one_size(pictures: Iterable[_Read], most: int) -> Iterator[list[_Read]]:
    """Up to ``most`` that follow each other and have the same size."""
    group: list[_Read] = []
    for one in pictures:
        if group and (len(group) == most or one.picture.size != group[0].picture.size):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _refuse_shared_names(inputs: Inputs, outputs: Outputs) -> None:
    """These formats know a picture's annotations by its name without suffix."""
    if outputs.labels not in ("yolo", "voc"):
        return
    plain = {path: inputs.name(path).with_suffix("") for path in inputs.pictures}
    names = Counter(plain.values())
    twice = [path for path, name in plain.items() if names[name] > 1]
    if twice:
        raise UserError(
            f"--labels {outputs.labels}: {twice[0]} and {twice[1]} would have the same annotation file; rename one, or "
            "take coco or label-studio."
        )


def _count(inputs: Inputs) -> str:
    counts = [(len(inputs.pictures), "image"), (len(inputs.videos), "video")]
    return " and ".join(plural(count, noun) for count, noun in counts if count)


def _unread(names: list[str], inputs: Inputs) -> str:
    return f"{len(names)} of {_count(inputs)} could not be read{' whole' if inputs.videos else ''}: {listed(names)}"
