"""Pictures that cannot be decoded: refused together, or left out with their annotations (``unreadable: drop``)."""

from dataclasses import replace
from pathlib import Path

from tood.data.findings import Findings, plural
from tood.data.formats.reading import OnDisk, look_for_objects
from tood.data.formats.records import RawDataset
from tood.data.pictures import pictures_of


def settle_unreadable(dataset: RawDataset, config: OnDisk, root: Path, findings: Findings) -> RawDataset:
    """Leave out the pictures that were found unreadable, or note how many there are and the remedy.

    Splits are drawn before, so that every other picture stays where it is. One of which nothing is left is an error.
    """
    unreadable = findings.unreadable_pictures
    if not unreadable:
        return dataset
    where = f"data set '{config.name}'"
    if not findings.drops_unreadable:
        if advice := findings.unreadable_advice():
            findings.note(where, advice)
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
