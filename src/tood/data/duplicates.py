"""One picture is one image: files under two annotations, in two splits, or copied, and what becomes of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tood.config.datasets import DatasetConfig, DuplicateRule, ImagesDataset, ShapesDataset
from tood.data.findings import Findings
from tood.data.formats.records import ImageRecord, RawDataset, RawSplit


@dataclass(frozen=True)
class _Use:
    """An image of a split."""

    split: RawSplit
    image: ImageRecord
    path: Path


def duplicate_rule(config: DatasetConfig) -> DuplicateRule:
    """What the configuration says; else one's own data are refused, and others kept as they were published."""
    if isinstance(config, ShapesDataset | ImagesDataset):
        return "keep"
    return config.duplicates or ("keep" if config.root is None else "refuse")


def settle_duplicates(
    dataset: RawDataset, rule: DuplicateRule, digest: Callable[[Path], str], name: str, findings: Findings
) -> RawDataset:
    """Refuse pictures that are used twice, keep the first use (in the order of the splits), or keep all, by ``rule``.

    Copies under two names within one split are noted even where the rule is to refuse. ``digest`` gives the digest of
    a file's content; it is asked for files of equal size only.
    """
    dropped: dict[str, set[int]] = {}
    for first, others in _groups(dataset, digest):
        for other in others:
            text, refused = _said(first, other)
            if rule == "refuse" and refused:
                findings.error(other.path, f"{text}; keep one, or set 'duplicates: first' of data set '{name}'")
            elif rule == "first":
                findings.note(other.path, f"{text}; left out here")
                dropped.setdefault(other.split.name, set()).add(other.image.id)
            else:
                findings.note(other.path, text)
    if not dropped:
        return dataset
    splits = tuple(split.without(dropped.get(split.name, ())) for split in dataset.splits)
    for before, after in zip(dataset.splits, splits, strict=True):
        if before.images and not after.images:
            findings.error(f"split '{after.name}'", "has no picture that is not in another split too; add some")
    return replace(dataset, splits=splits)


def _groups(dataset: RawDataset, digest: Callable[[Path], str]) -> list[tuple[_Use, list[_Use]]]:
    """Uses of the same picture: the first, and the others."""
    by_size: dict[int, list[_Use]] = {}
    for split in dataset.splits:
        for image in split.images:
            path = split.path(image)
            try:
                by_size.setdefault(os.stat(path).st_size, []).append(_Use(split, image, path))
            except OSError:  # reported where it is decoded
                continue
    groups = []
    for uses in by_size.values():
        by_content: dict[str, list[_Use]] = {}
        same_file = len({use.path for use in uses}) == 1
        for use in uses if len(uses) > 1 else ():
            by_content.setdefault("" if same_file else digest(use.path), []).append(use)
        groups += [(same[0], same[1:]) for same in by_content.values() if len(same) > 1]
    return groups


def _said(first: _Use, other: _Use) -> tuple[str, bool]:
    """The finding of the second use of a picture, and whether it is one that is refused by default."""
    splits = f"{first.split.name} and {other.split.name}"
    across = first.split.name != other.split.name
    if first.path != other.path:
        return f"is the same picture as {first.path} ({splits})", across
    if across:
        return f"is in more than one split ({first.split.name}, {other.split.name})", True
    return f"has two annotations ({first.image.source} and {other.image.source})", True
