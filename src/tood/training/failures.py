"""Failures that no repetition can heal, remembered so that a workflow's retries end at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tood.errors import StoppedError, TransientError, UserError
from tood.files import write_text


@contextmanager
def failures_remembered(state: Path, attempt: int) -> Iterator[None]:
    """Run the block, unless it is the second or a later ``attempt`` and the one before failed for good.

    A first attempt is a person's: whatever was wrong may have been put right, so it always tries. Raises UserError
    with the sentence of the attempt before.
    """
    memory = state / "failure.txt"
    if attempt == 1:
        with suppress(OSError):
            memory.unlink(missing_ok=True)
    elif memory.exists():
        raise UserError(memory.read_text(encoding="utf-8").strip())
    try:
        yield
    except (TransientError, StoppedError):
        raise
    except UserError as error:
        with suppress(UserError):
            write_text(memory, f"{error}\n")
        raise
