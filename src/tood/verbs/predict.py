"""``tood predict``: pictures with boxes and a COCO-format json for any images."""

from pathlib import Path

import torch

from tood.config.schedule import ImagesConfig
from tood.data.dataset import Sample
from tood.data.decode import decode_image
from tood.data.headers import list_images
from tood.data.loader import collate
from tood.data.transforms import no_augmentation, transform
from tood.detection.model_file import TrainedModel, load_model
from tood.detection.postprocess import Detections
from tood.errors import UserError
from tood.evaluation.detections import as_coco_results, detect_batch
from tood.files import atomic_path, write_json
from tood.pictures import draw_detections
from tood.training.devices import one_device
from tood.verbs.locate import Echo


def predict(folder: Path, images: Path, out: Path, threshold: float, gpu: str, threads: int, echo: Echo) -> None:
    """Detect objects in one image or a folder of them with a run's model.

    Writes one picture per image (boxes scoring at least ``threshold``) and ``detections.json`` (all boxes).
    Images that cannot be read are named and left out, and make the command fail in the end.
    """
    model = load_model(folder / "model.pt")
    paths = _image_paths(images)
    root = images if images.is_dir() else images.parent
    torch.set_num_threads(threads)
    unreadable: list[str] = []
    entries, results = [], []
    with one_device(gpu) as device:
        model.detector.to(device)
        for number, path in enumerate(paths, start=1):
            try:
                picture = decode_image(path)
            except UserError as error:
                echo(str(error))
                unreadable.append(path.name)
                continue
            found = _detect(model, picture, number, device)
            name = path.relative_to(root)
            _draw(out / name.with_suffix(".png"), picture, found, model.classes, threshold)
            height, width = picture.shape[-2:]
            entries.append({"id": number, "file_name": name.as_posix(), "width": width, "height": height})
            results += as_coco_results([found], [number], model.category_ids)
            shown = int((found.scores >= threshold).sum())
            echo(f"{name}: {shown} objects at {threshold:g} or above, {len(found.scores)} in all")
    categories = [
        {"id": category, "name": name} for category, name in zip(model.category_ids, model.classes, strict=True)
    ]
    content = {"images": entries, "annotations": results, "categories": categories}
    write_json(out / "detections.json", content, indent=None)
    echo(f"{len(entries)} pictures and detections.json are in {out}")
    if unreadable:
        raise UserError(
            f"{images}: {len(unreadable)} of {len(paths)} images could not be read: {', '.join(unreadable[:5])}."
        )


def _image_paths(images: Path) -> list[Path]:
    if images.is_dir():
        paths = list_images(images)
        if not paths:
            raise UserError(f"{images}: holds no images; give an image or a folder with JPEG or PNG files.")
        return paths
    if not images.exists():
        raise UserError(f"{images}: no such image or folder.")
    return [images]


def _detect(model: TrainedModel, picture: torch.Tensor, image_id: int, device: torch.device) -> Detections:
    sample = as_sample(picture, image_id, model.config.schedule.images)
    return detect_batch(model.detector, collate([sample]), device, model.config.method.inference)[0]


def as_sample(picture: torch.Tensor, image_id: int, config: ImagesConfig) -> Sample:
    """A network input from a decoded image (3,H,W), as evaluation makes it."""
    no_boxes, no_labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    resized, boxes, labels = transform(picture, no_boxes, no_labels, no_augmentation(config), config)
    height, width = picture.shape[-2:]
    return Sample(resized, (height, width), image_id, boxes, labels)


def _draw(target: Path, picture: torch.Tensor, found: Detections, classes: tuple[str, ...], threshold: float) -> None:
    kept = found.scores >= threshold
    drawn = draw_detections(
        picture, found.boxes[kept].tolist(), found.labels[kept].tolist(), found.scores[kept].tolist(), classes
    )
    with atomic_path(target) as path:
        drawn.save(path, format="PNG")
