"""Reading a data set in its own format, and the checks that hold for every format."""

import re
from pathlib import Path

from tood.config.datasets import CocoDataset, ImagesDataset, VocDataset, YoloDataset, split_names
from tood.data.findings import Findings, plural
from tood.data.formats.class_names import refuse_similar, refuse_unknown, rename_classes
from tood.data.formats.coco import read_coco, read_images
from tood.data.formats.list_files import repeated
from tood.data.formats.records import RawDataset, RawSplit
from tood.data.formats.splits import draw_out
from tood.data.formats.voc import read_voc
from tood.data.formats.yolo import read_yolo
from tood.data.shared import refuse_shared
from tood.data.unscored import find_unscored
from tood.io.errors import UserError

OnDisk = CocoDataset | VocDataset | YoloDataset | ImagesDataset
_NEEDED = ("train", "val")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read_dataset(config: OnDisk, root: Path, findings: Findings) -> RawDataset:
    """Read a data set in its own format; what is wrong goes to ``findings``.

    Raises UserError if nothing of it can be read.
    """
    try:
        dataset = _read(config, root, findings)
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be read: {error.strerror or error}.") from error
    if not isinstance(config, ImagesDataset) and config.splits is not None and config.draw is not None:
        dataset = draw_out(dataset, config.draw, findings, root)
    _look_over_splits(config, findings)
    if isinstance(config, YoloDataset):
        for name in repeated(dataset.classes):
            findings.error(root, f"class '{name}' is listed twice; give every class one name")
        refuse_unknown(config.rename, set(dataset.classes), root, findings)
    dataset = rename_classes(dataset, config.rename if isinstance(config, YoloDataset) else {})
    refuse_similar(dataset.classes, config.rename, root, findings)
    _find_repeated_boxes(dataset, findings)
    refuse_shared(dataset, config.accept, config.name, findings)
    look_for_objects(dataset, config, root, findings)
    return dataset


def look_for_objects(dataset: RawDataset, config: OnDisk, root: Path, findings: Findings) -> None:
    """Refuse a ``train`` without anything to learn and splits that cannot be scored, unless there are errors already.

    What is missing after an error may be due to it.
    """
    if dataset.classes and not findings.errors and not isinstance(config, ImagesDataset):
        for split in dataset.splits:
            _look_for_objects_of(split, root, findings)


def _find_repeated_boxes(dataset: RawDataset, findings: Findings) -> None:
    for split in dataset.splits:
        images = {image.id: image for image in split.images}
        keys = [(box.image_id, box.category_id, box.bbox) for box in split.boxes]
        for image_id, _, _ in repeated(keys):
            findings.box(images[image_id].file_name, "given twice (same class and place)")
            findings.share("repeated_boxes", split.path(images[image_id]))


def _look_for_objects_of(split: RawSplit, root: Path, findings: Findings) -> None:
    if split.name != "train":
        find_unscored(split, root, findings)
    elif split.images and not split.boxes:
        findings.error(
            root, "split 'train' has no objects at all; see that its annotations are where they are looked for"
        )
    elif split.images and not split.has_targets():
        findings.error(
            root,
            f"split 'train' has nothing to train on: its {plural(len(split.boxes), 'box')} are crowd regions, ignored, "
            "or narrower than a pixel; correct the flags, or give boxes in pixels",
        )


def _read(config: OnDisk, root: Path, findings: Findings) -> RawDataset:
    if isinstance(config, CocoDataset):
        return read_coco(config, root, findings)
    if isinstance(config, VocDataset):
        return read_voc(config, root, findings)
    if isinstance(config, ImagesDataset):
        return read_images(config, root, findings)
    return read_yolo(config, root, findings)


def _look_over_splits(config: OnDisk, findings: Findings) -> None:
    """Report split names that cannot be file names, and a missing train or val split."""
    where = f"data set '{config.name}'"
    names = split_names(config)
    for name in names:
        if not _SPLIT_NAME.fullmatch(name):
            findings.error(where, f"split '{name}' must be named with letters, digits, '.', '_' or '-'")
    for name in () if isinstance(config, ImagesDataset) else _NEEDED:
        if name not in names:
            advice = f"add '{name}' to 'splits'" if config.splits is not None else "raise 'draw.val' above 0"
            if config.splits is not None and "train" in config.splits:
                advice += f", or draw it: 'draw: {{{name}: 0.2, out_of: train}}'"
            findings.error(where, f"has no split '{name}', which training and evaluation need; {advice}")


def own_places(config: OnDisk) -> list[str]:
    """The files and folders below the root that the configuration names."""
    if isinstance(config, ImagesDataset):
        return [place for split in config.splits.values() for place in (split.images, split.listing)]
    named = [config.images, config.labels if isinstance(config, YoloDataset) else config.annotations]
    for split in (config.splits or {}).values():
        if isinstance(split, str | list):
            named += [split] if isinstance(split, str) else split
        else:
            named += [split.images, split.annotations]
    return [place for place in named if place is not None]
