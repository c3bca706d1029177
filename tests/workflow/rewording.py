"""Edits of a module that change no number: its docstring, the texts of its errors and messages, its comments."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("docstring", "messages", "comments")
_LOGGERS = ("log", "_log", "logger")
_LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")
_ADDED = b' " Said otherwise."'  # behind a text of any kind: the two are one text
_COMMENT = b"# Said otherwise."


class _Insertion(NamedTuple):
    line: int
    column: int
    """In bytes."""
    text: bytes


def reworded(source: bytes, kinds: tuple[str, ...] = KINDS) -> tuple[bytes, dict[str, int]]:
    """The module with other words; how many places of each kind were edited."""
    tree, lines = ast.parse(source), source.split(b"\n")
    found = {
        "docstring": list(_docstring(tree, lines)) if "docstring" in kinds else [],
        "messages": list(_messages(tree)) if "messages" in kinds else [],
        "comments": list(_comments(tree, lines)) if "comments" in kinds else [],
    }
    everything = [one for places in found.values() for one in places]
    for line, column, text in sorted(everything, reverse=True):
        lines[line] = lines[line][:column] + text + lines[line][column:]
    text = b"\n".join(lines)
    assert text != source or not everything
    ast.parse(text)
    return text, {kind: len(places) for kind, places in found.items()}


def _docstring(tree: ast.Module, lines: list[bytes]) -> Iterator[_Insertion]:
    """One more sentence inside the closing quotes."""
    if ast.get_docstring(tree) is not None:
        place = _end(tree.body[0])
        quotes = 3 if lines[place.line][: place.column].endswith((b'"""', b"'''")) else 1
        yield place._replace(column=place.column - quotes, text=b" Said otherwise.")


def _messages(tree: ast.Module) -> Iterator[_Insertion]:
    """One more sentence at the end of each text that is an argument of an error raised or of a logger's method."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else node
        if isinstance(call, ast.Call) and (isinstance(node, ast.Raise) or _speaks(call)):
            texts = [one for one in call.args if isinstance(one, ast.JoinedStr) or _is_text(one)]
            yield from (_end(one)._replace(text=_ADDED) for one in texts)


def _speaks(call: ast.Call) -> bool:
    called = call.func
    if not isinstance(called, ast.Attribute) or called.attr not in _LEVELS:
        return False
    return isinstance(called.value, ast.Name) and called.value.id in _LOGGERS


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _comments(tree: ast.Module, lines: list[bytes]) -> Iterator[_Insertion]:
    """A line above the module, one below it, and the end of the line that each statement of the module ends in."""
    yield _Insertion(0, 0, _COMMENT + b"\n")
    for line in sorted({_end(one).line for one in tree.body}):
        yield _Insertion(line, len(lines[line]), b"  " + _COMMENT)
    yield _Insertion(len(lines) - 1, len(lines[-1]), _COMMENT + b"\n")


def _end(node: ast.stmt | ast.expr) -> _Insertion:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return _Insertion(node.end_lineno - 1, node.end_col_offset, b"")
