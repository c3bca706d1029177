"""Checkpoints to resume a training from: written atomically, verified by digest when read, the last two kept."""

import hashlib
import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from tood.io.os_errors import machine_failure
from tood.io.write import atomic_path, remove, write_json

log = logging.getLogger(__name__)

_KEEP = 2
_MAGIC = b"tood-state-3\n"
_DIGEST_LENGTH = 64  # of the hexadecimal SHA-256 over the content, at the end of the file


class _Digested:
    """A stream that computes the digest while writing, so that a state is in memory only once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def forget_states(state: Path) -> None:
    """Remove all resume state of a run that is complete and evaluated; the lock's files stay."""
    for entry in state.iterdir() if state.is_dir() else ():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)


class CheckpointStore:
    """The checkpoints of one run's fingerprint, below its ``state`` folder."""

    def __init__(self, state: Path, fingerprint: str) -> None:
        self.state = state
        self.folder = state / fingerprint

    def files(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, step: int, value: Any) -> None:
        """Write the state reached after ``step`` steps, and keep the one before it.

        Others are removed, also of later steps: those were refused, and would count as newer than this one.
        """
        target = self.folder / f"step-{step:09d}.pt"
        if target.is_dir():
            remove(target)
        with atomic_path(target) as path, path.open("wb") as handle:
            handle.write(_MAGIC)
            body = _Digested(handle)
            torch.save(value, cast(IO[bytes], body))
            handle.write(body.digest.hexdigest().encode())
        kept = [path for path in self.files() if path.name <= target.name][:_KEEP]
        for other in self.files():
            if other not in kept:
                remove(other)

    def load(self, fits: Callable[[Any], bool] = lambda _: True) -> Any | None:
        """The newest intact state that ``fits``, or None; any other is named and passed over."""
        files = self.files()
        for path in files:
            state = _read(path)
            if state is not None and fits(state):
                return state
            is_last = path == files[-1]
            then = "there is no other, so the training starts anew" if is_last else "using the checkpoint before it"
            log.info("%s: is damaged or from another version; %s.", path, then)
        return None

    def others(self) -> list[str]:
        """Fingerprints of other configurations that left a state here."""
        if not self.state.is_dir():
            return []
        return sorted(entry.name for entry in self.state.iterdir() if entry.is_dir() and entry != self.folder)

    def describe(self, science: dict[str, Any]) -> None:
        """Keep the configuration beside its state, so that a later change can be named."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "science.json", science)


def _read(path: Path) -> Any | None:
    """The state in a file; None where it is damaged or no file. Raises what the machine is to blame for."""
    if not path.is_file():
        return None
    content = memoryview(path.read_bytes())
    head, rest = content[: len(_MAGIC)], content[len(_MAGIC) :]
    body, tail = rest[:-_DIGEST_LENGTH], rest[-_DIGEST_LENGTH:]
    if head != _MAGIC or tail != hashlib.sha256(body).hexdigest().encode():
        return None
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; a forged digest runs no code either
        if machine_failure(error):  # an intact state that does not fit into memory is not damaged
            raise
        return None
