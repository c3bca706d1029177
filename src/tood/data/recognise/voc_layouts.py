"""Recognition of Pascal VOC: an XML file for each picture, beside it or in a folder of its own; lists of splits."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tood.data.formats.folder_files import composed
from tood.data.formats.headers import IMAGE_SUFFIXES
from tood.data.formats.xml_files import read_xml
from tood.data.recognise.place import Place, join, one_pair, spread, stem_of
from tood.data.recognise.recognised import Choices, Field, Recognised
from tood.data.recognise.split_choice import Splits, decide_splits, split_of, split_of_path
from tood.io.errors import UserError, listed
from tood.io.text import lines_of, read_text

_LOOKED_AT = 3  # XML files of a folder
_MOST = 5
_WHOLE = "default"  # the list of CVAT's task without subsets

Pair = tuple[str, str]
"""A folder of pictures and the one of their XML files."""


@dataclass(frozen=True)
class _Lists:
    """Lists of stems: their folder, and the file of each split."""

    folder: str
    files: Mapping[str | None, str]
    said: tuple[str, ...]


def recognise_voc(place: Place, choices: Choices) -> Recognised | None:
    """The Pascal VOC data set at ``place``, None if there is none. Raises UserError where an option has to decide."""
    stems = _annotations(place)
    if not stems:
        return None
    pairs = [(_images_of(folder, stems[folder], place, choices), folder) for folder in stems]
    lists = _lists(place, {stem for there in stems.values() for stem in there})
    if lists is not None:
        return _with_lists(pairs, lists, place, choices)
    by_split: dict[str | None, list[Pair]] = {}
    for pair in pairs:
        by_split.setdefault(split_of_path(pair[1]) or split_of_path(pair[0]), []).append(pair)
    decided = decide_splits({name: _parallel(own, name, place) for name, own in by_split.items()}, place, choices)
    splits = {name: {"images": images, "annotations": xml} for name, (images, xml) in decided.given.items()}
    beside = all(images == xml for images, xml in decided.given.values())
    what = "XML files beside their pictures, as LabelImg and Roboflow write them" if beside else "XML files of pictures"
    why = "each split has folders of its own" if decided.pool is None else "the XML files and their pictures are there"
    fields = decided.fields(splits, why, pool=splits["train"])
    return Recognised("voc", f"Pascal VOC: {what}", place.root, tuple(fields), decided.said)


def _with_lists(pairs: Sequence[Pair], lists: _Lists, place: Place, choices: Choices) -> Recognised:
    images, annotations = _parallel(pairs, None, place)
    decided: Splits[str] = decide_splits(lists.files, place, choices, as_pool=False)
    fields = (
        Field("images", images, "the pictures"),
        Field("annotations", annotations, "their XML files"),
        *decided.fields(decided.given, f"the lists in {_shown(lists.folder)}"),
    )
    return Recognised(
        "voc",
        f"Pascal VOC with lists of splits in {_shown(lists.folder)}",
        place.root,
        fields,
        (*lists.said, *decided.said),
    )


def _annotations(place: Place) -> dict[str, list[str]]:
    """Stems of the XML files of each folder whose first ones are annotations of pictures."""
    found = {}
    for folder, names in place.names([".xml"]).items():
        if any(_is_annotation(place, folder, name) for name in names[:_LOOKED_AT]):
            found[folder] = [stem_of(name) for name in names]
    return found


def _is_annotation(place: Place, folder: str, name: str) -> bool:
    try:
        tree = read_xml(place.root / folder / name)
    except (UserError, OSError):
        return False
    return tree.tag == "annotation" and any(tree.find(tag) is not None for tag in ("object", "size", "filename"))


def _images_of(folder: str, stems: Sequence[str], place: Place, choices: Choices) -> str:
    """The folder of the pictures of an annotation folder, which has the most of their stems."""
    if choices.images is not None:
        if not choices.images.is_relative_to(place.root):
            raise UserError(f"--images {choices.images}: is not below {place.root}; give the folder that holds both.")
        return choices.images.relative_to(place.root).as_posix()
    bare = [os.path.splitext(stem)[0] if _has_image_suffix(stem) else stem for stem in spread(stems)]
    best = place.best_match(bare, place.image_stems)
    if not best:
        raise UserError(
            f"{place.root / folder}: has {len(stems):,} XML files of pictures, and none of the pictures is below "
            f"{place.root}; put them there, or give the folder that holds both."
        )
    beside = [one for one in best if one == folder]
    split = split_of_path(folder)
    same_split = [one for one in best if split is not None and split_of_path(one) == split]
    siblings = [one for one in best if PurePosixPath(one).parent == PurePosixPath(folder).parent]
    usual = [one for one in siblings if PurePosixPath(one).name.lower() in ("images", "jpegimages")]
    for better in (beside, same_split, siblings, usual, best):
        if len(better) == 1:
            return better[0]
    raise UserError(
        f"{place.root / folder}: pictures of its XML files are in several folders ({listed(best, _MOST)}); say which "
        "count by --images FOLDER."
    )


def _has_image_suffix(stem: str) -> bool:
    return os.path.splitext(stem)[1].lower() in IMAGE_SUFFIXES  # a.jpg.xml


def _parallel(pairs: Sequence[Pair], split: str | None, place: Place) -> Pair:
    """The two folders that hold the pictures and XML files of all pairs."""
    found = one_pair(pairs)
    if found is None:
        of = f"of the split '{split}' " if split else ""
        names = listed([xml for _, xml in pairs], _MOST)
        raise UserError(
            f"{place.shown}: the XML files {of}are in several folders ({names}) that their pictures do not lie in "
            "parallel to; give one of the data sets as the place, or move the pictures beside their XML files."
        )
    return found


def _lists(place: Place, stems: set[str]) -> _Lists | None:
    """The lists of splits, in ``ImageSets`` or any folder; those of single classes, and empty ones, are none."""
    found: dict[str, dict[str | None, str]] = {}
    said: list[str] = []
    for folder, names in place.names([".txt"]).items():
        for name in names:
            stem = PurePosixPath(name).stem
            split = split_of(stem, alone=True)
            if split is None and not (stem.lower() == _WHOLE and "ImageSets" in folder.split("/")):
                continue
            named = _stems_in(place, join(folder, name))
            if named & stems:
                found.setdefault(folder, {})[split] = join(folder, name)
            else:
                why = "none of its pictures has an XML file" if named else "it is empty"
                said.append(f"{join(folder, name)} is left out: {why}")
    main = [folder for folder in found if PurePosixPath(folder).name == "Main"]
    if not found:
        return None
    if len(found) > 1 and len(main) != 1:
        raise UserError(
            f"{place.shown}: has lists of splits in several folders ({listed(list(found), _MOST)}); give the folder of "
            "one data set, or keep one of them."
        )
    folder = main[0] if len(found) > 1 else next(iter(found))
    files = found[folder]
    if None in files and "train" in files:
        said.append(f"{files.pop(None)} is not used, since there are lists of splits")
    return _Lists(folder, files, tuple(said))


def _stems_in(place: Place, path: str) -> set[str]:
    stems = set()
    for line in lines_of(read_text(place.root / path)):
        text = line.replace("\\", "/").strip()
        for name in (PurePosixPath(one).name for one in (text, text.rpartition(" ")[0].strip()) if one):
            stems |= {composed(name), composed(PurePosixPath(name).stem)}
    return stems


def _shown(folder: str) -> str:
    return "its folder" if folder == "." else folder
