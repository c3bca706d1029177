"""Reading JSON and YAML of unknown origin, with limits on size, depth and expansion.

Every problem becomes one sentence that names the file, and the line as an editor counts it.
"""

import gc
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.files import UnreadableError, pieces, read_bytes
from tood.io.free_memory import free_memory
from tood.io.names import twin
from tood.io.plain_yaml import RefusedYamlError, parse_yaml
from tood.io.text import decode_text, other_kind, place_at, unfinished_merge

LARGEST_JSON = 4 << 30
"""Bytes of a JSON file. COCO's instances_train2017.json, the largest that is commonly read here, has 448 MB."""
MOST_JSON_MEMORY = 8 << 30
"""Bytes that the values of a JSON file may take, by estimate, and never more than are free. train2017: 3 GB."""
LARGEST_YAML = 2 << 20
"""Bytes of a YAML file. The longest shipped has 3 kB, a data.yaml with 10,000 class names 0.2 MB."""
_MOST_SIBLINGS = 10_000
_BYTES_OF = {"[": 64, "{": 230, ",": 40}  # an empty list, a small mapping, a number and its place, as Python has them
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, *, without: Collection[str] = ()) -> Any:
    """Parse a JSON file; UserError names the file and the place where it breaks, or the limit that it exceeds.

    Of a key given twice the last value counts, as everywhere; NaN and infinities are no JSON. Estimated from its
    brackets and commas alone, a file that would take more memory than ``MOST_JSON_MEMORY``, or than there is, is
    refused before it is parsed. Fields ``without`` are dropped from every object as soon as it has been read, which
    keeps what a large file leaves in memory small.
    """

    def lean(entry: dict[str, Any]) -> dict[str, Any]:
        for name in without:
            entry.pop(name, None)
        return entry

    path = Path(path)
    with _twins_named(path):
        _refuse_expansion(path)
    text = _text(path, LARGEST_JSON)
    try:
        _refuse_half_characters(text)
        with _collector_paused():
            return json.loads(text, parse_constant=_refuse_constant, object_hook=lean if without else None)
    except RecursionError as error:
        raise UnreadableError(f"{path}: is not valid JSON (nested too deeply)", "restore or regenerate it") from error
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into memory; leave out what is not needed.") from error
    except json.JSONDecodeError as error:
        raise _not_json(path, text, error) from error
    except ValueError as error:
        reason = escape(error, most=300).partition("; use sys.")[0]  # advice that is for programmers
        raise UnreadableError(f"{path}: is not valid JSON ({reason})", "restore or regenerate it") from error


def _not_json(path: Path, text: str, error: json.JSONDecodeError) -> UnreadableError:
    """The sentence for a text that breaks at ``error.pos``, with what it is instead where that can be told."""
    if not text.strip():
        return UnreadableError(f"{path}: is not valid JSON (it is empty)", "restore or regenerate it")
    line, column = place_at(text, error.pos)
    if error.msg == "Extra data" and line > 1 and text[error.pos] in "[{":
        return UnreadableError(
            f"{path}: is JSON Lines (a value in each line), where one JSON value is expected; line {line} is the first "
            "too many",
            "write one value",
        )
    reason = f"{escape(error.msg, most=300)} in line {line}, column {column}"
    return UnreadableError(
        f"{path}: is not valid JSON ({reason})", unfinished_merge(text) or "restore or regenerate it"
    )


def _text(path: Path, largest: int) -> str:
    """The text of a file that holds JSON or YAML, and not something else that is easily told from them."""
    content = read_bytes(path, largest)
    if (found := other_kind(content)) is not None:
        raise UnreadableError(f"{path}: {found.what}", found.remedy)
    return decode_text(content, path)


@contextmanager
def _twins_named(path: Path) -> Iterator[None]:
    """Add to the error of a missing file the one beside it whose name looks the same, or has another suffix."""
    try:
        yield
    except UnreadableError as error:
        if not isinstance(error.__cause__, FileNotFoundError) or path.is_symlink():
            raise
        try:
            with os.scandir(path.parent) as entries:
                names = [entry.name for entry in islice(entries, _MOST_SIBLINGS)]
        except OSError:
            names = []
        like = twin(path.name, names)
        if like is None:
            raise
        raise UnreadableError(
            f"{error.problem}, but '{like.name}' is there ({like.reason})", "rename one of them"
        ) from error.__cause__


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause garbage collection: parsed JSON has no cycles, and looking for them takes as long as parsing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _refuse_expansion(path: Path) -> None:
    counts = np.zeros(256, np.int64)
    for piece in pieces(path, LARGEST_JSON):
        counts += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    ascii_only = not counts[128:].any()
    needed = int(counts.sum()) * (1 if ascii_only else 4) + sum(
        each * int(counts[ord(mark)]) for mark, each in _BYTES_OF.items()
    )
    room = min(free_memory(), MOST_JSON_MEMORY)
    if needed > room:
        raise UserError(
            f"{path}: would take about {needed / 1e9:.1f} GB of memory, and it may take {room / 1e9:.1f} GB; "
            "leave out what is not needed."
        )


def _refuse_half_characters(text: str) -> None:
    """``\\ud83d\\ude00`` is an emoji; either half alone cannot be written as UTF-8, so it is refused."""
    if _HALF.search(text) is None:
        return
    for found in _ESCAPES.finditer(text):
        if found[1]:
            raise ValueError(
                f"it holds \\{found[1]}, half of a character; if that is of a file's name that is not valid "
                "UTF-8, rename it"
            )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def read_yaml(path: Path, numbers_as_written: Collection[str] = ()) -> Any:
    """Parse a YAML file; UserError names the file and the place where it breaks, or the limit that it exceeds.

    Numbers in the outermost fields ``numbers_as_written`` become the texts that stand there, as 007.
    """
    path = Path(path)
    with _twins_named(path):
        text = _text(path, LARGEST_YAML)
    try:
        return parse_yaml(text, numbers_as_written)
    except RefusedYamlError as error:
        raise UnreadableError(f"{path}: {error}") from error
