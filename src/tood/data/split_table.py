"""Split table: images and annotations of a split as columns, read from COCO json or from the ``.npz`` file beside it.

Parsing the json of a large data set makes a Python object of every number, many times the size of the numbers.
That is done once, when the data set is prepared; later steps read the ``.npz`` file. ``TrainingTargets`` and the
evaluation's ``Objects`` are made from its columns.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.data.columns import Annotations, Texts, look_up
from tood.data.prepared import PreparedSplit
from tood.data.tiles import Tiles
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import write_with

_DATE = (1980, 1, 1, 0, 0, 0)  # the same split gives the same file
_AGAIN = "prepare the data set again"
_OF_BOX = "_of_boxes"  # after the names of annotations' columns, some of which are images' too


@dataclass(frozen=True, eq=False)
class SplitTable:
    """I images in ascending id, C categories in ascending id and all N annotations of a split.

    An annotation file that was not prepared may lack what evaluation does without: file names are then empty, widths
    and heights 0.
    """

    source: str
    """The json, for messages."""
    category_ids: NDArray[np.int64]
    """(C,)"""
    classes: tuple[str, ...]
    """Names of the categories."""
    image_ids: NDArray[np.int64]
    """(I,)"""
    file_names: Texts
    """I names relative to the folder of images."""
    widths: NDArray[np.int64]
    """(I,) px."""
    heights: NDArray[np.int64]
    """(I,) px."""
    annotations: Annotations
    tiles: Tiles | None = None
    """What the images are tiles of, where they are none of their own."""

    @classmethod
    def of_split(cls, split: PreparedSplit, classes: Sequence[str] | None = None) -> "SplitTable":
        """The table of a prepared split, from its flat file if it has one.

        Raises UserError like ``of_flat`` and ``of_json``, and when the categories are not the ``classes``, if given.
        """
        table = cls.of_json(split.annotations) if split.table is None else cls.of_flat(split.table, split.annotations)
        if classes is not None and table.classes != tuple(classes):
            raise UserError(
                f"{split.annotations}: has the categories {', '.join(table.classes)}, "
                f"but the data set has the classes {', '.join(classes)}; {_AGAIN}."
            )
        return table

    @classmethod
    def of_json(cls, path: Path) -> "SplitTable":
        """The table of a COCO json. Raises UserError if the file has another form, no categories or an id twice."""
        content = read_json(path)
        try:
            categories = sorted((int(c["id"]), str(c["name"])) for c in content["categories"])
            images = sorted(
                (int(i["id"]), str(i.get("file_name", "")), int(i.get("width", 0)), int(i.get("height", 0)))
                for i in content["images"]
            )
            image_ids, widths, heights = (np.array([i[k] for i in images], np.int64) for k in (0, 2, 3))
            category_ids = np.array([number for number, _ in categories], np.int64)
            annotations = Annotations.of(content["annotations"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: is not a complete COCO file ({type(error).__name__}: {error}); {_AGAIN}."
            ) from error
        if not categories:
            raise UserError(f"{path}: has no categories; {_AGAIN}.")
        for kind, ids in (("an image", image_ids), ("a category", category_ids)):
            if len(np.unique(ids)) < len(ids):
                raise UserError(f"{path}: {kind} id occurs twice; {_AGAIN}.")
        return cls(
            source=str(path),
            category_ids=category_ids,
            classes=tuple(name for _, name in categories),
            image_ids=image_ids,
            file_names=Texts.of(i[1] for i in images),
            widths=widths,
            heights=heights,
            annotations=annotations,
        )

    @classmethod
    def of_flat(cls, path: Path, source: Path) -> "SplitTable":
        """Read a file of ``write_flat``; UserError if it holds something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
            annotations = Annotations(**{one.name: columns[one.name + _OF_BOX] for one in fields(Annotations)})
            return cls(
                source=str(source),
                category_ids=columns["category_ids"],
                classes=tuple(Texts(columns["classes"], columns["classes_ends"]).tolist()),
                image_ids=columns["image_ids"],
                file_names=Texts(columns["file_names"], columns["file_names_ends"]),
                widths=columns["widths"],
                heights=columns["heights"],
                annotations=annotations,
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: is not the table of a split ({error}); {_AGAIN}.") from error

    def locate_annotations(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Position of each annotation's image (N,), its label (N,), and whether the split has both (N,)."""
        return self._located

    @cached_property
    def _located(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        images, of_image = look_up(self.image_ids, self.annotations.image_ids)
        labels, of_class = look_up(self.category_ids, self.annotations.category_ids)
        return images, labels, of_image & of_class

    def take_images(self, positions: NDArray[np.intp]) -> "SplitTable":
        """The split with the images at ``positions``, which ascend, and all annotations."""
        return replace(
            self,
            image_ids=self.image_ids[positions],
            file_names=self.file_names.take(positions),
            widths=self.widths[positions],
            heights=self.heights[positions],
            tiles=None if self.tiles is None else self.tiles.take(positions),
        )

    def write_flat(self, path: Path) -> None:
        """An uncompressed ``.npz`` of all columns."""
        classes = Texts.of(self.classes)
        columns: dict[str, NDArray[Any]] = {
            "category_ids": self.category_ids,
            "classes": classes.blob,
            "classes_ends": classes.offsets,
            "image_ids": self.image_ids,
            "file_names": self.file_names.blob,
            "file_names_ends": self.file_names.offsets,
            "widths": self.widths,
            "heights": self.heights,
        }
        columns |= {one.name + _OF_BOX: getattr(self.annotations, one.name) for one in fields(Annotations)}
        write_with(path, lambda target: _pack(target, columns))


def _pack(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    """``np.savez`` without the time of writing."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, column in columns.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, column, allow_pickle=False)
