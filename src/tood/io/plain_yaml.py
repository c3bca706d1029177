"""YAML of plain values only, with limits on depth and expansion; problems name the line as an editor counts it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import yaml

from tood.io.escape import escape, is_unicode
from tood.io.names import SPACES, character
from tood.io.text import FULL_WIDTH_COLON, line_at, lines_of, place_at, unfinished_merge

MOST_YAML_NODES = 50_000
"""Values in a YAML file, each alias counted as all that it stands for."""
DEEPEST_YAML = 50
_LOOKS_LIKE_YAML = f"{SPACES}{FULL_WIDTH_COLON}\x85\u2028\u2029"
_LARGEST_NUMBER = 2**63
_LONGEST_NUMBER = 100  # characters


class RefusedYamlError(Exception):
    """A YAML text that cannot be read, or may not be; the words follow the file's name, the remedy included."""


def parse_yaml(text: str, numbers_as_written: Collection[str] = ()) -> Any:
    """The value of a YAML text; raises RefusedYamlError for anything that is wrong with it.

    Numbers and dates in the outermost fields ``numbers_as_written`` become the texts that stand there, as 007.
    """
    try:
        loader = _PlainLoader(text, numbers_as_written)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RefusedYamlError:
        raise
    except RecursionError as error:
        raise RefusedYamlError(f"is nested more than {DEEPEST_YAML} deep") from error
    except Exception as error:  # a parser of unknown text raises nearly anything
        problem = escape(_problem(text, error), most=300)
        raise RefusedYamlError(f"is not valid YAML ({problem}){_hint(text, error)}") from error


class _PlainLoader(yaml.SafeLoader):
    """Loader of YAML with mappings, lists, texts, numbers, dates and null only, and no key twice in a mapping."""

    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
    }

    def __init__(self, stream: str, numbers_as_written: Collection[str]) -> None:
        super().__init__(stream)
        self._text = stream
        self._numbers_as_written = numbers_as_written
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > MOST_YAML_NODES:
            raise RefusedYamlError(f"holds more than {MOST_YAML_NODES:,} values")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                first = keys.setdefault(key.value, key)
                if first is not key:
                    name = escape(key.value, most=200)
                    lines = f"line {self._line(first)} and again in line {self._line(key)}"
                    raise RefusedYamlError(f"key '{name}' is in {lines}; keep one")
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        ends = node.value[:1] + node.value[-1:] if node.style is None else ""
        if node.style is None and node.value.startswith(("-", "?", ":")):
            ends += node.value[1:2]
        odd = next((one for one in ends if one in SPACES), None)
        if odd is not None:
            raise RefusedYamlError(
                f"has a {character(odd)} in line {self._line(node)}, which YAML takes for a part of the text; write a "
                "space instead"
            )
        return node

    def _line(self, node: yaml.Node) -> int:
        return line_at(self._text, node.start_mark.index)

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _measure(node, {}, self._line)
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value in self._numbers_as_written:
                _make_numbers_texts(value)
        return self.construct_document(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        is_number = isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":str")
        if is_number and len(node.value) > _LONGEST_NUMBER:
            raise self._too_long(node)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:  # of yaml's own converters
            raise yaml.constructor.ConstructorError(
                problem=f"a value cannot be read as {node.tag.rpartition(':')[2]}", problem_mark=node.start_mark
            ) from error
        if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
            raise self._too_long(node)
        if isinstance(value, str) and ("\0" in value or not is_unicode(value)):
            raise RefusedYamlError(f"the text in line {self._line(node)} has a NUL or half a character; leave it out")
        return value

    def _too_long(self, node: yaml.Node) -> RefusedYamlError:
        return RefusedYamlError(f"the number in line {self._line(node)} is too long; put it in quotes if it is a text")


@dataclass(frozen=True)
class _Extent:
    """How many values a node stands for, with all aliases written out, and how many levels."""

    values: int
    levels: int


def _measure(
    node: yaml.Node, known: dict[int, _Extent | None], line: Callable[[yaml.Node], int], depth: int = 0
) -> _Extent:
    """Refuse what contains itself or is more, or deeper, than a file may hold; ``known`` has nodes by id."""
    if id(node) in known:
        extent = known[id(node)]
        if extent is None:
            raise RefusedYamlError(f"what begins in line {line(node)} contains itself")
    else:
        known[id(node)] = None
        values, levels = 1, 0
        for child in _children(node):
            inner = _measure(child, known, line, depth + 1)
            values, levels = values + inner.values, max(levels, inner.levels)
            if values > MOST_YAML_NODES:
                raise RefusedYamlError(
                    f"holds more than {MOST_YAML_NODES:,} values, each alias counted as what it stands for"
                )
        extent = known[id(node)] = _Extent(values, levels + 1)
    if depth + extent.levels > DEEPEST_YAML:
        raise RefusedYamlError(f"is nested more than {DEEPEST_YAML} deep")
    return extent


def _make_numbers_texts(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in ("int", "float", "timestamp"):
        node.tag = "tag:yaml.org,2002:str"
    for child in _children(node):
        _make_numbers_texts(child)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _problem(text: str, error: Exception) -> str:
    index = _index(error)
    if index is None:
        return " ".join(str(error).split())
    line, column = place_at(text, index)
    if isinstance(error, yaml.reader.ReaderError):
        return f"the {character(chr(error.character))} is not allowed in line {line}, column {column}"
    problem = str(getattr(error, "problem", None) or "it breaks off")
    if problem.startswith("could not determine a constructor"):
        problem = "only plain values are read, none with the tag " + problem.rpartition("for the tag ")[2]
    if problem.startswith("found character '\\t'"):
        problem = "found a tab"
    return f"{problem} in line {line}, column {column}"


def _index(error: Exception) -> int | None:
    """Where in the text the parser stopped, as far as it says so."""
    if isinstance(error, yaml.reader.ReaderError):
        return int(error.position)
    mark = getattr(error, "problem_mark", None)
    return None if mark is None else int(mark.index)


def _hint(text: str, error: Exception) -> str:
    """What is likely behind a parser's problem: something that only looks like YAML, in its line or before."""
    if merge := unfinished_merge(text):
        return f"; {merge}"
    index = _index(error)
    lines = lines_of(text)[: None if index is None else line_at(text, index)]
    for number in range(len(lines), 0, -1):
        line = lines[number - 1].partition(" #")[0]
        if line.lstrip(" ").startswith("\t") and number == len(lines):
            return f"; line {number} is indented with a tab: indent with spaces"
        odd = next((one for one in line if one in _LOOKS_LIKE_YAML), None)
        if odd is not None:
            meant = "a colon and a space" if odd == FULL_WIDTH_COLON else "a space"
            return f"; line {number} has a {character(odd)}: write {meant} instead"
    return ""
