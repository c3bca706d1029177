"""``tood predict``: detections in any images, as images with boxes and as COCO json."""

import logging
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath

import torch
from PIL import Image

from tood.config.datasets import TileConfig
from tood.config.messages import nearest
from tood.data.box_drawing import draw_detections
from tood.data.decode import Change, examine_image
from tood.data.findings import Findings, plural, printable
from tood.data.formats.folder_files import list_files
from tood.data.formats.headers import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from tood.data.formats.label_files import LabelFormat, Labelled, write_labels
from tood.data.pictures import note_changes
from tood.data.tiles import in_tiles
from tood.detection.postprocess import Detections
from tood.evaluation.detections import as_coco_results
from tood.evaluation.graphed_detections import graphed_detections
from tood.evaluation.picture_detections import detect_in_file
from tood.io.errors import UserError, listed
from tood.io.escape import is_unicode
from tood.io.write import atomic_path, write_json, write_with
from tood.training.processes.devices import one_device
from tood.verbs.folders import RESULTS
from tood.weights.model_file import load_detection_model

log = logging.getLogger(__name__)


def model_of(run: Path) -> Path:
    """The ``model.pt`` of a run's folder; UserError if it is not trained."""
    if os.path.isfile(run) or run.suffix == ".pt":
        raise UserError(f"--run {run}: is a file; give its folder, --run {run.parent}, or --weights {run}.")
    if not os.path.isfile(run / "model.pt"):
        trained = sorted(path.parent.as_posix() for path in RESULTS.glob("**/model.pt"))
        hint = nearest(run.as_posix(), trained)
        raise UserError(f"--run {run}: has no model.pt; give the folder results/<study>/<run> of a trained run{hint}")
    return run / "model.pt"


@dataclass(frozen=True)
class Outputs:
    """What ``tood predict`` writes besides pictures and ``detections.json``."""

    labels: LabelFormat | None = None
    """Annotations of the boxes that are drawn, for a labelling tool, in ``labels/<format>``."""
    crops: bool = False
    """The part of the picture in each of these boxes, in ``crops/<label>-<class>``."""


_NOTHING_ELSE = Outputs()


def predict(
    weights: Path,
    images: Path,
    out: Path,
    threshold: float,
    gpu: str,
    threads: int,
    tile_size: int | None = None,
    outputs: Outputs = _NOTHING_ELSE,
) -> None:
    """Detect objects in one image or a folder of them with any ``model.pt``.

    Images are cut into the tiles that the detector was trained on, or of ``tile_size`` px if given.
    Writes one picture per image (boxes scoring at least ``threshold``) and ``detections.json`` (all boxes), and
    ``outputs``. Says the speed at the end.
    Images that cannot be read are named and left out, and make the command fail in the end; if none can be
    read, nothing is written. Images below ``out`` are not looked at, and no image is ever overwritten.
    """
    paths = _image_paths(images, out)
    root = images if images.is_dir() else images.parent
    targets = _picture_paths(paths, root, out)
    if outputs.labels in ("yolo", "voc"):
        _refuse_shared_names(paths, root, outputs.labels)
    model = load_detection_model(weights)
    tile = model.tile if tile_size is None else TileConfig(size=tile_size)
    if tile is not None:
        log.info("detecting objects in %s%s", plural(len(paths), "image"), in_tiles(tile))
    torch.set_num_threads(threads)
    unreadable: list[str] = []
    changes: dict[Path, frozenset[Change]] = {}
    entries, results = [], []
    labelled: list[Labelled] = []
    began, seconds = time.perf_counter(), 0.0
    with one_device(gpu) as device:
        model.detector.on(device)
        pixels, inference = model.network_input.pixels, model.method.inference
        graphs = graphed_detections(model.detector, pixels, inference, device)
        for number, path in enumerate(paths, start=1):
            try:
                picture, changes[path] = _decode(path)
            except UserError as error:
                log.info(str(error))
                unreadable.append(printable(path.name))
                continue
            started = time.perf_counter()
            found = detect_in_file(model, path, picture, tile, device, graphs)
            seconds += time.perf_counter() - started
            name = path.relative_to(root)
            _draw(targets[path], picture, found, model.classes, threshold)
            height, width = picture.shape[-2:]
            labelled.append(_labelled(name, width, height, found, threshold))
            if outputs.crops:
                _write_crops(out / "crops", picture, labelled[-1], model.classes)
            entries.append({"id": number, "file_name": name.as_posix(), "width": width, "height": height})
            results += as_coco_results([found], [number], model.category_ids)
            shown = int((found.scores >= threshold).sum())
            objects = plural(shown, "object")
            log.info("%s: %s at %g or above, %d in all", name, objects, threshold, len(found.scores))
    if not entries:
        raise UserError(f"{images}: {_unreadable_count(unreadable, len(paths))}; nothing was written.")
    categories = [
        {"id": category, "name": name} for category, name in zip(model.category_ids, model.classes, strict=True)
    ]
    content = {"images": entries, "annotations": results, "categories": categories}
    write_json(out / "detections.json", content, indent=None)
    log.info("%s and detections.json are in %s", plural(len(entries), "picture"), out)
    if outputs.labels is not None:
        target = write_labels(outputs.labels, out / "labels" / outputs.labels, labelled, model.classes)
        log.info("annotations of %s: %s", plural(sum(len(one.boxes) for one in labelled), "box"), target)
    whole = time.perf_counter() - began
    log.info("%.1f images/s, %.1f with reading and drawing", len(entries) / seconds, len(entries) / whole)
    findings = Findings()
    note_changes(changes, findings)
    for note in findings.sentences("note"):
        log.info("note: %s", note)
    if unreadable:
        raise UserError(f"{images}: {_unreadable_count(unreadable, len(paths))}.")


