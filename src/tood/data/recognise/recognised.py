"""What recognition finds and decides: fields of the data set's file, each with the reason for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tood.config.datasets import RowKind
from tood.io.errors import UserError

Format = Literal["coco", "voc", "yolo"]


@dataclass(frozen=True)
class Choices:
    """What the user says where several readings are possible; None leaves it to recognition."""

    format: Format | None = None
    val: float | None = None
    test: float | None = None
    seed: int = 0
    images: Path | None = None
    """Folder of the pictures."""
    annotations: str | None = None
    """Pattern of the names of the COCO files that count."""
    classes: tuple[str, ...] = ()
    rows: RowKind | None = None
    leave_out: tuple[str, ...] = ()
    one_by_one: bool = False
    """Near-duplicate pictures may be drawn to both sides."""


@dataclass(frozen=True)
class Field:
    """A field of the data set's file with its plain value, and why it is so, as a sentence."""

    name: str
    value: Any
    why: str


class NotHereError(UserError):
    """A file describes a data set of which neither pictures nor labels are here."""


@dataclass(frozen=True)
class Recognised:
    """A format, in words what was found, the folder that everything is below, the fields, and what else to say."""

    format: Format
    what: str
    root: Path
    fields: tuple[Field, ...]
    said: tuple[str, ...] = ()
