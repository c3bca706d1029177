"""``tood predict``: detections in any images, as images with boxes and as COCO json."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tood.config.datasets import TileConfig
from tood.config.images import ImagesConfig
from tood.config.messages import nearest
from tood.config.method import InferenceConfig
from tood.data.augmentation import no_augmentation
from tood.data.box_drawing import draw_detections
from tood.data.dataset import Sample
from tood.data.decode import Change, Decoded, examine_image
from tood.data.findings import Findings, plural, printable
from tood.data.formats.folder_files import list_files
from tood.data.formats.headers import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from tood.data.loader import collate
from tood.data.network_input import NetworkInput
from tood.data.pictures import note_changes
from tood.data.tiles import in_tiles
from tood.data.transforms import transform
from tood.detection.postprocess import Detections
from tood.evaluation.detections import as_coco_results, detect_batch
from tood.export.session import open_export
from tood.io.errors import UserError, listed
from tood.io.escape import is_unicode
from tood.io.write import atomic_path, write_json
from tood.training.processes.devices import one_device
from tood.verbs.finding import Finder, find_objects
from tood.verbs.folders import RESULTS
from tood.weights.model_file import DetectionModel, load_detection_model

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


def predict(
    weights: Path, images: Path, out: Path, threshold: float, gpu: str, threads: int, tile_size: int | None = None
) -> None:
    """Detect objects in one image or a folder of them with any ``model.pt``, as :func:`predict_with` says."""
    request = _Request.of(images, out, threshold, tile_size)
    model = load_detection_model(weights)
    torch.set_num_threads(threads)
    with one_device(gpu) as device:
        model.detector.on(device)
        predict_with(LoadedFinder(model, device), request)


def predict_export(
    file: Path, images: Path, out: Path, threshold: float | None, threads: int, tile_size: int | None = None
) -> None:
    """The same with a file of ``tood export``; by default with the threshold that it names."""
    request = _Request.of(images, out, 0.0, tile_size)
    detector = open_export(file, threads)
    predict_with(detector, replace(request, threshold=detector.threshold if threshold is None else threshold))


@dataclass(frozen=True)
class _Request:
    """Images, and where the picture of each goes."""

    images: Path
    out: Path
    root: Path
    targets: dict[Path, Path]
    threshold: float
    tile_size: int | None

    @classmethod
    def of(cls, images: Path, out: Path, threshold: float, tile_size: int | None) -> "_Request":
        paths = _image_paths(images, out)
        root = images if images.is_dir() else images.parent
        return cls(images, out, root, _picture_paths(paths, root, out), threshold, tile_size)


def predict_with(finder: Finder, request: _Request) -> None:
    """Detect objects in images, which are cut into the tiles that the detector was trained on, or others if given.

    Writes one picture per image (boxes scoring at least the threshold) and ``detections.json`` (all boxes).
    Images that cannot be read are named and left out, and make the command fail in the end; if none can be
    read, nothing is written. Images below ``out`` are not looked at, and no image is ever overwritten.
    """
    images, out, threshold, targets = request.images, request.out, request.threshold, request.targets
    paths = list(targets)
    tile = finder.tile if request.tile_size is None else TileConfig(size=request.tile_size)
    if tile is not None:
        log.info("detecting objects in %s%s", plural(len(paths), "image"), in_tiles(tile))
    unreadable: list[str] = []
    changes: dict[Path, frozenset[Change]] = {}
    entries, results = [], []
    for number, path in enumerate(paths, start=1):
        try:
            picture, changes[path] = _decode(path)
        except UserError as error:
            log.info(str(error))
            unreadable.append(printable(path.name))
            continue
        found = find_objects(finder, path, tile, picture)
        name = path.relative_to(request.root)
        _draw(targets[path], picture, found, finder.classes, threshold)
        height, width = picture.shape[-2:]
        entries.append({"id": number, "file_name": name.as_posix(), "width": width, "height": height})
        results += as_coco_results([found], [number], finder.category_ids)
        shown = int((found.scores >= threshold).sum())
        objects = plural(shown, "object")
        log.info("%s: %s at %g or above, %d in all", name, objects, threshold, len(found.scores))
    if not entries:
        raise UserError(f"{images}: {_unreadable_count(unreadable, len(paths))}; nothing was written.")
    categories = [
        {"id": category, "name": name} for category, name in zip(finder.category_ids, finder.classes, strict=True)
    ]
    content = {"images": entries, "annotations": results, "categories": categories}
    write_json(out / "detections.json", content, indent=None)
    log.info("%s and detections.json are in %s", plural(len(entries), "picture"), out)
    findings = Findings()
    note_changes(changes, findings)
    for note in findings.sentences("note"):
        log.info("note: %s", note)
    if unreadable:
        raise UserError(f"{images}: {_unreadable_count(unreadable, len(paths))}.")


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


@dataclass(frozen=True)
class LoadedFinder:
    """A ``model.pt`` on a device."""

    model: DetectionModel
    device: torch.device

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        return self.model.category_ids

    @property
    def tile(self) -> TileConfig | None:
        return self.model.tile

    @property
    def inference(self) -> InferenceConfig:
        return self.model.method.inference

    @property
    def images(self) -> ImagesConfig:
        return self.model.network_input.images

    def find(self, parts: Sequence[Decoded]) -> list[Detections]:
        given = self.model.network_input
        batch = collate([as_sample(part, 0, given) for part in parts], given.pixels)
        return detect_batch(self.model.detector, batch, given.pixels, self.device, self.inference)


def as_sample(picture: Decoded, image_id: int, config: NetworkInput) -> Sample:
    """A network input from a decoded image, as evaluation makes it."""
    no_boxes, no_labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    images = config.images
    resized, boxes, labels = transform(
        picture.pixels,
        no_boxes,
        no_labels,
        no_augmentation(images),
        antialias=images.antialias,
        opencv=images.resize == "opencv",
        whole=picture.size,
    )
    width, height = picture.size
    return Sample(resized, (height, width), image_id, boxes, labels)


def _draw(target: Path, picture: torch.Tensor, found: Detections, classes: tuple[str, ...], threshold: float) -> None:
    kept = found.scores >= threshold
    drawn = draw_detections(
        picture, found.boxes[kept].tolist(), found.labels[kept].tolist(), found.scores[kept].tolist(), classes
    )
    with atomic_path(target) as path:
        drawn.save(path, format="PNG")
