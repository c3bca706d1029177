"""Run lock: one training process (or launcher) at a time in a run's folder, with its owner on record."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tood.io.errors import TransientError, UserError
from tood.io.lock import lock_file
from tood.io.read import read_json
from tood.io.write import write_json
from tood.training.processes.stopping import starters

log = logging.getLogger(__name__)

_PATIENCE = 60.0  # seconds for a trainer that is ending; it saves its state within 30


class Owner(BaseModel):
    """The process that trains a run, as it describes itself beside the lock."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    starters: list[int] = []
    """Processes that wait for it; without one of them it is an orphan, which ends by itself."""
    ending: bool = False
    """It was asked to stop and is saving its state."""

    @classmethod
    def here(cls) -> "Owner":
        return cls(host=socket.gethostname(), pid=os.getpid(), starters=starters())

    def missing_starters(self) -> list[int]:
        if self.host != socket.gethostname():
            return []
        return [pid for pid in self.starters if not Path(f"/proc/{pid}").exists()]

    def description(self) -> str:
        return f"process {self.pid}" + (f" on {self.host}" if self.host != socket.gethostname() else "")


class Hold:
    """The lock while it is held."""

    def __init__(self, file: Path, owner: Owner) -> None:
        self._file, self._owner = file, owner

    def ending(self) -> None:
        """Tell processes that wait for the lock that it will be free in a moment."""
        write_json(self._file, self._owner.model_copy(update={"ending": True}).model_dump())


@contextmanager
def exclusive(state: Path, patience: float = _PATIENCE) -> Iterator[Hold]:
    """Keep every other trainer out of the run whose ``state`` folder this is, while the block runs.

    A trainer that is about to end (asked to stop, or an orphan whose workflow was killed) is waited for. Raises
    TransientError, which names the process, for any other and for one that does not end within ``patience`` seconds.
    """
    file = state / "owner.json"
    said = False

    def waiting(seconds: float) -> None:
        nonlocal said
        owner = _owner(file)
        _refuse_unless_ending(state.parent, owner, seconds > patience)
        if owner is not None and not said:
            said = True
            log.info("waiting for %s, which is about to stop training this run", owner.description())

    with lock_file(state / "lock", state.parent, waiting):
        try:
            here = Owner.here()
            write_json(file, here.model_dump())
            yield Hold(file, here)
        finally:
            file.unlink(missing_ok=True)


def _owner(file: Path) -> Owner | None:
    """The owner of the lock; None in the moment before it is written."""
    try:
        return Owner.model_validate(read_json(file))
    except (UserError, ValidationError):
        return None


def _refuse_unless_ending(run: Path, owner: Owner | None, late: bool) -> None:
    if owner is None:
        if late:
            raise TransientError(f"{run}: another process is training this run; wait for it or stop it, then repeat.")
        return
    gone = owner.missing_starters()
    if not (gone or owner.ending):
        if owner.host != socket.gethostname():  # it may have failed, with the file server yet to notice
            raise TransientError(
                f"{run}: {owner.description()} is training this run already, as far as can be told from here; stop it "
                "there, then repeat."
            )
        raise TransientError(
            f"{run}: {owner.description()} is training this run already; wait for it or stop it with "
            f"'kill {owner.pid}' (it saves its state first), then repeat."
        )
    if late:
        why = f"process {gone[0]}, which started it, is gone" if gone else "it was asked to stop"
        raise TransientError(
            f"{run}: {owner.description()} still trains this run although {why}; stop it with 'kill -9 {owner.pid}', "
            "then repeat."
        )
