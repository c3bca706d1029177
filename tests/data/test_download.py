"""Downloads against a local server that cuts, stalls, refuses and lies."""

import gzip
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tood.config.upstream import Archive
from tood.data.fetch.download import Patience, archive_name, download
from tood.io.errors import UserError

CONTENT = bytes(range(256)) * 4000
BLOCK = 1 << 14
QUICK = Patience(connect=2.0, silence=0.3, tries=2, pause=0.0, report_every=0.0)


@dataclass
class Behaviour:
    """What the server does; it keeps the Range header of every request."""

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)  # break off after so many bytes, one request each
    stall: bool = False
    ranges: bool = True
    status: int = 200
    failures: int = 0
    etag: str = '"one"'
    length: bool = True
    says: int | None = None  # as the length, whatever is true
    pause: float = 0.0  # seconds before each byte of the body
    headers: dict[str, str] = field(default_factory=dict)
    to: str = ""  # where to go instead
    heeds_if_range: bool = True
    asked: list[str | None] = field(default_factory=list)


class Server:
    def __init__(self) -> None:
        self.behaviour = Behaviour()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # clients that went away are the point here
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/sets/archive.zip?version=3"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        do = self.behaviour
        asked = request.headers.get("Range")
        do.asked.append(asked)
        if do.failures:
            do.failures -= 1
            request.send_error(503)
            return
        if do.status != 200:
            request.send_error(do.status)
            return
        if do.to:
            request.send_response(302)
            request.send_header("Location", do.to)
            request.end_headers()
            return
        same = not do.heeds_if_range or request.headers.get("If-Range") in (None, do.etag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and do.ranges and same else 0
        if start and start >= len(do.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(do.content)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(do.content) - 1}/{len(do.content)}")
        if do.length:
            request.send_header("Content-Length", str(do.says or len(do.content) - start))
        if do.etag:
            request.send_header("ETag", do.etag)
        for name, value in do.headers.items():
            request.send_header(name, value)
        request.end_headers()
        end = start + do.cuts.pop(0) if do.cuts else len(do.content)
        for position in range(start, end) if do.pause else ():
            request.wfile.write(do.content[position : position + 1])
            request.wfile.flush()
            time.sleep(do.pause)
        if not do.pause:
            request.wfile.write(do.content[start:end])
        if do.stall:
            request.wfile.flush()
            time.sleep(2)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def archive(server: Server, **fields: object) -> Archive:
    return Archive(url=server.url, **fields)


def fetch(server: Server, folder: Path, **fields: object) -> Path:
    return download(archive(server, **fields), folder, QUICK)


def test_a_download_is_complete_checked_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    digests = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha256")}
    path = fetch(server, tmp_path, size=len(CONTENT), **digests)
    assert path == tmp_path / "archive.zip"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["archive.zip"]


def test_a_finished_file_is_checked_but_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    fetch(server, tmp_path, size=len(CONTENT))
    assert len(server.behaviour.asked) == 1


def test_a_finished_file_that_does_not_fit_any_more_is_replaced(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    server.behaviour = Behaviour(content=CONTENT[::-1])
    path = fetch(server, tmp_path, md5=hashlib.md5(CONTENT[::-1]).hexdigest())
    assert path.read_bytes() == CONTENT[::-1]


def test_a_cut_connection_is_continued_where_it_broke_off(server: Server, tmp_path: Path, said: list[str]) -> None:
    server.behaviour.cuts = [20 * BLOCK, 10 * BLOCK, BLOCK + 1]
    path = download(archive(server), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert server.behaviour.asked == [None, *(f"bytes={count}-" for count in (20 * BLOCK, 30 * BLOCK, 31 * BLOCK + 1))]
    assert any("trying again" in line for line in said)
    assert any("continuing after 327.7 kB" in line for line in said)
    assert any("of 1.0 MB" in line for line in said)


def test_the_part_of_an_earlier_run_is_continued(server: Server, tmp_path: Path) -> None:
    server.behaviour.cuts = [20 * BLOCK, 0, 0]
    with pytest.raises(UserError, match="run the same command again to go on"):
        fetch(server, tmp_path)
    assert not (tmp_path / "archive.zip").exists()
    server.behaviour.asked.clear()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.asked == [f"bytes={20 * BLOCK}-"]


def test_a_part_that_is_already_whole_is_accepted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.zip.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest()).read_bytes() == CONTENT


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": '"two"'}])
def test_a_server_without_ranges_or_with_another_version_starts_afresh(
    server: Server, tmp_path: Path, change: dict[str, object]
) -> None:
    server.behaviour.cuts = [20 * BLOCK, 0, 0]
    with pytest.raises(UserError):
        fetch(server, tmp_path)
    server.behaviour = Behaviour(content=CONTENT[::-1], **change)
    assert fetch(server, tmp_path).read_bytes() == CONTENT[::-1]


def test_a_server_that_names_no_length_is_believed_to_its_end(server: Server, tmp_path: Path) -> None:
    server.behaviour.length = False
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_missing_length_does_not_hide_a_cut_when_the_size_is_known(server: Server, tmp_path: Path) -> None:
    server.behaviour = Behaviour(length=False, cuts=[BLOCK])
    assert fetch(server, tmp_path, size=len(CONTENT)).read_bytes() == CONTENT
    assert server.behaviour.asked == [None, f"bytes={BLOCK}-"]


def test_a_stalled_server_gives_one_sentence_in_time(server: Server, tmp_path: Path) -> None:
    server.behaviour = Behaviour(stall=True, cuts=[BLOCK, 0, 0, 0])
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        fetch(server, tmp_path)
    assert time.monotonic() - began < 3
    assert "the server sent nothing for 0.3 seconds; the part downloaded so far is kept" in str(error.value)
    assert (tmp_path / "archive.zip.part").read_bytes() == CONTENT[:BLOCK]


@pytest.mark.parametrize("name", ["md5", "sha256"])
def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path, name: str) -> None:
    wrong = "ab" * {"md5": 16, "sha256": 32}[name]
    with pytest.raises(UserError, match=f"has the {name} .* instead of {wrong}"):
        fetch(server, tmp_path, **{name: wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_length_is_refused_before_anything_is_downloaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the server offers 1,024,000 bytes instead of 1,000"):
        fetch(server, tmp_path, size=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_length_without_announcement_is_refused_too(server: Server, tmp_path: Path) -> None:
    server.behaviour.length = False
    with pytest.raises(UserError, match="has 1,024,000 bytes instead of 1,000"):
        fetch(server, tmp_path, size=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_final_but_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.behaviour.status = 404
    with pytest.raises(UserError, match="answered 404 Not Found; correct the address"):
        fetch(server, tmp_path)
    assert len(server.behaviour.asked) == 1
    server.behaviour = Behaviour(failures=1)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    server.behaviour = Behaviour(failures=9)
    with pytest.raises(UserError, match="answered 503 Service Unavailable"):
        fetch(server, tmp_path / "other")


def test_a_server_that_trickles_is_given_up_like_a_silent_one(server: Server, tmp_path: Path) -> None:
    server.behaviour.pause = 0.05
    with pytest.raises(UserError, match=r"sent only \d+ bytes in 0 seconds; the part downloaded so far is kept"):
        fetch(server, tmp_path)
    assert len(server.behaviour.asked) == 2, "what it brought counts for nothing, and so do the tries"
    assert CONTENT.startswith((tmp_path / "archive.zip.part").read_bytes())


def test_a_length_that_is_too_long_is_seen_through(server: Server, tmp_path: Path) -> None:
    server.behaviour.says = len(CONTENT) + 1000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.asked == [None, f"bytes={len(CONTENT)}-"]


def test_a_length_that_is_too_short_is_refused_where_anything_can_tell(server: Server, tmp_path: Path) -> None:
    server.behaviour.says = len(CONTENT) - 1000
    with pytest.raises(UserError, match="the server offers 1,023,000 bytes instead of 1,024,000"):
        fetch(server, tmp_path, size=len(CONTENT))
    with pytest.raises(UserError, match="has the md5"):
        fetch(server, tmp_path, md5=hashlib.md5(CONTENT).hexdigest())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("etag", ['"one"', "", 'W/"one"'])
def test_parts_of_two_versions_are_never_joined(server: Server, tmp_path: Path, etag: str) -> None:
    """Neither by a server that changed its file and heeds no condition, nor by one that names no version."""
    server.behaviour = Behaviour(cuts=[20 * BLOCK, 0, 0], etag=etag)
    with pytest.raises(UserError):
        fetch(server, tmp_path)
    server.behaviour = Behaviour(content=CONTENT[::-1], etag=etag and '"two"', heeds_if_range=False)
    assert fetch(server, tmp_path).read_bytes() == CONTENT[::-1]
    assert [file.name for file in tmp_path.iterdir()] == ["archive.zip"]


def test_a_date_names_a_version_too(server: Server, tmp_path: Path) -> None:
    date = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    server.behaviour = Behaviour(cuts=[20 * BLOCK, 0, 0], etag="", headers=date, heeds_if_range=False)
    with pytest.raises(UserError):
        fetch(server, tmp_path)
    server.behaviour.asked.clear()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.asked == [f"bytes={20 * BLOCK}-"]


def test_a_declared_compression_is_left_alone(server: Server, tmp_path: Path) -> None:
    """Servers declare the gzip of a .tar.gz so; size and checksums are of the file as it lies there."""
    server.behaviour = Behaviour(content=gzip.compress(CONTENT, mtime=0), headers={"Content-Encoding": "x-gzip"})
    content = server.behaviour.content
    path = fetch(server, tmp_path, size=len(content), md5=hashlib.md5(content).hexdigest())
    assert path.read_bytes() == content


def test_a_web_page_is_no_archive(server: Server, tmp_path: Path) -> None:
    server.behaviour = Behaviour(content=b"<html>log in", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(UserError, match=r"sends a web page instead of the file \(a login, perhaps\); correct"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_circle_of_redirections_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.behaviour.to = server.url
    with pytest.raises(UserError, match=r"cannot be downloaded \(Exceeded 30 redirects.\); correct the address"):
        fetch(server, tmp_path)


def test_a_killed_download_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    server.behaviour = Behaviour(cuts=[20 * BLOCK], stall=True)
    script = (
        "import sys; from pathlib import Path; from tood.config.upstream import Archive\n"
        "from tood.data.fetch.download import download\n"
        "download(Archive(url=sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, server.url, str(tmp_path)])
    part = tmp_path / "archive.zip.part"
    while not part.exists() or part.stat().st_size < 19 * BLOCK:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.behaviour = Behaviour()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    (asked,) = server.behaviour.asked
    assert int(asked.removeprefix("bytes=").rstrip("-")) >= 19 * BLOCK


def test_nobody_listening_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be reached or closed the connection; .* give a 'mirror'"):
        download(Archive(url="http://127.0.0.1:9/a.zip"), tmp_path, QUICK)


def test_an_impossible_address_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ftp://nowhere/a.zip: cannot be downloaded"):
        download(Archive(url="ftp://nowhere/a.zip"), tmp_path, QUICK)


def test_the_file_name_comes_from_the_path_of_the_address() -> None:
    assert archive_name(Archive(url="https://x.org/a/My%20Set.zip?token=b/c.zip#d")) == "My Set.zip"
