"""Train, val and test splits drawn by seed."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tood.config.datasets import Draw
from tood.data.findings import Findings, plural
from tood.data.formats.near_duplicates import group_sizes, near_duplicates
from tood.data.formats.records import RawDataset, RawSplit


def draw_splits(pictures: Mapping[str, Path], draw: Draw, findings: Findings, where: object) -> dict[str, list[str]]:
    """Divide images, given with their files, into train, val and test by the rank of a hash of (seed, key).

    The same keys and seed give the same splits in whatever order the files were found and on any machine, and
    adding images moves few of the others. Every split asked for gets at least one image; too few images for
    that is an error. With ``draw.together`` whole groups are drawn, ranked by their first key; then a split may be
    smaller than asked for, where no group fits in. Keys come back sorted.
    """
    shares = {"val": draw.val, "test": draw.test}
    counts = {name: max(1, round(shares[name] * len(pictures))) for name in draw.names}
    left = draw.out_of or "train"
    into = ", ".join([left, *counts])
    if sum(counts.values()) >= len(pictures):
        findings.error(where, f"{plural(len(pictures), 'image')} cannot be divided into {into}; add images")
        return {}
    groups = near_duplicates(pictures) if draw.together else [[key] for key in pictures]
    several, members = group_sizes(groups)
    drawn, rest = _draw(sorted(groups, key=lambda group: (_rank(draw.seed, group[0]), group[0])), counts)
    if not rest or not all(drawn.values()):
        findings.error(
            where,
            f"{plural(len(pictures), 'image')} cannot be divided into {into}, since near-duplicate pictures stay "
            f"together and make {plural(len(groups), 'group')}, the largest of {max(map(len, groups)):,}; add other "
            "pictures, give 'splits', or leave out 'draw.together', after which val is easier than new pictures are",
        )
        return {}
    if several:
        findings.note(
            where,
            f"{plural(several, 'group')} of near-duplicate pictures ({members:,} of {len(pictures):,} pictures), each "
            "kept within one split",
        )
    return {left: sorted(rest), **{name: sorted(keys) for name, keys in drawn.items()}}


def _draw(ranked: Sequence[Sequence[str]], counts: Mapping[str, int]) -> tuple[dict[str, list[str]], list[str]]:
    """Groups of each split, up to its count, and what is left; a split for which no group is small enough gets the
    smallest."""
    remaining = list(ranked)
    drawn: dict[str, list[str]] = {}
    for name, count in counts.items():
        chosen: list[str] = []
        kept: list[Sequence[str]] = []
        for group in remaining:
            fits = len(chosen) + len(group) <= count
            chosen += group if fits else ()
            kept += () if fits else (group,)
        if not chosen and kept:
            smallest = min(kept, key=len)
            chosen += smallest
            kept.remove(smallest)
        drawn[name], remaining = chosen, kept
    return drawn, [key for group in remaining for key in group]


def draw_out(dataset: RawDataset, draw: Draw, findings: Findings, where: object) -> RawDataset:
    """The data set with splits drawn out of the one that ``draw.out_of`` names, which comes to hold the others."""
    splits: list[RawSplit] = []
    drawn: list[RawSplit] = []
    for split in dataset.splits:
        if split.name != draw.out_of or not split.images:
            splits.append(split)
            continue
        files = {image.file_name: split.path(image) for image in split.images}
        files |= {  # drawn, so that all others stay where they are
            path.relative_to(split.folder).as_posix(): path
            for path in findings.unreadable_pictures
            if path.is_relative_to(split.folder)
        }
        for name, keys in draw_splits(files, draw, findings, f"{where}, split '{split.name}'").items():
            (splits if name == split.name else drawn).append(part_of(split, name, set(keys)))
    return replace(dataset, splits=(*splits, *drawn))


def part_of(split: RawSplit, name: str, file_names: Collection[str]) -> RawSplit:
    """A split ``name`` of some of the images of another, by their file names."""
    images = [image for image in split.images if image.file_name in file_names]
    ids = {image.id for image in images}
    return RawSplit(name, split.folder, images, [box for box in split.boxes if box.image_id in ids])


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogateescape")).digest()
