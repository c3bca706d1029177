"""Text of files that people and other programs wrote: UTF-8, or UTF-16 and UTF-32 with their byte order mark."""

import codecs
from pathlib import Path

from tood.io.errors import UserError
from tood.io.read import LARGEST_TEXT, UnreadableError, read_bytes

_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"{path}: line {line} has the byte 0x{content[error.start]:02x}, which is not UTF-8 (an older encoding "
            "such as Windows-1252?)",
            "save the file as UTF-8",
        ) from error
    if "\0" in text:
        is_wide = content.count(0) * 4 > len(content)
        what = "is UTF-16 without a byte order mark" if is_wide else "has a NUL and is no text"
        raise UnreadableError(f"{path}: {what}", "save it as UTF-8")
    return text


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """The text of a regular file of at most ``largest`` bytes; UserError says why it cannot be had."""
    return decode_text(read_bytes(path, largest), path)


def without_path(error: UserError, path: Path) -> str:
    """The first sentence of an error about ``path`` without the path and the full stop."""
    return error.sentences[0].removeprefix(f"{path}: ").rstrip(".")
