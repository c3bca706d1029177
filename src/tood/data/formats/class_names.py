"""Class names: names that one writes in several ways, and the names that they are given instead (``rename``)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from tood.config.messages import nearest
from tood.data.findings import Findings
from tood.data.formats.records import Category, RawDataset
from tood.io.escape import escape
from tood.io.names import comparable, twin

_BETWEEN = re.compile(r"[\s_-]+")


def folded(name: str) -> str:
    """What names have in common that differ in case, spaces or Unicode form only."""
    return _BETWEEN.sub("", comparable(name))


def rename_classes(dataset: RawDataset, rename: Mapping[str, str]) -> RawDataset:
    """Give classes their other names; those that then share a name become one, with the smallest of their ids."""
    if not any(category.name in rename for category in dataset.categories) and not _repeats(dataset.categories):
        return dataset
    ids: dict[str, int] = {}
    of_id: dict[int, int] = {}
    for category in dataset.categories:
        name = rename.get(category.name, category.name)
        of_id[category.id] = ids.setdefault(name, category.id)
    categories = tuple(Category(number, name) for name, number in ids.items())
    splits = tuple(
        replace(split, boxes=[replace(box, category_id=of_id[box.category_id]) for box in split.boxes])
        for split in dataset.splits
    )
    return RawDataset(categories, splits)


def refuse_unknown(rename: Mapping[str, str], names: Collection[str], where: object, findings: Findings) -> None:
    """Add an error for each name in ``rename`` that no file has."""
    for name in rename:
        if name not in names:
            known = nearest(name, names).rstrip(".")
            findings.error(where, f"field 'rename' has '{name}', which is the name of no class here{known}")


def _repeats(categories: tuple[Category, ...]) -> bool:
    return len({category.name for category in categories}) < len(categories)


def refuse_similar(classes: list[str], rename: Mapping[str, str], where: object, findings: Findings) -> None:
    """Add an error for each pair of classes whose names differ in case, spaces or Unicode form only.

    Names that ``rename`` gives for themselves are as they are meant.
    """
    settled = {name for name, meant in rename.items() if name == meant}
    first: dict[str, str] = {}
    for name in classes:
        if name in settled:
            continue
        other = first.setdefault(folded(name), name)
        if other != name:
            like = twin(name, [other])
            why = f" (of the second: {like.reason})" if like is not None else ""
            findings.error(
                where,
                f"the classes '{other}' and '{name}'{why} differ in case, spaces or Unicode form only; "
                f"if they are one, set 'rename: {{{_quoted(name)}: {_quoted(other)}}}', else name both in 'rename' as "
                "they are",
            )


def _quoted(name: str) -> str:
    return f'"{escape(name)}"'
