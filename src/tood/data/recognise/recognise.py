"""Which format the files of a folder have, tried one after another; what is none of them is described in words."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from tood.data.formats.xml_files import read_xml
from tood.data.recognise.coco_layouts import recognise_coco
from tood.data.recognise.place import Place
from tood.data.recognise.recognised import Choices, Format, NotHereError, Recognised
from tood.data.recognise.voc_layouts import recognise_voc
from tood.data.recognise.yolo_layouts import recognise_yolo
from tood.io.errors import UserError

_RECOGNISERS: dict[Format, Callable[[Place, Choices], Recognised | None]] = {
    "coco": recognise_coco,
    "voc": recognise_voc,
    "yolo": recognise_yolo,
}
_OF_FILE: dict[str, Format] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".names": "yolo", ".data": "yolo"}
_LOOKED_FOR = (
    "looked for were a COCO json (with 'images', 'annotations' and 'categories'), and a file for each picture: Pascal "
    "VOC's XML or YOLO's text"
)
_BEGINNING = 4096  # bytes


def recognise(place: Place, choices: Choices) -> Recognised:
    """The data set at ``place``; UserError where there is none, or an option has to say which reading is meant."""
    found: dict[Format, Recognised | UserError] = {}
    for name in _formats(place, choices):
        try:
            one = _RECOGNISERS[name](place, choices)
        except UserError as error:
            found[name] = error
            continue
        if one is not None:
            found[name] = one
    if not found:
        raise UserError(_not_recognised(place, choices))
    here = {name: one for name, one in found.items() if not isinstance(one, NotHereError)}
    passed_over = [f"passed over: {one}" for name, one in found.items() if here and name not in here]
    found = here or found
    if len(found) > 1:
        formats = " and ".join(found)
        raise UserError(f"{place.shown}: holds annotations in the formats {formats}; say which count by --format.")
    (result,) = found.values()
    if isinstance(result, UserError):
        raise result
    return replace(result, said=(*result.said, *passed_over))


def _formats(place: Place, choices: Choices) -> Sequence[Format]:
    of_file = None if place.given is None else _OF_FILE.get(place.given.suffix.lower())
    if place.given is not None and of_file is None and place.given.name != "classes.txt":
        raise UserError(
            f"{place.given}: is no file that describes a data set (a COCO json, data.yaml, obj.data, classes.txt); "
            "give the folder of the pictures and annotations."
        )
    of_file = of_file or (None if place.given is None else "yolo")
    if of_file is not None and choices.format not in (None, of_file):
        raise UserError(f"--format {choices.format}: {place.given} is of the format {of_file}; leave the option out.")
    chosen = choices.format or of_file
    return list(_RECOGNISERS) if chosen is None else [chosen]


def _not_recognised(place: Place, choices: Choices) -> str:
    asked = f"no data set of the format {choices.format}" if choices.format else "no data set is recognised"
    pattern = " of the names that --annotations gives" if choices.annotations else ""
    return f"{place.shown}: {asked}{pattern} ({_LOOKED_FOR}); there are {place.content()}{_hint(place)}."


def _hint(place: Place) -> str:
    """What annotations of other kinds are here, and how to get them in a format that is read."""
    for path in place.files(".json")[:3]:
        with (place.root / path).open("rb") as file:
            start = file.read(_BEGINNING)
        if b'"shapes"' in start:
            return f"; {path} is LabelMe's: convert it to COCO or VOC"
        if start.lstrip().startswith(b"[") and (b'"annotations"' in start or b'"completions"' in start):
            return f"; {path} is a list of tasks, as Label Studio's own JSON: export as COCO or YOLO"
    for path in place.files(".xml")[:3]:
        try:
            tag = read_xml(place.root / path).tag
        except UserError:
            continue
        if tag == "annotations":
            return f"; {path} is CVAT's own XML: export as COCO 1.0 or Pascal VOC 1.1"
    tables = place.files(".csv", ".tfrecord", ".record", ".parquet")
    if tables:
        return f"; {PurePosixPath(tables[0]).name} is of a kind that is not read: convert it to COCO, VOC or YOLO"
    return ""
