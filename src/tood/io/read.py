"""Reading JSON and YAML of unknown origin, with limits on size, depth and expansion.

Every problem becomes one sentence that names the file. Only regular files are read, so that no pipe or device blocks
a command.
"""

import gc
import json
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import yaml

from tood.io.consulted import note_file
from tood.io.errors import UserError
from tood.io.escape import escape, is_unicode

LARGEST_TEXT = 256 << 20
"""Bytes of a text file. A list of the images of COCO's train2017 has 5 MB."""
LARGEST_JSON = 4 << 30
"""Bytes of a JSON file. COCO's instances_train2017.json, the largest that is commonly read here, has 448 MB."""
MOST_JSON_MEMORY = 8 << 30
"""Bytes that the values of a JSON file may take, by estimate, and never more than are free. train2017: 3 GB."""
LARGEST_YAML = 2 << 20
"""Bytes of a YAML file. The longest shipped has 3 kB, a data.yaml with 10,000 class names 0.2 MB."""
MOST_YAML_NODES = 50_000
"""Values in a YAML file, each alias counted as all that it stands for."""
DEEPEST_YAML = 50
_LARGEST_NUMBER = 2**63
_LONGEST_NUMBER = 100  # characters
_BYTES_OF = {"[": 64, "{": 230, ",": 40}  # an empty list, a small mapping, a number and its place, as Python has them
_PIECE = 1 << 20
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


class UnreadableError(UserError):
    """A file that cannot be read in the expected form; ``problem`` is the sentence without the remedy."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self._remedy = remedy

    @property
    def sentences(self) -> tuple[str, ...]:
        return (f"{self.problem}; {self._remedy}." if self._remedy else f"{self.problem}.",)


@contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Add ``remedy``, what to do about it, to the error of a file that is unreadable in the block; raises UserError."""
    try:
        yield
    except UnreadableError as error:
        raise UserError(f"{error.problem}; {remedy}.") from error


