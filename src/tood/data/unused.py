"""Files beside the data that are not used: pictures in no split, labels without a picture, and what is not read."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from tood.config.datasets import DatasetConfig, YoloDataset
from tood.data.findings import Findings, plural
from tood.data.formats.folders import walk_files
from tood.data.formats.headers import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from tood.data.formats.records import RawDataset
from tood.data.formats.yolo import label_path
from tood.io.errors import UserError, listed

_NAMED = 3
_MOST = 2_000_000  # files that are looked at beside the data
_PHONE = frozenset({".heic", ".heif", ".hif", ".avif"})


def name_unused(
    dataset: RawDataset, read: Collection[Path], config: DatasetConfig, root: Path, findings: Findings
) -> None:
    """Note what lies below ``root`` and is neither a picture of the data set nor among the files that were ``read``.

    A picture that has labels, or comes from a phone, and is of a kind that is not read here is an error: it would be
    missing from the data.
    """
    used = {_key(split.path(image)) for split in dataset.splits for image in split.images} | {
        _key(path) for path in read
    }
    rest: list[Path] = []
    try:
        for count, path in enumerate(walk_files(root)):
            if count == _MOST:
                findings.note(root, f"holds more than {_MOST:,} files; unused ones are named among those alone")
                break
            if _key(path) not in used:
                rest.append(path)
    except (UserError, OSError) as error:
        findings.note(root, f"cannot be looked through for unused files ({error})")
    labels = {path.relative_to(root).with_suffix("").as_posix() for path in rest if path.suffix.lower() == ".txt"}
    documents = {path.stem for path in rest if path.suffix.lower() == ".xml"}
    pictures = [path for path in rest if path.suffix.lower() in IMAGE_SUFFIXES]
    unread = [path for path in rest if path.suffix.lower() in OTHER_IMAGE_SUFFIXES]
    lost = [path for path in unread if path.suffix.lower() in _PHONE or _is_labelled(path, root, labels, documents)]
    for path in lost:
        findings.error(
            path,
            f"is of a kind ({path.suffix.lower()}) that is not read here; convert it to PNG or JPEG, or leave it out",
        )
    _note_each_folder(pictures, root, "in no split and not used", findings)
    _note_each_folder([path for path in unread if path not in set(lost)], root, "of a kind that is not read", findings)
    if isinstance(config, YoloDataset):
        stems = {Path(label_path(_below(path, root))).with_suffix("").as_posix() for path in pictures + unread}
        orphans = [
            path
            for path in rest
            if path.suffix.lower() == ".txt"
            and "labels" in path.relative_to(root).parts
            and path.relative_to(root).with_suffix("").as_posix() not in stems
        ]
        _note_each_folder(orphans, root, "without a picture that is used", findings, "label file")
        rest = [path for path in rest if path not in set(orphans)]
    xml = [path for path in rest if path.suffix.lower() == ".xml"]
    _note_each_folder(xml, root, "not used by any split", findings, "XML file")
    other = [path for path in rest if path.suffix.lower() not in IMAGE_SUFFIXES | OTHER_IMAGE_SUFFIXES | {".xml"}]
    if other:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in other)
        said = listed([f"{kind} {count:,}" for kind, count in kinds.most_common()])
        findings.note(root, f"{plural(len(other), 'other file')} not used: {said} ({_names(other, root)})")


def _is_labelled(path: Path, root: Path, labels: Collection[str], documents: Collection[str]) -> bool:
    return Path(label_path(_below(path, root))).with_suffix("").as_posix() in labels or path.stem in documents


def _note_each_folder(paths: Iterable[Path], root: Path, text: str, findings: Findings, noun: str = "picture") -> None:
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    for folder, here in sorted(folders.items()):
        findings.note(folder, f"{plural(len(here), noun)} {text} ({_names(here, folder)})")


def _names(paths: Iterable[Path], folder: Path) -> str:
    return listed(sorted(path.relative_to(folder).as_posix() for path in paths), _NAMED)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _key(path: Path) -> str:
    return str(path.absolute())
