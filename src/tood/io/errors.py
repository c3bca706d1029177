"""Exceptions whose messages the user reads (UserError, TransientError, StoppedError), and shared wording."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tood.io.escape import escape
from tood.io.shared_constants import TRY_AGAIN, USER_ERROR, status_of_signal

_LONGEST_SENTENCE = 2000  # characters; names and values in it can have any length
_MOST_SENTENCES = 20


class UserError(Exception):
    """An error that the user can correct: one or several clear sentences naming the file, the field and what to do.

    The command line prints the message without a traceback (unless ``--debug``) and exits with ``status``.
    """

    status = USER_ERROR

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every problem, one sentence each."""
        return tuple(map(str, self.args))

    def lines(self) -> list[str]:
        """Each sentence as one line that is safe on any terminal: the first 20, and how many more there are."""
        shown = [escape(sentence, most=_LONGEST_SENTENCE) for sentence in self.sentences[:_MOST_SENTENCES]]
        more = len(self.sentences) - len(shown)
        return [*shown, f"and {more} more."] if more else shown

    def __str__(self) -> str:
        return self.sentences[0] if len(self.sentences) == 1 else "\n".join(self.lines())


class Problems:
    """Collects the problems of several places, so that the user reads all of them at once."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, *sentences: str) -> None:
        """Keep each sentence that is not there yet."""
        self._sentences.update(dict.fromkeys(sentences))

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Keep the sentences of a UserError in the block, and go on after the block."""
        try:
            yield
        except UserError as error:
            self.add(*error.sentences)

    def raise_all(self) -> None:
        """Raise one UserError with everything that was gathered, if anything was."""
        if self._sentences:
            raise UserError(*self._sentences)


class TransientError(UserError):
    """An error that may be gone when the same command is repeated, such as a process killed from outside.

    The status is EX_TEMPFAIL of sysexits.h, by which a workflow engine can tell it from a user's error.
    """

    status = TRY_AGAIN


class StoppedError(UserError):
    """The process was asked to end and has saved its state; the status is the shell's for that signal."""

    def __init__(self, sentence: str, number: int = signal.SIGTERM) -> None:
        super().__init__(sentence)
        self.status = status_of_signal(number)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first ``most`` names as text for a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
