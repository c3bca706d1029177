"""Pillow's flag ``LOAD_TRUNCATED_IMAGES``, by which it decodes files that end early, for one thread at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from PIL import ImageFile

_accepted: ContextVar[bool | None] = ContextVar("accepted", default=None)


class _FlagOfThread:
    """A value of Pillow's flag that is true for some threads: the flag itself is one for the whole process."""

    def __init__(self, usual: bool) -> None:
        self._usual = usual

    def __bool__(self) -> bool:
        accepted = _accepted.get()
        return self._usual if accepted is None else accepted


@contextmanager
def early_end_accepted(accepted: bool) -> Iterator[None]:
    """Whether Pillow decodes files that end early in the block, in this thread; for others nothing changes."""
    if not isinstance(ImageFile.LOAD_TRUNCATED_IMAGES, _FlagOfThread):
        usual = bool(ImageFile.LOAD_TRUNCATED_IMAGES)
        ImageFile.LOAD_TRUNCATED_IMAGES = _FlagOfThread(usual)  # type: ignore[assignment]
    token = _accepted.set(accepted)
    try:
        yield
    finally:
        _accepted.reset(token)


def is_early_end(error: OSError) -> bool:
    """Whether Pillow raised the error because a file ended before its decoder was done."""
    return error.errno is None and str(error).startswith("image file is truncated")
