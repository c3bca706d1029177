"""Recognition of YOLO: a text file of rows for each picture, described by ``data.yaml``, Darknet's files or nothing."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tood.data.findings import plural
from tood.data.formats.yolo import label_path
from tood.data.formats.yolo_rows import YoloRow, meaning_by_description, meaning_of_rows, parse_row
from tood.data.recognise.place import Place, join, one_pair, spread, stem_of
from tood.data.recognise.recognised import Choices, Field, NotHereError, Recognised
from tood.data.recognise.split_choice import Splits, decide_splits, split_of_path
from tood.data.recognise.yolo_described import Described, described_by_darknet, described_by_yaml
from tood.io.errors import UserError, listed
from tood.io.text import lines_of, read_text

_SAMPLE = 300  # label files that are read
_MOST = 5

Pair = tuple[str, str]
"""A folder of pictures and the one of their label files."""


def recognise_yolo(place: Place, choices: Choices) -> Recognised | None:
    """The YOLO data set at ``place``, None if there is none. Raises UserError where an option has to decide."""
    described = described_by_yaml(place) or described_by_darknet(place)
    said: list[str] = list(described.said) if described else []
    pairs = _used(_chosen(_labelled(place), place, choices), described, said)
    if not pairs:
        if described is not None and described.is_certain:
            raise NotHereError(
                f"{place.root / described.source}: describes a YOLO data set, but no picture with a label file of its "
                f"name is below {place.root} ({place.content()}); export with the pictures, or give the folder of both."
            )
        return None
    rows = _rows(place, pairs)
    if not rows:
        return None
    fields = _split_fields(place, pairs, described, choices, said)
    fields += _class_fields(place, rows, described, choices)
    fields += _row_fields(place, rows, described, choices)
    source = f"described by {described.source}" if described else "without a file that describes it"
    labels = sum(len(_texts(place)[folder]) for folder in {folder for _, folder in pairs})
    what = f"YOLO, {source}: {plural(labels, 'text file')} of labels"
    return Recognised("yolo", what, place.root, tuple(fields), tuple(said))


def _label_stems(place: Place) -> dict[str, set[str]]:
    return {folder: {stem_of(name) for name in names} for folder, names in _texts(place).items()}


def _texts(place: Place) -> dict[str, list[str]]:
    return place.names([".txt"])


def _labelled(place: Place) -> list[Pair]:
    """Folders of pictures with the folder that has label files of their names."""
    texts = _label_stems(place)
    pairs = []
    for folder, stems in place.image_stems.items():
        usual = _usual(folder)
        near = {one: texts[one] for one in (usual, folder) if one in texts}
        best = place.best_match(stems, near) or place.best_match(stems, texts)
        if best:
            pairs.append((folder, usual if usual in best else folder if folder in best else best[0]))
    return pairs


def _used(pairs: Sequence[Pair], described: Described | None, said: list[str]) -> list[Pair]:
    """The pairs that the description's splits name, if they name folders; of pictures with the same label files one."""
    named = [place for places in described.splits.values() for place in places] if described else []
    inside = [
        pair for pair in pairs if any(place in (".", pair[0]) or pair[0].startswith(f"{place}/") for place in named)
    ]
    used = []
    for images, labels in inside or pairs:
        owners = [one for one, theirs in inside or pairs if theirs == labels]
        if len(owners) > 1 and _usual(images) != labels and any(_usual(one) == labels for one in owners):
            said.append(f"pictures in {images} are not used: the label files of their names belong to other pictures")
        else:
            used.append((images, labels))
    return used


def _usual(folder: str) -> str:
    """The folder in which YOLO looks for the label files of the pictures in ``folder``."""
    return str(PurePosixPath(label_path(join(folder, "a.jpg"))).parent)


def _rows(place: Place, pairs: Sequence[Pair]) -> dict[str, list[YoloRow]]:
    """Rows by the label file in which they stand, of a sample; none where the text files hold something else."""
    files = []
    texts = _texts(place)
    for images, labels in pairs:
        stems = place.image_stems[images]
        files += [join(labels, name) for name in texts[labels] if stem_of(name) in stems]
    rows: dict[str, list[YoloRow]] = {}
    others = 0
    for file in spread(files, _SAMPLE):
        try:
            lines = [line for line in lines_of(read_text(place.root / file)) if line.strip()]
            rows[file] = [parse_row(line) for line in lines]
        except (UserError, ValueError):  # reported where the data set is checked
            others += 1
    return rows if len(rows) > others else {}


