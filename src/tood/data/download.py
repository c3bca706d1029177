"""Downloading an archive: resumed where it broke off, checked before it is used."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import requests

from tood.config.dataset import Archive
from tood.data.manifest import digests
from tood.errors import UserError

Echo = Callable[[str], None]
_CHUNK = 1 << 14  # of an interrupted chunk nothing is kept, so it is small
_AGAIN = "the part downloaded so far is kept; run the same command again to go on, or give a 'mirror'"


@dataclass(frozen=True)
class Patience:
    """When to give up: seconds to connect, seconds of silence, tries in a row that bring nothing new."""

    connect: float = 15.0
    silence: float = 60.0
    tries: int = 4
    pause: float = 2.0
    report_every: float = 5.0


DEFAULT_PATIENCE = Patience()


class _TransferError(Exception):
    """A try ended early; the text says why, in words that follow "the server"."""


def archive_name(archive: Archive) -> str:
    """File name of an archive, from its URL."""
    return unquote(PurePosixPath(urlsplit(archive.url).path).name)


def download(archive: Archive, folder: Path, echo: Echo, patience: Patience = DEFAULT_PATIENCE) -> Path:
    """Bring an archive into ``folder`` and return its path; what an earlier try left is continued.

    Raises UserError when the server cannot be reached, refuses, stalls, or gives something else than the
    size and checksums of ``archive`` say (then nothing is kept, so that a new try starts afresh).
    """
    target = folder / archive_name(archive)
    if target.is_file():
        try:
            verify_archive(archive, target)
        except UserError as error:
            echo(f"{error} Downloading it again.")
            target.unlink()
        else:
            return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch(archive, part, echo, patience)
            break
        except _TransferError as error:
            failures = failures + 1 if _size(part) <= before else 0
            if failures >= patience.tries:
                raise UserError(f"{archive.url}: the server {error}; {_AGAIN}.") from error
            echo(f"{target.name}: the server {error}; trying again")
            time.sleep(patience.pause * failures)
    try:
        verify_archive(archive, part)
    except UserError:
        part.unlink()
        _tag_file(part).unlink(missing_ok=True)
        raise
    part.replace(target)
    _tag_file(part).unlink(missing_ok=True)
    return target


def verify_archive(archive: Archive, file: Path) -> None:
    """Compare a file with the size and checksums of ``archive``; UserError names what differs."""
    size = file.stat().st_size
    if archive.size is not None and size != archive.size:
        raise UserError(f"{file}: has {size:,} bytes instead of {archive.size:,}; get a fresh copy.")
    expected = {name: value for name, value in (("md5", archive.md5), ("sha256", archive.sha256)) if value}
    for name, value in digests(file, list(expected)).items():
        if value != expected[name]:
            raise UserError(
                f"{file}: has the {name} {value} instead of {expected[name]}; "
                "the copy is damaged or of another version, so get a fresh one."
            )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _tag_file(part: Path) -> Path:
    """Where the server's version of a partial file is remembered, so that two versions are never joined."""
    return part.with_name(f"{part.name}.etag")


def _fetch(archive: Archive, part: Path, echo: Echo, patience: Patience) -> None:
    """One try: continue the partial file to its end."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _tag_file(part).is_file():
            headers["If-Range"] = _tag_file(part).read_text(encoding="utf-8")
    with (
        _interruptions(archive.url, patience),
        requests.get(
            archive.url, headers=headers, stream=True, timeout=(patience.connect, patience.silence)
        ) as response,
    ):
        start, total = _understand(archive, response, have)
        if total is not None and start >= total:
            return
        _check_space(part, archive, start, total)
        tag = response.headers.get("ETag", "")
        if tag and not tag.startswith("W/"):
            _tag_file(part).write_text(tag, encoding="utf-8")
        else:
            _tag_file(part).unlink(missing_ok=True)
        progress = _Progress(archive_name(archive), start, total, echo, patience.report_every)
        with part.open("r+b" if start else "wb") as sink:
            sink.seek(start)
            sink.truncate()
            for chunk in response.iter_content(_CHUNK):
                sink.write(chunk)
                progress.add(len(chunk))
        if total is not None and progress.have < total:
            raise _TransferError(f"broke off after {_amount(progress.have)} of {_amount(total)}")


def _understand(archive: Archive, response: requests.Response, have: int) -> tuple[int, int | None]:
    """(first byte, total bytes if known) of what the server is about to send."""
    status = response.status_code
    ranges = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    total = int(ranges[2]) if ranges and ranges[2] != "*" else None
    if status == 416 and total == have:
        return have, have
    if status == 206 and ranges and ranges[1] is not None and int(ranges[1]) == have:
        start = have
    elif status == 200:
        start = 0
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
    elif status in (206, 416):
        raise UserError(
            f"{archive.url}: the server cannot continue the part downloaded so far; "
            "delete it and run again, or give a 'mirror'."
        )
    elif status in (408, 429) or status >= 500:
        raise _TransferError(f"answered {status} {response.reason}")
    else:
        raise UserError(
            f"{archive.url}: the server answered {status} {response.reason}; "
            "correct the address in the data set's file or give a 'mirror'."
        )
    if archive.size is not None and total is not None and total != archive.size:
        raise UserError(
            f"{archive.url}: the server offers {total:,} bytes instead of {archive.size:,}; "
            "it is not the version that the data set's file describes, so give a 'mirror' of that one."
        )
    return start, total if total is not None else archive.size


@contextmanager
def _interruptions(url: str, patience: Patience) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.ConnectTimeout as error:
        raise _TransferError(f"did not answer within {patience.connect:g} seconds") from error
    except requests.exceptions.ReadTimeout as error:
        raise _TransferError(f"sent nothing for {patience.silence:g} seconds") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise _TransferError("broke the transfer off") from error
    except requests.exceptions.ConnectionError as error:
        if "Read timed out" in str(error):  # what requests makes of silence in the middle of a body
            raise _TransferError(f"sent nothing for {patience.silence:g} seconds") from error
        raise _TransferError("cannot be reached or closed the connection") from error
    except requests.exceptions.RequestException as error:
        raise UserError(f"{url}: cannot be downloaded ({error}); correct the address.") from error


def _check_space(part: Path, archive: Archive, start: int, total: int | None) -> None:
    if total is None:
        return
    free = shutil.disk_usage(part.parent).free
    if free < total - start:
        raise UserError(
            f"{part.parent}: has {_amount(free)} left, but {archive_name(archive)} needs "
            f"{_amount(total - start)}; free some space."
        )


def _amount(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class _Progress:
    """Says now and then how far a download is."""

    def __init__(self, name: str, start: int, total: int | None, echo: Echo, every: float) -> None:
        self.have = start
        self._name, self._start, self._total, self._echo, self._every = name, start, total, echo, every
        self._began = self._reported = time.monotonic()
        if start:
            echo(f"{name}: continuing after {_amount(start)}")

    def add(self, size: int) -> None:
        self.have += size
        now = time.monotonic()
        if now - self._reported < self._every:
            return
        self._reported = now
        rate = (self.have - self._start) / max(now - self._began, 1e-6)
        line = f"{self._name}: {_amount(self.have)}"
        if self._total:
            left = (self._total - self.have) / max(rate, 1.0)
            share = 100 * self.have / self._total
            line += f" of {_amount(self._total)} ({share:.0f} %), {left / 60:.0f} min left"
        self._echo(f"{line}, {_amount(rate)}/s")
