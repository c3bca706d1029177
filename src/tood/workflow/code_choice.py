"""The user's choice for finished trainings if only code changed since: keep, retrain, or ask."""

from dataclasses import dataclass
from typing import Literal, get_args

from tood.config.messages import nearest
from tood.io.errors import UserError

Choice = Literal["ask", "keep", "new"]
CODE_MINUTES = 10.0


@dataclass(frozen=True)
class CodeChoice:
    """Keep it, train it again, or ask where it took more than ``minutes``."""

    choice: Choice = "ask"
    minutes: float = CODE_MINUTES


def read_code_choice(
    choice: object, minutes: object, choice_from: str = "code", minutes_from: str = "code_minutes"
) -> CodeChoice:
    """The values of ``code`` and ``code_minutes``; UserError names the one that cannot be, by where it comes from."""
    found: list[Choice] = [one for one in get_args(Choice) if one == choice]
    if not found:
        valid = f"{', '.join(get_args(Choice)[:-1])} or {get_args(Choice)[-1]}"
        raise UserError(f"{choice_from}={choice}: must be {valid}{nearest(choice, get_args(Choice))}")
    try:
        number = float(str(minutes))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UserError(f"{minutes_from}={minutes}: must be a number of minutes, 0 or more.")
    return CodeChoice(found[0], number)
