"""Files beside the data that are not used: pictures in no split, labels without a picture, and what is not read."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from tood.config.datasets import DatasetConfig, YoloDataset
from tood.data.findings import Findings, plural, printable
from tood.data.formats.folder_files import walk_files
from tood.data.formats.headers import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, unreadable
from tood.data.formats.records import RawDataset
from tood.data.formats.yolo import label_path
from tood.io.errors import UserError, listed

_NAMED = 3
_MOST = 2_000_000  # files that are looked at beside the data
_APPLE_DOUBLE = "._"  # what a Mac puts beside every file on foreign disks
_PHONE = frozenset({".heic", ".heif", ".hif", ".avif"})


def name_unused(
    dataset: RawDataset, read: Collection[Path], config: DatasetConfig, root: Path, findings: Findings
) -> None:
    """Note what lies below ``root`` and is neither a picture of the data set nor among the files that were ``read``.

    A picture that has labels, or comes from a phone, and is of a kind that is not read here is an error: it would be
    missing from the data.
    """
    pictures: list[Path] = []
    unread: list[Path] = []
    texts: list[Path] = []
    documents: list[Path] = []
    others: list[Path] = []
    hidden: list[Path] = []
    for path in _unused(dataset, read, root, findings):
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            if suffix in IMAGE_SUFFIXES | OTHER_IMAGE_SUFFIXES and not path.name.startswith(_APPLE_DOUBLE):
                hidden.append(path)
        elif suffix in IMAGE_SUFFIXES:
            pictures.append(path)
        elif suffix in OTHER_IMAGE_SUFFIXES:
            unread.append(path)
        elif suffix == ".txt" and isinstance(config, YoloDataset):
            texts.append(path)
        else:
            (documents if suffix == ".xml" else others).append(path)
    stems = {_stem(path, root) for path in texts}
    annotated = {path.stem for path in documents}
    lost = [
        path
        for path in unread
        if path.suffix.lower() in _PHONE or _label_stem(path, config, root) in stems or path.stem in annotated
    ]
    for path in lost:
        findings.error(path, f"{unreadable(path)}, or leave it out")
    used_or_lost = [*pictures, *unread, *findings.unreadable_pictures]
    of_pictures = {_label_stem(picture, config, root) for picture in used_or_lost}
    alone = [
        path for path in texts if "labels" in path.relative_to(root).parts and _stem(path, root) not in of_pictures
    ]
    _note_each_folder(pictures, "in no split and not used", findings)
    _note_each_folder(hidden, "hidden, since a name begins with a dot, and not used", findings)
    _note_each_folder([path for path in unread if path not in lost], "of a kind that is not read", findings)
    _note_each_folder(alone, "without a picture that is used", findings, "label file")
    _note_each_folder(documents, "not used by any split", findings, "XML file")
    others += [path for path in texts if path not in set(alone)]
    if others:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
        said = listed([f"{kind} {count:,}" for kind, count in kinds.most_common()])
        findings.note(root, f"{plural(len(others), 'other file')} not used: {said} ({_names(others, root)})")


def _unused(dataset: RawDataset, read: Collection[Path], root: Path, findings: Findings) -> list[Path]:
    used = {split.path(image).absolute() for split in dataset.splits for image in split.images}
    used |= {path.absolute() for path in read} | {path.absolute() for path in findings.unreadable_pictures}
    refused = {finding.where for finding in findings.errors}
    rest = []
    try:
        for count, path in enumerate(walk_files(root, hidden=True)):
            if count == _MOST:
                findings.note(root, f"holds more than {_MOST:,} files; unused ones are named among those alone")
                break
            if path.absolute() not in used and printable(path) not in refused:
                rest.append(path)
    except (UserError, OSError) as error:
        findings.note(root, f"cannot be looked through for unused files ({error})")
    return rest


def _stem(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _label_stem(picture: Path, config: DatasetConfig, root: Path) -> str:
    folders = (config.images, config.labels) if isinstance(config, YoloDataset) else (None, None)
    return Path(label_path(picture.relative_to(root).as_posix(), *folders)).with_suffix("").as_posix()


def _note_each_folder(paths: Iterable[Path], text: str, findings: Findings, noun: str = "picture") -> None:
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    for folder, here in sorted(folders.items()):
        findings.note(folder, f"{plural(len(here), noun)} {text} ({_names(here, folder)})")


def _names(paths: Iterable[Path], folder: Path) -> str:
    return listed(sorted(path.relative_to(folder).as_posix() for path in paths), _NAMED)