def _labelled(name: Path, width: int, height: int, found: Detections, threshold: float) -> Labelled:
    """The boxes that are drawn."""
    kept = found.scores >= threshold
    boxes = [(left, top, right, bottom) for left, top, right, bottom in found.boxes[kept].tolist()]
    return Labelled(name.as_posix(), width, height, boxes, found.labels[kept].tolist(), found.scores[kept].tolist())


def _write_crops(folder: Path, picture: torch.Tensor, drawn: Labelled, classes: tuple[str, ...]) -> None:
    """One PNG for each box that covers a pixel: ``<label>-<class>/<picture>-<number>.png``."""
    height, width = picture.shape[-2:]
    for number, ((left, top, right, bottom), label) in enumerate(zip(drawn.boxes, drawn.labels, strict=True), start=1):
        x1, y1, x2, y2 = max(0, int(left)), max(0, int(top)), min(width, ceil(right)), min(height, ceil(bottom))
        if x2 <= x1 or y2 <= y1:
            continue
        name = PurePosixPath(drawn.file_name)
        target = folder / _folder_of(label, classes) / name.with_name(f"{name.name}-{number}.png")
        crop = Image.fromarray(picture[:, y1:y2, x1:x2].permute(1, 2, 0).numpy())
        write_with(target, lambda path, crop=crop: crop.save(path, format="PNG"))  # type: ignore[misc]


def _refuse_shared_names(paths: list[Path], root: Path, labels: str) -> None:
    """These formats know a picture's annotations by its name without suffix."""
    names = Counter(path.relative_to(root).with_suffix("") for path in paths)
    twice = [path for path in paths if names[path.relative_to(root).with_suffix("")] > 1]
    if twice:
        raise UserError(
            f"--labels {labels}: {twice[0]} and {twice[1]} would have the same annotation file; rename one, or take "
            "coco or label-studio."
        )


def _folder_of(label: int, classes: tuple[str, ...]) -> str:
    """A name that is a folder's whatever the class is called."""
    plain = re.sub(r"[^\w .-]", "_", classes[label])[:80]
    return f"{label}-{plain}".rstrip(". ")


def _unreadable_count(names: list[str], count: int) -> str:
    return f"{len(names)} of {plural(count, 'image')} could not be read: {listed(names)}"


def _image_paths(images: Path, out: Path) -> list[Path]:
    if images.is_dir():
        if out.resolve() == images.resolve():
            raise UserError(f"--out {out}: is the folder of the images; give another one for the pictures.")
        suffixes = IMAGE_SUFFIXES | OTHER_IMAGE_SUFFIXES  # the others are refused by name
        paths = [path for path in list_files(images, suffixes) if not path.resolve().is_relative_to(out.resolve())]
        if not paths:
            raise UserError(f"{images}: holds no images; give an image or a folder with JPEG or PNG files.")
        return paths
    if not images.exists():
        raise UserError(f"{images}: no such image or folder.")
    return [images]


def _picture_paths(paths: list[Path], root: Path, out: Path) -> dict[Path, Path]:
    """Where the picture of each image goes; images that differ in their suffix only keep it in its name.

    Raises UserError where an image itself would be overwritten.
    """
    names = {path: path.relative_to(root) for path in paths}
    shared = Counter(name.with_suffix("") for name in names.values())
    originals = {path.resolve() for path in paths}
    targets = {}
    for path, name in names.items():
        alone = shared[name.with_suffix("")] == 1
        targets[path] = out / (name.with_suffix(".png") if alone else name.with_name(f"{name.name}.png"))
        if targets[path].resolve() in originals:
            raise UserError(f"--out {out}: the picture of {path} would overwrite an image there; give another folder.")
    return targets


def _decode(path: Path) -> tuple[torch.Tensor, frozenset[Change]]:
    if not is_unicode(str(path)):
        raise UserError(f"{printable(path)}: the file's name is not valid UTF-8; rename it.")
    return examine_image(path)


def _draw(target: Path, picture: torch.Tensor, found: Detections, classes: tuple[str, ...], threshold: float) -> None:
    kept = found.scores >= threshold
    drawn = draw_detections(
        picture, found.boxes[kept].tolist(), found.labels[kept].tolist(), found.scores[kept].tolist(), classes
    )
    with atomic_path(target) as path:
        drawn.save(path, format="PNG")
