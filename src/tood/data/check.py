"""Check of a data set (``tood data check``): its problems as sentences, and a summary of its content."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tood.config.datasets import (
    CocoDataset,
    CocoSplit,
    DatasetConfig,
    ImagesDataset,
    ShapesDataset,
)
from tood.data.duplicates import duplicate_rule, settle_duplicates
from tood.data.findings import Finding, Findings, findings_of, plural, printable
from tood.data.formats.reading import OnDisk, read_dataset
from tood.data.formats.records import ImageRecord, RawDataset, RawSplit
from tood.data.pictures import examine_pictures, note_changes, pictures_of
from tood.data.prepare import locate, preparation_lock, prepare_dataset
from tood.data.prepared import open_prepared
from tood.data.target_counts import use_of_empty
from tood.data.unreadable import settle_unreadable
from tood.data.unused import name_unused
from tood.io.consulted import consulted
from tood.io.digests import file_digest

_SMALL, _LARGE = 32.0**2, 96.0**2  # COCO's limits of object area in px
_NAMED = 5  # absent classes that are named


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds; sizes are (width, height) px, ``scales`` counts small, medium and large objects."""

    name: str
    images: int
    boxes: int
    crowds: int
    without_objects: int
    smallest: tuple[int, int]
    typical: tuple[int, int]
    largest: tuple[int, int]
    per_class: tuple[int, ...]
    scales: tuple[int, int, int]


@dataclass(frozen=True)
class CheckReport:
    """Findings and a summary; ``ok`` unless there is an error to correct before the data set can be used."""

    name: str
    format: str
    dataset: RawDataset
    findings: tuple[Finding, ...]
    splits: tuple[SplitSummary, ...]
    sentences: tuple[tuple[str, str], ...]  # (severity, sentence), of each kind the first few

    @property
    def ok(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)

    def lines(self) -> list[str]:
        """The report as text for a terminal."""
        classes = self.dataset.classes
        counts = f"{plural(len(classes), 'class')}, {plural(len(self.splits), 'split')}"
        lines = [
            f"{self.name} ({self.format}): {counts}",
            "",
            *_split_table(self.splits),
            "",
            *_class_table(classes, self.splits),
            "",
        ]
        lines += [f"{severity:<5}  {sentence}" for severity, sentence in self.sentences]
        errors = sum(finding.severity == "error" for finding in self.findings)
        notes = len(self.findings) - errors
        if errors:
            lines.append(f"{plural(errors, 'error')} to put right, {plural(notes, 'note')}.")
        else:
            lines.append(f"Nothing to put right; {plural(notes, 'note')}." if notes else "Nothing to put right.")
        return lines


def check_dataset(config: DatasetConfig, folder: Path, *, mirror: Path | None, params_root: Path) -> CheckReport:
    """Check a data set: read it in its own format, decode every image, compare the splits.

    ``folder`` is its prepared folder (``data/<name>``), which for the user's own files need not exist; data
    with an upstream is obtained there first, as ``prepare_dataset`` does. Nothing else is written. Problems
    of the data set become findings; UserError is raised only where there is nothing to look at.
    """
    findings = findings_of(config)
    if isinstance(config, ShapesDataset):
        prepare_dataset(config, folder, mirror=mirror, params_root=params_root)
        prepared = open_prepared(folder)
        splits = {
            name: CocoSplit(
                images=split.images.relative_to(folder).as_posix(),
                annotations=split.annotations.relative_to(folder).as_posix(),
            )
            for name, split in prepared.splits.items()
        }
        read: OnDisk = CocoDataset(name=config.name, format="coco", root=str(folder), splits=splits)
        root = folder
        dataset = read_dataset(read, root, findings)
    else:
        read = config
        with preparation_lock(folder) if config.root is None else nullcontext():
            root = locate(config, folder, mirror=mirror, params_root=params_root)
        with consulted() as asked:
            dataset = read_dataset(config, root, findings)
        name_unused(dataset, asked.files, config, root, findings)
    note_changes(dict(examine_pictures(list(pictures_of(dataset)), findings)), findings)
    dataset = settle_unreadable(dataset, read, root, findings)
    dataset = settle_duplicates(dataset, duplicate_rule(config), file_digest, config.name, findings)
    summaries = tuple(_summarise(split, dataset) for split in dataset.splits if split.images)
    for summary in () if isinstance(config, ImagesDataset) else summaries:
        _note_gaps(summary, dataset.classes, use_of_empty(config, summary.name), findings)
    sentences = [("error", text) for text in findings.sentences("error")]
    sentences += [("note", text) for text in findings.sentences("note")]
    return CheckReport(config.name, config.format, dataset, tuple(findings.all), summaries, tuple(sentences))


