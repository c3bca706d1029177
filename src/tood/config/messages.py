"""One clear sentence for each way a configuration can be wrong."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from tood.config.parts import Part
from tood.io.errors import UserError
from tood.io.escape import escape

_LONGEST_PROBLEM = 500  # characters; values that it quotes can have any length

_TYPE_WORDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def nearest(value: object, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or the list of valid names, ready to end a sentence with."""
    names = sorted(valid)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid are {', '.join(names)}." if names else "."


def _nearest_quoted(value: object, quoted: Iterable[str]) -> str:
    return nearest(value, [name.strip("'\" ") for name in quoted])


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _field_names(models: Sequence[type[BaseModel]], path: Sequence[str | int], value: Any) -> set[str]:
    """Names of the fields at ``path`` below the models; steps that are union tags or indices are skipped."""
    for step in path:
        value = value.get(step, value) if isinstance(value, dict) else value
        deeper = [
            found.of_kind(value) if issubclass(found, Part) and "listed" in vars(found) else found
            for model in models
            if str(step) in model.model_fields
            for found in _models_in(model.model_fields[str(step)].annotation)
        ]
        models = deeper or models
    return {name for model in models for name in model.model_fields}


def _without_tags(path: Sequence[str | int], value: Any) -> list[str]:
    """Drop the union tags that pydantic puts into an error's location."""
    kept: list[str] = []
    for step in path:
        if isinstance(value, dict) and step not in value and step in value.values():
            continue
        kept.append(str(step))
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            value = None
    return kept


def explain(error: ValidationError, annotation: Any, value: Any, where: str, prefix: str = "") -> str:
    """The first problem of a validation as one sentence.

    ``where`` is the file; ``prefix`` the dotted path of ``value`` inside that file.
    """
    problem = error.errors()[0]
    kind, given, context = problem["type"], problem.get("input"), problem.get("ctx", {})
    path = _without_tags(problem["loc"], value)
    field = ".".join(part for part in (prefix, *path) if part)
    named = f"field '{field}'" if field else "the file"
    if kind == "extra_forbidden":
        valid = _field_names(_models_in(annotation), problem["loc"][:-1], value)
        return f"{where}: {named} is unknown{nearest(path[-1], valid)}"
    if kind == "missing":
        return f"{where}: {named} is missing."
    if kind == "literal_error":
        names = context["expected"].replace(" or ", ",").split(",")
        return f"{where}: {named} is {given!r}, which is not a valid name{_nearest_quoted(given, names)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = context["discriminator"].strip("'")
        field = f"{field}.{key}" if field else key
        if kind == "union_tag_not_found":
            return f"{where}: field '{field}' is missing."
        tag, names = context["tag"], context["expected_tags"].split(",")
        return f"{where}: field '{field}' is {tag!r}, which is not a valid name{_nearest_quoted(tag, names)}"
    if kind == "unusable_part":
        field = f"{field}.kind" if field else "kind"
        return f"{where}: field '{field}' is {given['kind']!r}, {context['reason']}."
    if kind in _TYPE_WORDS:
        return f"{where}: {named} is {given!r} but must be {_TYPE_WORDS[kind]}."
    if kind == "too_short":
        least = context["min_length"]
        return f"{where}: {named} is {given or 'empty'}; give at least {least}."
    if kind == "value_error":
        return f"{where}: {named} is refused: {context['error']}."
    message = problem["msg"].removeprefix("Input should be ").rstrip(".")
    return f"{where}: {named} is {given!r} but must be {message}."


def _refuse_other_keys(value: Any, where: str, prefix: str) -> None:
    """YAML reads 1, 1.5, yes, no, on, off and null as something else than text, also before a colon."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_other_keys(item, where, f"{prefix}.{index}" if prefix else str(index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                place = f"field '{prefix}'" if prefix else "the file"
                raise UserError(f"{where}: {place} has the name {key!r}, which YAML does not read as text; quote it.")
            _refuse_other_keys(item, where, f"{prefix}.{key}" if prefix else key)


def validate(
    annotation: Any, value: Any, where: str, prefix: str = "", *, context: dict[str, str] | None = None
) -> Any:
    """Validate ``value`` as ``annotation`` (a model or a union of models); UserError names file and field."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: must hold a mapping of fields, found {type(value).__name__}.")
    _refuse_other_keys(value, where, prefix)
    try:
        return TypeAdapter(annotation).validate_python(value, context=context)
    except ValidationError as error:
        raise UserError(explain(error, annotation, value, where, prefix)) from error


def validate_written(
    annotation: Any, value: Any, where: str, remedy: str, *, context: dict[str, str] | None = None
) -> Any:
    """The same of what the program itself wrote: who finds it damaged is told to make it anew, not to correct it."""
    try:
        return validate(annotation, value, where, context=context)
    except UserError as error:
        problem = str(error).partition("; did you mean")[0].partition("; valid are")[0].removesuffix(".")
        raise UserError(f"{escape(problem, most=_LONGEST_PROBLEM)}; {remedy}.") from error
