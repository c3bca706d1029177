"""Splits of a Pascal VOC data set: lists of stems, or folders of their own for each split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tood.config.datasets import VocDataset, VocFolders
from tood.data.findings import Findings
from tood.data.formats.folder_files import FolderNames, composed, list_files, list_images, tails
from tood.data.formats.headers import IMAGE_SUFFIXES
from tood.data.formats.list_files import Line, read_lines, repeated
from tood.data.formats.splits import draw_splits

_FLAGS = ("-1", "0", "1", "+1")  # in the class lists of the original VOC: "000012 -1"


@dataclass(frozen=True)
class VocPlace:
    """A folder of images and the one of their XML files, with what is in them by stem: the path without suffix."""

    images: Path
    annotations: Path
    files: Mapping[str, Path]
    """Images by the composed form of their stems."""
    documents: Mapping[str, Path]
    prefix: str = ""
    """Precedes stems in messages, where several places may have the same."""

    def named(self, stem: str) -> str:
        return f"{self.prefix}{stem}"

    def image(self, stem: str) -> Path | None:
        return self.files.get(composed(stem))


@dataclass(frozen=True)
class VocSplitMembers:
    """A split: stems of a place, sorted."""

    name: str
    place: VocPlace
    stems: Sequence[str]


def split_members(config: VocDataset, root: Path, findings: Findings) -> list[VocSplitMembers]:
    """The splits of ``config``, with an error for each folder or list that is missing, empty or names what is not."""
    places: dict[tuple[str, str], VocPlace | None] = {}

    def place_of(images: str, annotations: str, field: str, prefix: str) -> VocPlace | None:
        if (images, annotations) not in places:
            places[images, annotations] = _place(root, images, annotations, field, prefix, config, findings)
        return places[images, annotations]

    if config.splits is None:
        assert config.draw is not None
        pool = place_of(config.images, config.annotations, "", "")
        if pool is None:
            return []
        pictures = {stem: pool.image(stem) or path for stem, path in pool.documents.items()}
        drawn = draw_splits(pictures, config.draw, findings, pool.annotations)
        return [VocSplitMembers(name, pool, stems) for name, stems in drawn.items()]
    members = []
    for name, split in config.splits.items():
        if isinstance(split, VocFolders):
            own = place_of(split.images, split.annotations, f"splits.{name}.", f"{split.annotations}/")
            if own is not None and not own.documents:
                findings.error(own.annotations, f"split '{name}' has no XML files")
            if own is not None:
                members.append(VocSplitMembers(name, own, sorted(own.documents)))
            continue
        common = place_of(config.images, config.annotations, "", "")
        stems = None if common is None else _listed(name, root / split, common, config, findings)
        if common is not None and stems is not None:
            members.append(VocSplitMembers(name, common, stems))
    return members


def _place(
    root: Path, images: str, annotations: str, field: str, prefix: str, config: VocDataset, findings: Findings
) -> VocPlace | None:
    """None (and an error) where a folder is missing."""
    missing = False
    for part, folder in (("images", root / images), ("annotations", root / annotations)):
        if not folder.is_dir():
            findings.error(folder, f"no such folder; set '{field}{part}' of data set '{config.name}'")
            missing = True
    if missing:
        return None
    files: dict[str, Path] = {}
    for path in list_images(root / images):
        stem = composed(_stem_of(path, root / images))
        if stem in files:
            findings.error(path, f"has the same stem as {files[stem].name}; keep one of them")
        files[stem] = path
    documents = {_stem_of(path, root / annotations): path for path in list_files(root / annotations, {".xml"})}
    return VocPlace(root / images, root / annotations, files, documents, prefix)


def _stem_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _listed(name: str, path: Path, place: VocPlace, config: VocDataset, findings: Findings) -> list[str] | None:
    """The stems of a list file, sorted; None (and an error) if it cannot be read."""
    documents = place.documents
    by_form = {composed(stem): stem for stem in documents}
    by_name: dict[str, list[str]] = {}
    for form, stem in by_form.items():
        by_name.setdefault(PurePosixPath(form).name, []).append(stem)
    lines = read_lines(path, findings, f"set 'splits.{name}' of data set '{config.name}'")
    if lines is None:
        return None
    named = [(line, _stem(line.text, by_form, by_name)) for line in lines]
    stems = [stem for _, stem in named if stem in documents]
    used = set(stems)
    for line, stem in named:
        if stem not in used:
            _report_missing(path, line, place.annotations / f"{stem}.xml", used, findings)
    for stem in repeated(stems):
        findings.note(path, f"lists '{stem}' more than once; used once")
    if not lines:
        findings.error(path, f"split '{name}' has no images")
    return sorted(used)


def _report_missing(path: Path, line: Line, wanted: Path, listed: Collection[str], findings: Findings) -> None:
    near = FolderNames().nearest(wanted) if len(findings.errors) < 50 else None
    hint = f"; did you mean '{Path(near).stem}'?" if near and Path(near).stem not in listed else ""
    findings.error(f"{path} line {line.number}", f"lists '{line.text}', but there is no {wanted}{hint}")


def _stem(line: str, documents: Mapping[str, str], by_name: Mapping[str, Sequence[str]]) -> str:
    """The stem a line names: itself, or without a class file's flag, a suffix or folders above.

    ``documents`` has the stems by their composed form, ``by_name`` those of each name in any folder: one without folder
    is enough where it is the only one.
    """
    if composed(line) in documents:
        return documents[composed(line)]
    *name, flag = line.rsplit(maxsplit=1)
    for text in (line, *name) if flag in _FLAGS else (line,):
        path = PurePosixPath(composed(text.replace("\\", "/")))
        if path.suffix.lower() in IMAGE_SUFFIXES | {".xml"}:
            path = path.with_suffix("")
        stem = next((documents[tail] for tail in tails(path) if tail in documents), None)
        alone = by_name.get(path.name, ()) if len(path.parts) == 1 else ()
        if stem is not None or len(alone) == 1:
            return stem or alone[0]
    return path.name
