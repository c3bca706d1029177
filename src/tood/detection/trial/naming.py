"""How the sentences of a trial name a class, its file and the line of a failure."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

from tood.config.parts import Part, is_own
from tood.io.errors import UserError

_PACKAGE = Path(__file__).parents[3]


def file_of(part: type[Part]) -> str:
    """The file of a class, from the project's folder or from the package's."""
    path = Path(inspect.getfile(part))
    for folder in (Path.cwd(), _PACKAGE):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(path)


def named(part: type[Part]) -> str:
    """How a sentence about a class begins."""
    return f"{file_of(part)}: class {part.__name__}"


@contextmanager
def failures_named(parts: Sequence[Part], situation: str) -> Iterator[None]:
    """Turn what own code raises into a UserError with its class, file and line; the package's own errors are bugs."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        own = [type(part) for part in parts if is_own(type(part))]
        if not own:
            raise
        for frame in reversed(extract_tb(error.__traceback__)):
            for part in own:
                if frame.filename == inspect.getfile(part):
                    raise UserError(_failure(part, situation, error, f", line {frame.lineno}")) from error
        raise UserError(_failure(own[0], situation, error, "")) from error


def _failure(part: type[Part], situation: str, error: Exception, line: str) -> str:
    said = " ".join(f"{error}".split())
    return (
        f"{named(part)} cannot be trained: {situation} it raises {type(error).__name__}{line}"
        f"{': ' if said else ''}{said}; --debug shows the calls that lead there."
    )