def _summarise(split: RawSplit, dataset: RawDataset) -> SplitSummary:
    counts = Counter(box.category_id for box in split.boxes)
    areas = [box.bbox[2] * box.bbox[3] for box in split.boxes]
    small, large = sum(area < _SMALL for area in areas), sum(area >= _LARGE for area in areas)
    with_objects = {box.image_id for box in split.boxes}
    by_area = sorted(split.images, key=lambda image: image.width * image.height)
    return SplitSummary(
        name=split.name,
        images=len(split.images),
        boxes=len(split.boxes),
        crowds=sum(box.crowd for box in split.boxes),
        without_objects=sum(image.id not in with_objects for image in split.images),
        smallest=(by_area[0].width, by_area[0].height),
        typical=_typical(split.images),
        largest=(by_area[-1].width, by_area[-1].height),
        per_class=tuple(counts[category.id] for category in dataset.categories),
        scales=(small, len(areas) - small - large, large),
    )


def _typical(images: Sequence[ImageRecord]) -> tuple[int, int]:
    return round(median(image.width for image in images)), round(median(image.height for image in images))


def _note_gaps(summary: SplitSummary, classes: list[str], use: str, findings: Findings) -> None:
    where = f"split '{summary.name}'"
    if summary.without_objects and classes:
        total = plural(summary.images, "image")
        findings.note(where, f"{summary.without_objects:,} of {total} without objects ({use})")
    absent = [name for name, count in zip(classes, summary.per_class, strict=True) if count == 0]
    if absent and summary.boxes:
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        findings.note(where, f"no object of the {_class_word(absent)} {', '.join(absent[:_NAMED])}{more}")


def _class_word(names: list[str]) -> str:
    return "class" if len(names) == 1 else "classes"


def _split_table(splits: Sequence[SplitSummary]) -> list[str]:
    head = (
        "split",
        "images",
        "without objects",
        "boxes",
        "crowds",
        "small",
        "medium",
        "large",
        "image sizes",
    )
    rows = [
        (
            split.name,
            f"{split.images:,}",
            f"{split.without_objects:,}",
            f"{split.boxes:,}",
            f"{split.crowds:,}",
            *(f"{count:,}" for count in split.scales),
            _sizes(split),
        )
        for split in splits
    ]
    return _table([head, *rows], left={0, len(head) - 1})


def _sizes(split: SplitSummary) -> str:
    if split.smallest == split.largest:
        return "x".join(map(str, split.smallest))
    smallest, typical, largest = ("x".join(map(str, size)) for size in (split.smallest, split.typical, split.largest))
    return f"{smallest} to {largest}, median {typical}"


def _class_table(classes: Sequence[str], splits: Sequence[SplitSummary]) -> list[str]:
    head = ("class", *(split.name for split in splits))
    rows = [
        (printable(name), *(f"{split.per_class[label]:,}" for split in splits)) for label, name in enumerate(classes)
    ]
    return _table([head, *rows], left={0})


def _table(rows: Sequence[Iterable[str]], left: set[int]) -> list[str]:
    cells = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(widths[column]) if column in left else cell.rjust(widths[column])
            for column, cell in enumerate(row)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines
