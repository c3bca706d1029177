"""Pictures that cannot be decoded or are missing: refused together, or left out (``unreadable``, ``missing: drop``)."""

from dataclasses import replace
from pathlib import Path

from tood.data.findings import Findings, plural
from tood.data.formats.reading import OnDisk, look_for_objects
from tood.data.formats.records import RawDataset
from tood.data.pictures import pictures_of


def settle_unreadable(dataset: RawDataset, config: OnDisk, root: Path, findings: Findings) -> RawDataset:
    """Leave out the pictures that were found unreadable; note how many they and missing ones are, or the remedy.

    Splits are drawn before, so that every other picture stays where it is. One of which nothing is left is an error.
    """
    where = f"data set '{config.name}'"
    for advice in findings.advice():
        findings.note(where, advice)
    if findings.missing_pictures and findings.drops_missing:
        _note_missing(dataset, where, findings)
    unreadable = findings.unreadable_pictures
    if not unreadable or not findings.drops_unreadable:
        return dataset
    total = len(unreadable | pictures_of(dataset).keys())
    findings.note(
        where,
        f"{len(unreadable):,} of {plural(total, 'picture')} left out with the annotations, since they cannot be read "
        "('unreadable: drop')",
    )
    splits = tuple(
        split.without({image.id for image in split.images if split.path(image) in unreadable})
        for split in dataset.splits
    )
    for split in splits:
        if not split.images:
            findings.error(f"split '{split.name}'", "has no picture that can be read; restore some")
    dataset = replace(dataset, splits=splits)
    look_for_objects(dataset, config, root, findings)
    return dataset


def _note_missing(dataset: RawDataset, where: str, findings: Findings) -> None:
    """How many were left out already where the data set was read."""
    count = plural(findings.missing_pictures, "picture")
    findings.note(where, f"{count} left out with the annotations, since they are not there ('missing: drop')")
    for split in dataset.splits:
        if not split.images:
            findings.error(f"split '{split.name}'", "has no picture that is there; restore some")
