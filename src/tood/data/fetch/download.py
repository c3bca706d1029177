"""Downloading an archive: resumed after an interruption, verified before it is used."""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import requests
import urllib3.exceptions

from tood.config.upstream import Archive
from tood.data.fetch.manifest import digests
from tood.io.deadline import with_deadline
from tood.io.errors import TransientError, UserError

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_AGAIN = "the part downloaded so far is kept; run the same command again to go on, or give a 'mirror'"


@dataclass(frozen=True)
class Patience:
    """When to give up: seconds to connect, seconds of silence, tries in a row that transfer next to nothing.

    Silence is less than ``slowest`` bytes a second, too.
    """

    connect: float = 15.0
    silence: float = 60.0
    slowest: float = 1000.0
    tries: int = 4
    pause: float = 2.0
    report_every: float = 5.0

    @property
    def next_to_nothing(self) -> float:
        """Bytes."""
        return self.silence * self.slowest


DEFAULT_PATIENCE = Patience()


class _TransferError(Exception):
    """A download attempt ended early; the text says why, in words that follow "the server"."""


def archive_name(archive: Archive) -> str:
    """File name of an archive, from its URL."""
    return unquote(PurePosixPath(urlsplit(archive.url).path).name)


def download(archive: Archive, folder: Path, patience: Patience = DEFAULT_PATIENCE) -> Path:
    """Download an archive into ``folder`` and return its path; a partial file of an earlier attempt is continued.

    Raises UserError when the server cannot be reached, refuses, stalls, or gives something else than the
    size and checksums of ``archive`` say (then nothing is kept, so that a new try starts afresh).
    """
    target = folder / archive_name(archive)
    if target.is_file():
        try:
            verify_archive(archive, target)
        except UserError as error:
            log.info("%s Downloading it again.", error)
            target.unlink()
        else:
            return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch(archive, part, patience)
            break
        except _TransferError as error:
            failures = failures + 1 if _size(part) - before <= patience.next_to_nothing else 0
            if failures >= patience.tries:
                raise TransientError(f"{archive.url}: the server {error}; {_AGAIN}.") from error
            log.info("%s: the server %s; trying again", target.name, error)
            time.sleep(patience.pause * failures)
    try:
        verify_archive(archive, part)
    except UserError:
        _forget(part)
        raise
    part.replace(target)
    _forget(part)
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


def _version_file(part: Path) -> Path:
    """The file that keeps the server's version of a partial file, so that two versions are never joined."""
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _version(response: requests.Response) -> str:
    """The server's name (ETag) for the version that it sends, if it identifies exactly these bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _fetch(archive: Archive, part: Path, patience: Patience) -> None:
    """One try: continue the partial file to its end."""
    headers = {"Accept-Encoding": "identity"}
    version = _version_file(part).read_text(encoding="utf-8") if _version_file(part).is_file() else ""
    # Without a version or a checksum of the whole, a file joined from two versions would go unnoticed.
    have = _size(part) if version or archive.md5 or archive.sha256 else 0
    if have:
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    with _transfer_errors(archive.url, patience), _ask(archive.url, headers, patience) as response:
        if response.status_code == 206 and version and _version(response) not in ("", version):
            _forget(part)
            raise _TransferError("has another version of the file now")
        start, total = _offered_range(archive, response, have)
        if total is not None and start >= total:
            return
        _check_space(part, archive, start, total)
        progress = _DownloadProgress(archive_name(archive), start, total, patience.report_every)
        with part.open("r+b" if start else "wb") as sink:
            sink.seek(start)
            sink.truncate()
            sink.flush()
            _version_file(part).write_text(
                _version(response), encoding="utf-8"
            )  # version of the bytes that are there now
            for chunk in _pieces(response, patience):
                sink.write(chunk)
                progress.add(len(chunk))
            sink.flush()
            os.fsync(sink.fileno())
        if total is not None and progress.have < total:
            raise _TransferError(f"broke off after {_amount(progress.have)} of {_amount(total)}")


def _ask(url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The server's response; its headers have to arrive in time too."""
    timeouts = (patience.connect, patience.silence)
    return with_deadline(sum(timeouts), lambda: requests.get(url, headers=headers, stream=True, timeout=timeouts))


def _pieces(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The bytes as the server sends them, in pieces, without undoing any compression that it declares."""
    began, received = time.monotonic(), 0
    while chunk := response.raw.read1(_CHUNK, decode_content=False):
        yield chunk
        received += len(chunk)
        if (passed := time.monotonic() - began) >= patience.silence:
            if received < patience.slowest * passed:
                raise _TransferError(f"sent only {_amount(received)} in {passed:.0f} seconds")
            began, received = time.monotonic(), 0


def _offered_range(archive: Archive, response: requests.Response, have: int) -> tuple[int, int | None]:
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
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError(
                f"{archive.url}: the server sends a web page instead of the file (a login, perhaps); "
                "correct the address in the data set's file or give a 'mirror'."
            )
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
def _transfer_errors(url: str, patience: Patience) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.ConnectTimeout as error:
        raise _TransferError(f"did not answer within {patience.connect:g} seconds") from error
    except TimeoutError as error:
        raise _TransferError("takes too long to answer") from error
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise _TransferError(f"sent nothing for {patience.silence:g} seconds") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError) as error:
        raise _TransferError("broke the transfer off") from error
    except requests.exceptions.ConnectionError as error:
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


class _DownloadProgress:
    """Logs from time to time how far a download is."""

    def __init__(self, name: str, start: int, total: int | None, every: float) -> None:
        self.have = start
        self._name, self._start, self._total, self._every = name, start, total, every
        self._began = self._reported = time.monotonic()
        if start:
            log.info("%s: continuing after %s", name, _amount(start))

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
        log.info("%s, %s/s", line, _amount(rate))
