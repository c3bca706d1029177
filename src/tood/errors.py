"""The one exception a user is meant to read, and wording that such sentences share."""

from collections.abc import Sequence


class UserError(Exception):
    """Something the user can put right: one clear sentence naming the file, the field and what to do.

    The command line prints the message without a traceback (unless ``--debug``) and exits with 2.
    """


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names for a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
