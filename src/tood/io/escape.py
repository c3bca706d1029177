"""Escaping text of unknown origin (names, paths) for terminals, CSV files and HTML."""

import re

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
_REORDERING = r"\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"  # line ends and overrides of the reading direction
_HALVES = r"\ud800-\udfff"  # of characters; also how bytes that are not UTF-8 come in names of files
_UNSAFE_IN_TEXT = re.compile(f"[{_CONTROLS}{_REORDERING}{_HALVES}]")
_UNSAFE_IN_LINE = re.compile(rf"[\t\n{_CONTROLS}{_REORDERING}{_HALVES}]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4})")


def escape(text: object, *, lines: bool = False, most: int | None = None) -> str:
    """The text with control characters and overrides of the reading direction spelt out, as ``\\x1b`` and ``\\u202e``.

    Any script and emoji stay as they are. Line ends and tabs are kept with ``lines`` and spelt out otherwise. Of a
    text longer than ``most`` the middle is left out.
    """
    content = str(text)
    if most is not None and len(content) > most:
        content = f"{content[: most // 2]} … {content[len(content) - most // 2 :]}"
    if content.isascii() and content.isprintable():
        return content
    return (_UNSAFE_IN_TEXT if lines else _UNSAFE_IN_LINE).sub(_spell_out, content)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would compute a cell with this text."""
    return text.startswith(_FORMULA)


def csv_cell(text: str) -> str:
    """The text as a harmless cell of a CSV file from which ``from_csv_cell`` gets it back exactly.

    Without backslashes, control characters, overrides of the reading direction and half characters it stays as it
    is, apart from an apostrophe in front of a formula, or of another apostrophe.
    """
    cell = _UNSAFE_IN_LINE.sub(lambda match: f"\\u{ord(match[0]):04x}", text.replace("\\", "\\\\"))
    return f"'{cell}" if is_formula(cell) or cell.startswith("'") else cell


def from_csv_cell(cell: str) -> str:
    """The text that ``csv_cell`` made this cell from. A cell that it would not write (older files) stays as it is."""
    text = cell[1:] if cell.startswith("'") and (is_formula(cell[1:]) or cell[1:].startswith("'")) else cell
    return _ESCAPED.sub(lambda match: "\\" if match[1] == "\\" else chr(int(match[1][1:], 16)), text)


def is_unicode(text: str) -> bool:
    """False for text that no UTF-8 can hold: half characters, and so names of files whose bytes are not UTF-8."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def _spell_out(match: re.Match[str]) -> str:
    return match[0].encode("ascii", "backslashreplace").decode() if match[0] > "\x7f" else repr(match[0])[1:-1]
