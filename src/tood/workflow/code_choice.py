"""The user's choice for finished trainings if only code changed since: keep, retrain, or ask."""

from dataclasses import dataclass
from typing import Literal, get_args

from tood.io.errors import UserError

Choice = Literal["ask", "keep", "new"]
CODE_MINUTES = 10.0


@dataclass(frozen=True)
class CodeChoice:
    """Keep it, train it again, or ask where it took more than ``minutes``."""

    choice: Choice = "ask"
    minutes: float = CODE_MINUTES


def read_code_choice(choice: object, minutes: object) -> CodeChoice:
    """The values of ``code`` and ``code_minutes``; UserError names the one that cannot be."""
    found: list[Choice] = [one for one in get_args(Choice) if one == choice]
    if not found:
        raise UserError(f"code={choice}: must be {', '.join(get_args(Choice)[:-1])} or {get_args(Choice)[-1]}.")
    try:
        number = float(str(minutes))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UserError(f"code_minutes={minutes}: must be a number of minutes, 0 or more.")
    return CodeChoice(found[0], number)
