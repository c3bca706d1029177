"""The failure of one of several processes: the others end too, although what they wait for may never come."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tood.io.shared_constants import RAISED, USER_ERROR

_LOOK_EVERY = 1.0  # seconds
_COURTESY = 5.0  # seconds; a process that fails by itself says why


@contextmanager
def ends_with_peers() -> Iterator[None]:
    """End this process, within seconds, when one of its peers has failed for good while the block runs.

    A process that waits for a peer on a GPU (NCCL) does not learn of the peer's end, and no signal takes it out of
    that wait. Nothing is lost: the last checkpoint remains.
    """
    over = threading.Event()
    if file := os.environ.get(RAISED):
        threading.Thread(target=_watch, args=[Path(file), over], name="watch-peers", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(file: Path, over: threading.Event) -> None:
    while not over.wait(_LOOK_EVERY):
        if file.exists() and not over.wait(_COURTESY):
            os._exit(USER_ERROR)
