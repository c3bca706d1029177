"""Permanent failures, remembered so that a workflow's retries of the same command end at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tood.io.errors import StoppedError, TransientError, UserError
from tood.io.read import read_json
from tood.io.write import write_json


@contextmanager
def failures_remembered(state: Path, attempt: int, command: str) -> Iterator[None]:
    """Run the block, unless it is the second or a later ``attempt`` and this ``command`` failed for good before.

    A first attempt always runs, since the cause may have been corrected. Raises UserError with the sentences of the
    attempt before.
    """
    memory = state / "failure.json"
    if attempt > 1 and (said := _remembered(memory, command)):
        raise UserError(*said)
    with suppress(OSError):
        memory.unlink(missing_ok=True)
    try:
        yield
    except (TransientError, StoppedError):
        raise
    except UserError as error:
        with suppress(UserError):
            write_json(memory, {"command": command, "said": error.sentences})
        raise


def _remembered(memory: Path, command: str) -> list[str]:
    """The sentences of the same command's failure; empty if there are none, or the file cannot be read."""
    try:
        content = read_json(memory)
    except UserError:
        return []
    known = isinstance(content, dict) and content.get("command") == command
    said = content.get("said") if known else None
    return [str(sentence) for sentence in said] if isinstance(said, list) else []
