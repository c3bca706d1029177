"""The file ``params/datasets/<name>.yaml`` that describes what was recognised, with the reason for each field."""

import textwrap
from contextlib import suppress
from typing import Any

import yaml

from tood.config.datasets import DatasetConfig
from tood.config.messages import validate
from tood.data.recognise.recognised import Recognised
from tood.io.errors import UserError
from tood.io.escape import escape, is_unicode
from tood.io.plain_yaml import RefusedYamlError, parse_yaml

_WIDTH = 110


def dataset_yaml(name: str, found: Recognised) -> str:
    """The text of the file; it is read back before it is returned, so that it says what was found.

    Raises UserError for paths that cannot be written as text.
    """
    root = str(found.root)
    if not is_unicode(root):
        raise UserError(f"{root}: the folder's name is not valid UTF-8; rename it.")
    lines = _comment(f"{found.what}. Written by tood init; docs/data.md has all fields.")
    values: dict[str, Any] = {"format": found.format, "root": root}
    lines += [line for field, value in values.items() for line in _dumped(field, value)]
    for field in found.fields:
        lines += _comment(_sentence(field.why)) if field.why else []
        lines += _dumped(field.name, field.value)
        values[field.name] = field.value
    for said in found.said:
        lines += _comment(f"Note: {said}")
    text = "\n".join(lines) + "\n"
    try:
        read_back = parse_yaml(text)
    except RefusedYamlError as error:
        raise UserError(f"{root}: cannot be described in a file ({error}); rename what it names.") from error
    assert read_back == values, f"{name}: {read_back} is not {values}"
    validate(DatasetConfig, {**values, "name": name}, f"data set '{name}'")
    return text


def _dumped(name: str, value: Any) -> list[str]:
    """The lines of a field; what is innermost is written in one, as ``{images: train, annotations: train.json}``."""
    flow = None if isinstance(value, dict | list) else False
    for readable in (True, False):  # a character that is no letter may not be read back as it is
        text: str = yaml.safe_dump(
            {name: value}, default_flow_style=flow, sort_keys=False, width=_WIDTH, allow_unicode=readable
        )
        with suppress(RefusedYamlError):
            if parse_yaml(text) == {name: value}:
                break
    return text.rstrip("\n").split("\n")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ")")) else ".")


def _comment(text: str) -> list[str]:
    wrapped = textwrap.wrap(escape(text), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in wrapped]
