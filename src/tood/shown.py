"""Text of unknown origin as terminals, tables and pages can take it, whatever somebody wrote into a name."""

import re

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
_REORDERING = r"\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb"  # line ends and overrides of the reading direction
_HALVES = r"\ud800-\udfff"  # of characters; also how bytes that are not UTF-8 come in names of files
_UNSAFE_IN_TEXT = re.compile(f"[{_CONTROLS}{_REORDERING}{_HALVES}]")
_UNSAFE_IN_LINE = re.compile(rf"[\t\n{_CONTROLS}{_REORDERING}{_HALVES}]")


def shown(text: object, *, lines: bool = False, most: int | None = None) -> str:
    """The text with what could steer a terminal or the reading direction spelt out, as in ``\\x1b`` and ``\\u202e``.

    Any script and emoji stay as they are. Line ends and tabs are kept with ``lines`` and spelt out otherwise. Of a
    text longer than ``most`` the middle is left out.
    """
    content = str(text)
    if most is not None and len(content) > most:
        content = f"{content[: most // 2]} … {content[len(content) - most // 2 :]}"
    if content.isascii() and content.isprintable():
        return content
    return (_UNSAFE_IN_TEXT if lines else _UNSAFE_IN_LINE).sub(_spelt_out, content)


def is_unicode(text: str) -> bool:
    """False for text that no UTF-8 can hold: half characters, and so names of files whose bytes are not UTF-8."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def _spelt_out(match: re.Match[str]) -> str:
    return match[0].encode("ascii", "backslashreplace").decode() if match[0] > "\x7f" else repr(match[0])[1:-1]
