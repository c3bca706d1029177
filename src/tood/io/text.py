"""Text of files that people and other programs wrote: UTF-8, or UTF-16 and UTF-32 with their byte order mark."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from tood.io.errors import UserError
from tood.io.files import LARGEST_TEXT, UnreadableError, read_bytes

_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_WIDE = "is UTF-16 without a byte order mark"
FULL_WIDTH_COLON = "\uff1a"
_MERGE = re.compile(r"^(<<<<<<<|>>>>>>>)( |$)", re.MULTILINE)


@dataclass(frozen=True)
class OtherKind:
    """What a file is instead of the text that is expected, and what to do."""

    what: str
    remedy: str


_POINTER = OtherKind("is a pointer of Git LFS, not the file itself", "get it with: git lfs pull")
_PAGE = OtherKind("is a web page (HTML), such as a server's message that something failed", "get the file again")
_XML = OtherKind("is XML, such as a server's message that something failed", "get the file again")
_PACKED = "unpack it"
_BEGINNINGS = (
    (b"version https://git-lfs.github.com/", _POINTER),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", _XML),
    (b"\x1f\x8b", OtherKind("is compressed (gzip)", _PACKED)),
    (b"bzh", OtherKind("is compressed (bzip2)", _PACKED)),
    (b"\xfd7zxz\x00", OtherKind("is compressed (xz)", _PACKED)),
    (b"pk\x03\x04", OtherKind("is a ZIP archive", _PACKED)),
    (b"sqlite format 3\x00", OtherKind("is an SQLite database", "give another file")),
    (b"%pdf-", OtherKind("is a PDF document", "give another file")),
)


def other_kind(content: bytes) -> OtherKind | None:
    """What a file is by its first bytes if that is not JSON, YAML or another text of data; None if it may be one."""
    start = content[:512].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((kind for beginning, kind in _BEGINNINGS if start.startswith(beginning)), None)


def place_at(text: str, index: int) -> tuple[int, int]:
    """Line and column of a character, from 1, as editors count: a line ends with LF, CR LF or CR."""
    begins = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    return line_at(text, index), index - begins + 1


def line_at(text: str, index: int) -> int:
    """The line of a character, from 1, as editors count."""
    return 1 + text.count("\n", 0, index) + text.count("\r", 0, index) - text.count("\r\n", 0, index)


def lines_of(text: str) -> list[str]:
    """The lines of a text, as editors count them, without their ends."""
    return re.split(r"\r\n|\r|\n", text)


def unfinished_merge(text: str) -> str:
    """What to do about the marks that an unfinished merge of Git left in a text; empty if there are none."""
    found = _MERGE.search(text)
    return f"resolve the merge that left {found[1]} in line {line_at(text, found.start())}" if found else ""


def decode_text(content: bytes, path: Path) -> str:
    """The text of ``content``, read from ``path``, without byte order mark.

    Raises UserError, which names the first line that is not UTF-8, for an encoding that the content does not declare:
    which one it is would be a guess, and a wrong one changes names of classes and files.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding not in ("utf-8", "utf-8-sig"):
            raise UnreadableError(f"{path}: is not whole {encoding.upper()}", "save it as UTF-8") from error
        if _is_wide(content):
            raise UnreadableError(f"{path}: {_WIDE}", "save it as UTF-8") from error
        line = line_at(content[: error.start].decode("latin-1"), error.start)
        raise UnreadableError(
            f"{path}: line {line} has the byte 0x{content[error.start]:02x}, which is not UTF-8 (an older encoding "
            "such as Windows-1252?)",
            "save the file as UTF-8",
        ) from error
    if "\0" in text:
        what = _WIDE if _is_wide(content) else "has a NUL and is no text"
        raise UnreadableError(f"{path}: {what}", "save it as UTF-8")
    return text


def _is_wide(content: bytes) -> bool:
    """Whether so many bytes are 0 that characters of Latin scripts take two bytes or four."""
    return content.count(0) * 4 > len(content)


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """The text of a regular file of at most ``largest`` bytes; UserError says why it cannot be had."""
    return decode_text(read_bytes(path, largest), path)


def without_path(error: UserError, path: Path) -> str:
    """The first sentence of an error about ``path`` without the path and the full stop."""
    return error.sentences[0].removeprefix(f"{path}: ").rstrip(".")