def _split_fields(
    place: Place, pairs: Sequence[Pair], described: Described | None, choices: Choices, said: list[str]
) -> list[Field]:
    unusual = [pair for pair in pairs if pair[1] != _usual(pair[0])]
    own_folders: list[Field] = []
    if unusual:
        top = one_pair(pairs) if len(unusual) == len(pairs) else None
        if top is None:
            others = listed([labels for _, labels in unusual], _MOST)
            raise UserError(
                f"{place.shown}: label files lie in other folders ({others}) than YOLO looks in, and not parallel to "
                "the pictures; call the folders 'images' and 'labels', or say which pictures count by --images."
            )
        own_folders = [Field("images", top[0], "the pictures"), Field("labels", top[1], "and their label files")]
    if described is not None and described.splits:
        decided: Splits[Any] = decide_splits(_without_copies(described.splits, said), place, choices, as_pool=False)
        fields = decided.fields(
            {name: _one(places) for name, places in decided.given.items()}, f"as {described.source} has them"
        )
    else:
        by_split: dict[str | None, list[str]] = {}
        for images, _ in pairs:
            by_split.setdefault(split_of_path(images), []).append(images)
        decided = decide_splits(by_split, place, choices)
        places = {name: _one(folders) for name, folders in decided.given.items()}
        single = decided.pool is not None and isinstance(places["train"], str)
        if decided.pool is not None and not single:
            decided = decide_splits(by_split, place, choices, as_pool=False)
        fields = decided.fields(
            places, "the folders of pictures that have label files", pool={"images": places["train"]}
        )
    said += decided.said
    if own_folders and fields[0].name == "images":
        own_folders = own_folders[1:]
    return [*fields[:1], *own_folders, *fields[1:]]


def _chosen(pairs: Sequence[Pair], place: Place, choices: Choices) -> list[Pair]:
    if choices.images is None or not pairs:
        return list(pairs)
    chosen = [pair for pair in pairs if (place.root / pair[0]).is_relative_to(choices.images)]
    if not chosen:
        raise UserError(f"--images {choices.images}: has no pictures with label files below {place.root}.")
    return chosen


def _one(places: Sequence[str]) -> str | list[str]:
    return places[0] if len(places) == 1 else list(places)


def _without_copies(splits: Mapping[str | None, list[str]], said: list[str]) -> dict[str | None, list[str]]:
    """The splits without those that are train over again, as in descriptions that have no val of their own."""
    kept = dict(splits)
    for name in ("val", "test"):
        if name in kept and kept[name] == kept.get("train"):
            del kept[name]
            said.append(f"'{name}' is the same as 'train', so it is no split of its own")
    return kept


def _class_fields(
    place: Place, rows: Mapping[str, Sequence[YoloRow]], described: Described | None, choices: Choices
) -> list[Field]:
    if choices.classes:
        return [Field("classes", list(choices.classes), "as asked (--classes)")]
    if described is not None and described.classes:
        if described.source == "data.yaml":
            return []
        return [Field("classes", list(described.classes), f"read from {described.names_source}")]
    highest = max((row.label for one in rows.values() for row in one), default=0)
    raise UserError(
        f"{place.shown}: holds YOLO labels of at least {plural(highest + 1, 'class')}, and no file names them "
        "(data.yaml, classes.txt, obj.names); name them in the order of their numbers, as: --classes cat,dog."
    )


def _row_fields(
    place: Place, rows: Mapping[str, Sequence[YoloRow]], described: Described | None, choices: Choices
) -> list[Field]:
    if choices.rows is not None:
        return [Field("rows", choices.rows, "as asked (--rows)")]
    content = described.content if described else None
    try:
        said = meaning_by_description(content)
    except ValueError as error:
        raise UserError(f"{place.root / described.source if described else place.root}: {error}.") from error
    if said is not None:
        known = described is not None and described.source == "data.yaml"
        return (
            []
            if known
            else [Field("rows", said.kind, f"by 'kpt_shape' or 'task' of {described.source if described else ''}")]
        )
    try:
        meaning = meaning_of_rows([row for one in rows.values() for row in one])
    except ValueError as error:
        first = next(file for file, own in rows.items() if any(row.count > 5 for row in own))
        problem, _, kinds = str(error).partition("; say which by 'rows: ")
        names = kinds.partition("'")[0].replace(" | ", ", ")
        raise UserError(f"{place.root / first}: {problem}; say which by --rows ({names}).") from error
    del meaning  # the rows decide it, also where the data set is read
    return []
