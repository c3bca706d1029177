"""Operating system errors as one sentence: full disk, folder without write permission, out of memory."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of the space that your quota allows",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "make it writable, or work in another folder",
    errno.EACCES: "let this user read and write it, or work in another folder",
    errno.EPERM: "let this user read and write it, or work in another folder",
    errno.EIO: "the disk or its connection is failing, so save what is on it",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "remove the link that leads back to itself",
    errno.EISDIR: "remove the folder that is in the place of a file",
    errno.ENOTDIR: "remove the file that is in the place of a folder",
    errno.ESTALE: "the network disk has gone, so have it mounted again",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close programs that hold many files open",
    errno.ETOOMANYREFS: "raise the limit on open files (ulimit -n)",
    errno.EAGAIN: "raise the limit on processes (ulimit -u) or use fewer",
    errno.ENOMEM: "close other programs, or use fewer processes",
}
_MEMORY_WORDS = ("can't allocate memory", "cannot allocate memory", "out of memory", "unable to allocate")
_SAID_BY_ONEDNN = ("could not create a primitive", "could not create a memory object")
"""oneDNN's message when memory runs out; other errors have a longer text ("... a primitive descriptor for")."""
_UNMAPPED = "failed to map segment from shared object"
_FULL_DATABASE = "database or disk is full"
_MEMORY = (
    "{what} ran out of memory; use fewer data loading processes (--workers), compute each step in parts "
    "(--accumulate, or snakemake --config accumulate=2) or close other programs, then repeat the command."
)
_TAKES_MOST = 1 << 20


def refusal(place: Path | str, error: OSError, what: str = "cannot be written: ") -> str:
    """The sentence for a place that cannot be written."""
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{place}: {what}{reason}" + (f"; {remedy}, then repeat the command." if remedy else ".")


def write_error(file: Path) -> OSError | None:
    """The disk's error for writing ``file``, found by writing again: image libraries and PyTorch do not pass it on."""
    try:
        with file.open("ab") as handle:
            handle.write(bytes(_TAKES_MOST))
            os.fsync(handle.fileno())
    except OSError as error:
        return error
    return None


def machine_failure(error: BaseException) -> str | None:
    """One sentence if the machine, not a bug of the program, is the cause of an exception; else None."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in _REMEDIES:
            if link.errno == errno.ENOMEM:
                return _MEMORY.format(what="the program")
            return refusal(_place(link), link, what="")
        if _FULL_DATABASE in str(link):
            return "the MLflow database: cannot be written: its disk is full; free some space and repeat the command."
        if isinstance(link, MemoryError) or _speaks_of_memory(link):
            return _MEMORY.format(what="the GPU" if "CUDA" in str(link) else "the program")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and its causes, latest first."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _place(error: OSError) -> str:
    """The path that the operating system named, or the folder that commands run in."""
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else os.curdir


def _speaks_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. PyTorch raises RuntimeError for that on the CPU and a class of its own on GPUs."""
    said = str(error).lower().strip()
    if isinstance(error, ImportError | OSError):
        return _UNMAPPED in said and not _may_not_run(str(error))
    return isinstance(error, RuntimeError) and (
        said in _SAID_BY_ONEDNN or any(words in said for words in _MEMORY_WORDS)
    )


def _may_not_run(said: str) -> bool:
    """Whether the library that could not be mapped, "<path>: failed to map ...", is on a disk that forbids code."""
    try:
        return "not permitted" in said or bool(os.statvfs(said.partition(":")[0]).f_flag & os.ST_NOEXEC)
    except (OSError, ValueError):
        return False
