"""Error messages of configuration files: one clear sentence for each validation error."""

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tood.config.parts import Part
from tood.config.values import remedy_for, typed
from tood.io.errors import UserError, listed
from tood.io.escape import escape
from tood.io.names import nearest_name

_LONGEST_PROBLEM = 500  # characters; values that it quotes can have any length
_MOST_NAMES = 30

_TYPES: dict[str, type] = {
    "int_type": int,
    "int_parsing": int,
    "int_parsing_size": int,
    "int_from_float": int,
    "float_type": float,
    "float_parsing": float,
    "string_type": str,
    "bool_type": bool,
    "bool_parsing": bool,
    "list_type": list,
    "tuple_type": list,
    "dict_type": dict,
    "model_type": dict,
    "model_attributes_type": dict,
}
_TYPE_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


def nearest(value: object, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or the list of valid names, ready to end a sentence with.

    What is suggested is never ``value`` itself. Where the two look the same, or differ in their type, that is said.
    """
    names = sorted(set(valid))
    if not isinstance(value, str) and (meant := remedy_for(value, str, names)):
        return f"; {meant}."
    given = str(value)
    like = nearest_name(given, names)
    if like is not None:
        return f"; {like.reason}: did you mean '{like.name}'?" if like.reason else f"; did you mean '{like.name}'?"
    others = [name for name in names if name != given]
    return f"; valid are {listed(others, _MOST_NAMES)}." if others else "."


def _nearest_quoted(value: object, quoted: Iterable[str]) -> str:
    return nearest(value, [name.strip("'\" ") for name in quoted])


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _is_tag(step: str | int, value: Any) -> bool:
    """Whether a step of pydantic's location is the tag of a union, and so no field of ``value``."""
    return isinstance(value, dict) and step not in value and step in value.values()


def _has_tag(model: type[BaseModel], tag: str | int) -> bool:
    return any(get_args(field.annotation) == (tag,) for field in model.model_fields.values())


def _field_names(models: Sequence[type[BaseModel]], path: Sequence[str | int], value: Any) -> set[str]:
    """Names of the fields that can be given at ``path`` below the models; a block's name is its file's."""
    for step in path:
        if _is_tag(step, value):
            models = [model for model in models if _has_tag(model, step)]
            continue
        value = value.get(step, value) if isinstance(value, dict) else value
        deeper = [
            found.of_kind(value) if issubclass(found, Part) and "listed" in vars(found) else found
            for model in models
            if str(step) in model.model_fields
            for found in _models_in(model.model_fields[str(step)].annotation)
        ]
        models = deeper or models
    return {name for model in models for name in model.model_fields} - {"name"}


def _without_tags(path: Sequence[str | int], value: Any) -> list[str]:
    """Drop the union tags that pydantic puts into an error's location."""
    kept: list[str] = []
    for step in path:
        if _is_tag(step, value):
            continue
        kept.append(str(step))
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            value = None
    return kept


def explain(
    error: ValidationError, annotation: Any, value: Any, where: str, prefix: str = "", *, advise: bool = True
) -> list[str]:
    """The problems of a validation, one sentence each, in pydantic's order.

    ``where`` is the file; ``prefix`` the dotted path of ``value`` inside that file; with ``advise`` a sentence says how
    a person writes such a value.
    """
    problems = [one for problem in error.errors() for one in _single(problem)]
    return list(dict.fromkeys(_sentence(one, annotation, value, where, prefix, advise) for one in problems))


def _single(problem: ErrorDetails) -> list[ErrorDetails]:
    """The reasons that one of our validators gave, one by one; it may raise several at once."""
    error = problem.get("ctx", {}).get("error")
    reasons = error.args if type(error) is ValueError else ()
    return [{**problem, "ctx": {"error": reason}} for reason in reasons] if len(reasons) > 1 else [problem]


def _sentence(problem: ErrorDetails, annotation: Any, value: Any, where: str, prefix: str, advise: bool) -> str:
    kind, given, context, location = problem["type"], problem["input"], problem.get("ctx", {}), problem["loc"]
    of_a_key = kind == "string_type" and location[-1] == "[key]"
    if kind == "invalid_key" or of_a_key:
        location = location[: -2 if of_a_key else -1]
    path = _without_tags(location, value)
    if kind == "missing":  # a field is not a tag, even where it has the name of another field's value
        path = [*_without_tags(location[:-1], value), str(location[-1])]
    field = ".".join(part for part in (prefix, *path) if part)
    named = f"field '{field}'" if field else "the file"
    if kind == "invalid_key" or of_a_key:
        # YAML reads 1, 1.5, yes, no, on, off and null as something else than text, also before a colon.
        return f"{where}: {named} has the name {given!r}, which YAML does not read as text; quote it."
    if kind == "extra_forbidden":
        valid = _field_names(_models_in(annotation), problem["loc"][:-1], value)
        return f"{where}: {named} is unknown{nearest(path[-1], valid)}"
    if kind == "missing":
        return f"{where}: {named} is missing."
    if kind == "literal_error":
        names = context["expected"].replace(" or ", ",").split(",")
        return f"{where}: {named} is {_name(given)}, which is not a valid name{_nearest_quoted(given, names)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = context["discriminator"].strip("'")
        field = f"{field}.{key}" if field else key
        if kind == "union_tag_not_found":
            return f"{where}: field '{field}' is missing."
        tag, names = given.get(key, context["tag"]), context["expected_tags"].split(",")
        return f"{where}: field '{field}' is {_name(tag)}, which is not a valid name{_nearest_quoted(tag, names)}"
    if kind == "unusable_part":
        field = f"{field}.kind" if field else "kind"
        return f"{where}: field '{field}' is {given['kind']!r}, {context['reason']}."
    if kind in _TYPES:
        wanted = _TYPES[kind]
        remedy = remedy_for(given, wanted) if advise else ""
        return f"{where}: {named} is {typed(given)} but must be {_TYPE_WORDS[wanted]}{'; ' if remedy else ''}{remedy}."
    if kind == "too_short":
        least = context["min_length"]
        return f"{where}: {named} is {given or 'empty'}; give at least {least}."
    if kind == "value_error":
        return f"{where}: {named} is refused: {context['error']}."
    message = problem["msg"].removeprefix("Input should be ").rstrip(".")
    return f"{where}: {named} is {given!r} but must be {message}."


def _name(given: object) -> str:
    return repr(given) if isinstance(given, str) else typed(given)


def validate(
    annotation: Any, value: Any, where: str, prefix: str = "", *, context: dict[str, str] | None = None
) -> Any:
    """Validate ``value`` as ``annotation`` (a model or a union of models).

    Raises UserError with a sentence for each problem, which names file and field.
    """
    return _validated(annotation, value, where, prefix, context, advise=True)


def _validated(
    annotation: Any, value: Any, where: str, prefix: str, context: dict[str, str] | None, *, advise: bool
) -> Any:
    if not isinstance(value, dict) and not advise:
        raise UserError(f"{where}: must hold a mapping of fields, but is {typed(value)}.")
    if not isinstance(value, dict):
        names = listed(sorted(_field_names(_models_in(annotation), [], value)))
        remedy = (value is not None and remedy_for(value, dict)) or "write each as 'name: value' in a line of its own"
        raise UserError(f"{where}: must hold a mapping of fields (such as {names}), but is {typed(value)}; {remedy}.")
    try:
        return TypeAdapter(annotation).validate_python(value, context=context)
    except ValidationError as error:
        raise UserError(*explain(error, annotation, value, where, prefix, advise=advise)) from error


def validate_written(
    annotation: Any, value: Any, where: str, remedy: str, *, context: dict[str, str] | None = None
) -> Any:
    """Like :func:`validate`, for files that the program wrote: the message says to make them anew."""
    try:
        return _validated(annotation, value, where, "", context, advise=False)
    except UserError as error:
        problem = error.sentences[0].partition("; did you mean")[0].partition("; valid are")[0].removesuffix(".")
        raise UserError(f"{escape(problem, most=_LONGEST_PROBLEM)}; {remedy}.") from error