def read_bytes(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """The content of a regular file of at most ``largest`` bytes; UserError says why it cannot be had."""
    return b"".join(_pieces(Path(path), largest))


def _pieces(path: Path, largest: int) -> Iterator[bytes]:
    """Like :func:`read_bytes`, piece by piece."""
    size = 0
    note_file(path)
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise UnreadableError(f"{path}: is a pipe, a socket or a device", "give a file")
        with path.open("rb", buffering=0) as handle:
            while piece := handle.read(_PIECE):
                size += len(piece)
                if size > largest:
                    raise UnreadableError(
                        f"{path}: has more than {largest >> 20} MB, which is more than is read of such a file"
                    )
                yield piece
    except FileNotFoundError as error:
        raise UnreadableError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError for a path with a NUL
        raise UnreadableError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


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
    _refuse_expansion(path)
    content = read_bytes(path, LARGEST_JSON)
    try:
        _refuse_half_characters(content)
        text = content.decode("utf-8-sig")
        del content
        with _collector_paused():
            return json.loads(text, parse_constant=_refuse_constant, object_hook=lean if without else None)
    except RecursionError as error:
        raise UnreadableError(f"{path}: is not valid JSON (nested too deeply)", "restore or regenerate it") from error
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into memory; leave out what is not needed.") from error
    except ValueError as error:
        reason = escape(error, most=300).partition("; use sys.")[0]  # advice that is for programmers
        raise UnreadableError(f"{path}: is not valid JSON ({reason})", "restore or regenerate it") from error


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
    for piece in _pieces(path, LARGEST_JSON):
        counts += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    ascii_only = not counts[128:].any()
    needed = int(counts.sum()) * (1 if ascii_only else 4) + sum(
        each * int(counts[ord(mark)]) for mark, each in _BYTES_OF.items()
    )
    room = min(psutil.virtual_memory().available, MOST_JSON_MEMORY)
    if needed > room:
        raise UserError(
            f"{path}: would take about {needed / 1e9:.1f} GB of memory, and it may take {room / 1e9:.1f} GB; "
            "leave out what is not needed."
        )


def _refuse_half_characters(content: bytes) -> None:
    """``\\ud83d\\ude00`` is an emoji; either half alone cannot be written as UTF-8, so it is refused."""
    if re.search(rb"\\u[dD][89a-fA-F]", content) is None:
        return
    for found in _ESCAPES.finditer(content):
        if found[1]:
            raise ValueError(
                f"it holds \\{found[1].decode()}, half of a character; if that is of a file's name that is not valid "
                "UTF-8, rename it"
            )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class _RefusedError(Exception):
    """A YAML file contains something that is refused; the text follows the file's name."""


class _PlainLoader(yaml.SafeLoader):
    """Loader of YAML with mappings, lists, texts, numbers, dates and null only, and no key twice in a mapping."""

    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > MOST_YAML_NODES:
            raise _RefusedError(f"holds more than {MOST_YAML_NODES:,} values")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                line = key.start_mark.line + 1
                if key.value in lines:
                    name = escape(key.value, most=200)
                    raise _RefusedError(
                        f"key '{name}' is in line {lines[key.value]} and again in line {line}; keep one"
                    )
                lines[key.value] = line
        return node

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return self.construct_document(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":str"):
            _refuse_long(node, len(node.value) > _LONGEST_NUMBER)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:  # of yaml's own converters
            raise yaml.constructor.ConstructorError(
                problem=f"a value cannot be read as {node.tag.rpartition(':')[2]}", problem_mark=node.start_mark
            ) from error
        if isinstance(value, int):
            _refuse_long(node, abs(value) >= _LARGEST_NUMBER)
        if isinstance(value, str) and ("\0" in value or not is_unicode(value)):
            raise _RefusedError(
                f"the text in line {node.start_mark.line + 1} has a NUL or half a character; leave it out"
            )
        return value


def _refuse_long(node: yaml.Node, is_long: bool) -> None:
    if is_long:
        raise _RefusedError(
            f"the number in line {node.start_mark.line + 1} is too long; put it in quotes if it is a text"
        )


@dataclass(frozen=True)
class _Extent:
    """How many values a node stands for, with all aliases written out, and how many levels."""

    values: int
    levels: int


def _measure(node: yaml.Node, known: dict[int, _Extent | None], depth: int = 0) -> _Extent:
    """Refuse what contains itself or is more, or deeper, than a file may hold; ``known`` has nodes by id."""
    if id(node) in known:
        extent = known[id(node)]
        if extent is None:
            raise _RefusedError(f"what begins in line {node.start_mark.line + 1} contains itself")
    else:
        known[id(node)] = None
        values, levels = 1, 0
        for child in _children(node):
            inner = _measure(child, known, depth + 1)
            values, levels = values + inner.values, max(levels, inner.levels)
            if values > MOST_YAML_NODES:
                raise _RefusedError(
                    f"holds more than {MOST_YAML_NODES:,} values, each alias counted as what it stands for"
                )
        extent = known[id(node)] = _Extent(values, levels + 1)
    if depth + extent.levels > DEEPEST_YAML:
        raise _RefusedError(f"is nested more than {DEEPEST_YAML} deep")
    return extent


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; UserError names the file and the place where it breaks, or the limit that it exceeds."""
    content = read_bytes(path, LARGEST_YAML)
    try:
        return yaml.load(content.decode("utf-8-sig"), _PlainLoader)
    except _RefusedError as error:
        raise UnreadableError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UnreadableError(f"{path}: is nested more than {DEEPEST_YAML} deep") from error
    except Exception as error:  # a parser of unknown text raises nearly anything
        raise UnreadableError(f"{path}: is not valid YAML ({escape(_yaml_problem(error), most=300)})") from error


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = str(getattr(error, "problem", None) or "it breaks off")
    if problem.startswith("could not determine a constructor"):
        problem = "only plain values are read, none with the tag " + problem.rpartition("for the tag ")[2]
    return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"
