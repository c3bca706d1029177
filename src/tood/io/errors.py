"""The exceptions a user is meant to read, and wording that such sentences share."""

import signal
from collections.abc import Sequence

from tood.io.shared_constants import TRY_AGAIN, USER_ERROR, status_of_signal


class UserError(Exception):
    """Something the user can put right: one clear sentence naming the file, the field and what to do.

    The command line prints the message without a traceback (unless ``--debug``) and exits with ``status``.
    """

    status = USER_ERROR


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
