"""The exceptions a user is meant to read, and wording that such sentences share."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tood.io.escape import escape
from tood.io.shared_constants import TRY_AGAIN, USER_ERROR, status_of_signal

_LONGEST_SENTENCE = 2000  # characters; names and values in it can have any length
_MOST_SENTENCES = 20


class UserError(Exception):
    """Something the user can put right: one clear sentence naming the file, the field and what to do, or several.

    The command line prints the message without a traceback (unless ``--debug``) and exits with ``status``.
    """

    status = USER_ERROR

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is to be put right, a sentence each."""
        return tuple(map(str, self.args))

    def lines(self) -> list[str]:
        """Each sentence as one line that any terminal takes: the first 20, and how many more there are."""
        shown = [escape(sentence, most=_LONGEST_SENTENCE) for sentence in self.sentences[:_MOST_SENTENCES]]
        more = len(self.sentences) - len(shown)
        return [*shown, f"and {more} more."] if more else shown

    def __str__(self) -> str:
        return self.sentences[0] if len(self.sentences) == 1 else "\n".join(self.lines())


class Problems:
    """What is wrong in several places, gathered so that the user reads all of it at once."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, *sentences: str) -> None:
        """Keep each sentence that was not said before."""
        self._sentences.update(dict.fromkeys(sentences))

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Keep what a UserError in the block says, and go on behind the block."""
        try:
            yield
        except UserError as error:
            self.add(*error.sentences)

    def raise_all(self) -> None:
        """Raise one UserError with everything that was gathered, if anything was."""
        if self._sentences:
            raise UserError(*self._sentences)


class TransientError(UserError):
    """What the same command may get over when it is repeated, such as a process killed from outside.

    The status is EX_TEMPFAIL of sysexits.h, by which a workflow engine can tell it from a user's error.
    """

    status = TRY_AGAIN


class StoppedError(UserError):
    """The process was asked to end, and what it had done is saved; the status is a shell's for that signal."""

    def __init__(self, sentence: str, number: int = signal.SIGTERM) -> None:
        super().__init__(sentence)
        self.status = status_of_signal(number)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names for a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
