"""Annotations as columns (arrays) of numbers and text, which take little memory and are cheap to share with workers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts in one piece of memory: number k is ``blob[offsets[k]:offsets[k+1]]`` in UTF-8."""

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int | np.integer[Any]) -> str:
        return self.blob[self.offsets[position] : self.offsets[position + 1]].tobytes().decode()

    def tolist(self) -> list[str]:
        return [self[position] for position in range(len(self))]

    def take(self, positions: NDArray[np.intp]) -> "Texts":
        """The texts at ``positions``, in that order."""
        starts, lengths = self.offsets[positions], np.diff(self.offsets)[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Texts(self.blob[np.repeat(starts, lengths) + within], offsets)


@dataclass(frozen=True, eq=False)
class Annotations:
    """The N annotations of a COCO file, in its order."""

    image_ids: NDArray[np.int64]
    """(N,)"""
    category_ids: NDArray[np.int64]
    """(N,)"""
    boxes: NDArray[np.float64]
    """(N,4) xywh px."""
    areas: NDArray[np.float64]
    """(N,) as annotated, otherwise width times height."""
    crowd: NDArray[np.bool_]
    """(N,) COCO's ``iscrowd``."""
    ignored: NDArray[np.bool_]
    """(N,) its rarer ``ignore``."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, positions: NDArray[np.intp]) -> "Annotations":
        """The annotations at ``positions``, in that order."""
        return Annotations(**{one.name: getattr(self, one.name)[positions] for one in fields(self)})

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> "Annotations":
        """Columns of COCO annotations. Raises KeyError, TypeError or ValueError for entries of another form."""
        boxes = np.array([entry["bbox"] for entry in entries] or np.zeros((0, 4)), np.float64)
        if boxes.shape[1:] != (4,):
            raise ValueError("a 'bbox' needs four numbers")
        areas = [entry.get("area") for entry in entries]
        missing = [k for k, area in enumerate(areas) if area is None]
        for k in missing:
            areas[k] = boxes[k, 2] * boxes[k, 3]
        return cls(
            image_ids=np.array([entry["image_id"] for entry in entries], np.int64),
            category_ids=np.array([entry["category_id"] for entry in entries], np.int64),
            boxes=boxes,
            areas=np.array(areas, np.float64),
            crowd=np.array([bool(entry.get("iscrowd")) for entry in entries], bool),
            ignored=np.array([bool(entry.get("ignore")) for entry in entries], bool),
        )


def look_up(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Position of each wanted id among the ascending ids (0 where unknown), and whether it is there."""
    if not len(ascending):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    position = np.searchsorted(ascending, wanted).clip(max=len(ascending) - 1)
    known = ascending[position] == wanted
    return np.where(known, position, 0).astype(np.int64), known
