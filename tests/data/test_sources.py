import http.server
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tood.config.upstream import Archive, Source
from tood.data.fetch.download import Patience
from tood.data.fetch.manifest import Manifest, read_manifest, verify_counts
from tood.data.fetch.sources import obtain, obtained
from tood.io.errors import UserError

FILES = {"images/a.jpg": b"first", "images/b.jpg": b"second", "labels.json": b'{"annotations": [1, 2, 3]}'}
COUNTS = {"images": 2, "labels.json": 3}
QUICK = Patience(connect=2.0, silence=0.5, tries=1, pause=0.0)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The data set's files, with one that does not belong to it."""
    folder = tmp_path / "original"
    for name, content in {**FILES, "notes.txt": b"mine"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def manifest(tmp_path: Path, original: Path, write_manifest: Callable[..., None]) -> Manifest:
    file = tmp_path / "set.manifest.csv"
    write_manifest(file, original, FILES)
    return read_manifest(file)


@pytest.fixture
def upstream(tmp_path: Path, original: Path) -> Iterator[tuple[str, Path]]:
    """A web server with set.zip; its address and folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for file in original.rglob("*"):
            if file.is_file():
                archive.write(file, f"set-1/{file.relative_to(original).as_posix()}")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def source(address: str = "http://127.0.0.1:9", **fields: object) -> Source:
    return Source(archives=[Archive(url=f"{address}/set.zip", strip="set-1")], **fields)


def get(of: Source, tmp_path: Path, manifest: Manifest | None, mirror: Path | None = None) -> Path:
    target = tmp_path / "data" / "raw"
    obtain(
        of,
        target,
        work=tmp_path / "data" / ".work",
        mirror=mirror,
        manifest=manifest,
        patience=QUICK,
    )
    return target


def tree(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".source")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_download_is_unpacked_verified_and_cut_down_to_the_manifest(upstream, tmp_path: Path, manifest) -> None:
    of = source(upstream[0], counts=COUNTS)
    target = get(of, tmp_path, manifest)
    assert tree(target) == FILES
    assert obtained(target, of, manifest)


def test_a_mirror_of_files_or_of_archives_replaces_the_download(upstream, tmp_path: Path, original, manifest) -> None:
    assert tree(get(source(), tmp_path, manifest, original)) == FILES
    shutil.rmtree(tmp_path / "data")
    assert tree(get(source(), tmp_path, manifest, upstream[1])) == FILES


def test_without_manifest_a_mirror_gives_what_is_counted(tmp_path: Path, original: Path) -> None:
    assert tree(get(source(counts=COUNTS), tmp_path, None, original)) == FILES


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "b.jpg: is missing, other than set.manifest.csv says"),
        (b"longer than it was", "b.jpg: has 18 bytes instead of 6, other than set.manifest.csv says"),
        (b"SECOND", r"b.jpg: has another content \(sha256 .*… instead of .*…\) than set.manifest.csv says"),
    ],
)
@pytest.mark.parametrize("via_archive", [True, False])
def test_any_difference_from_the_manifest_is_refused(
    upstream,
    tmp_path: Path,
    original: Path,
    manifest,
    content: bytes | None,
    sentence: str,
    via_archive: bool,
) -> None:
    changed = {**FILES, "images/b.jpg": content}
    mirror = original
    if via_archive:
        mirror = upstream[1]
        with zipfile.ZipFile(mirror / "set.zip", "w") as archive:
            for name, value in changed.items():
                if value is not None:
                    archive.writestr(f"set-1/{name}", value)
    elif content is None:
        (original / "images/b.jpg").unlink()
    else:
        (original / "images/b.jpg").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        get(source(), tmp_path, manifest, mirror)
    assert not (tmp_path / "data" / "raw").exists()
    assert not list((tmp_path / "data" / ".work").rglob("*.jpg")), "nothing half-unpacked may stay"


def test_a_failure_leaves_earlier_files_alone(upstream, tmp_path: Path, manifest) -> None:
    target = get(source(upstream[0]), tmp_path, manifest)
    (upstream[1] / "set.zip").write_bytes(b"no archive")
    with pytest.raises(UserError):
        get(source(), tmp_path, manifest, upstream[1])
    assert tree(target) == FILES


@pytest.mark.parametrize("cut", range(9))
def test_wherever_it_is_killed_the_files_are_there_completely_or_not_at_all(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Neither manifest nor counts: what is there is all that could tell."""
    before = tree(get(source(), tmp_path, None, original))
    (original / "images/b.jpg").write_bytes(b"another")
    done = 0

    def killed(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done > cut:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return step

    for module, name in ((os, "unlink"), (os, "rmdir"), (os, "rename"), (Path, "replace"), (shutil, "copyfile")):
        monkeypatch.setattr(module, name, killed(getattr(module, name)))
    with suppress(KeyboardInterrupt):
        get(source(), tmp_path, None, original)
    monkeypatch.undo()
    target = tmp_path / "data" / "raw"
    if obtained(target, source(), None):
        assert tree(target) in (before, tree(original))
    assert tree(get(source(), tmp_path, None, original)) == tree(original)


def test_a_downloaded_archive_without_checksum_is_not_trusted_twice(upstream, tmp_path: Path, manifest) -> None:
    good = (upstream[1] / "set.zip").read_bytes()
    (upstream[1] / "set.zip").write_bytes(good[:-100])
    with pytest.raises(UserError, match="get a fresh copy"):
        get(source(upstream[0]), tmp_path, manifest)
    (upstream[1] / "set.zip").write_bytes(good)
    assert tree(get(source(upstream[0]), tmp_path, manifest)) == FILES


def test_files_of_another_source_or_changed_since_are_not_taken_for_these(tmp_path, original, manifest, said) -> None:
    target = get(source(), tmp_path, manifest, original)
    assert obtained(target, source(), manifest)
    assert not obtained(target, source("http://elsewhere"), manifest)
    (target / "images/a.jpg").write_bytes(b"FIRST")
    assert not obtained(target, source(), manifest)
    assert "Obtaining the files again" in said[-1]


def test_counts_that_are_off_are_named(tmp_path: Path, original: Path) -> None:
    verify_counts(original, COUNTS)
    with pytest.raises(UserError, match="images: has 2 files instead of 118,287"):
        verify_counts(original, {"images": 118287})
    with pytest.raises(UserError, match=r"labels.json: has 3 annotations instead of 4"):
        verify_counts(original, {"labels.json": 4})
    with pytest.raises(UserError, match="val2017: is missing"):
        verify_counts(original, {"val2017": 1})
    (original / "labels.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="has no list 'annotations'"):
        verify_counts(original, {"labels.json": 4})


def test_a_mirror_must_be_a_folder_with_all_archives(tmp_path: Path, manifest, upstream) -> None:
    with pytest.raises(UserError, match="the mirror is not a folder"):
        get(source(), tmp_path, manifest, tmp_path / "nowhere")
    two = Source(archives=[Archive(url="http://x/set.zip"), Archive(url="http://x/more.zip")])
    with pytest.raises(UserError, match=r"the mirror has set.zip but not more.zip; add it"):
        get(two, tmp_path, manifest, upstream[1])


def test_archives_of_a_mirror_are_held_against_their_checksums(tmp_path: Path, upstream) -> None:
    of = Source(archives=[Archive(url="http://x/set.zip", md5="0" * 32)])
    with pytest.raises(UserError, match=r"set.zip: has the md5 .* instead of 0{32}"):
        get(of, tmp_path, None, upstream[1])
    assert (upstream[1] / "set.zip").is_file(), "a mirror is never changed"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1 must be path,size,sha256"),
        ("path,size,sha256\n", "lists no files"),
        ("path,size,sha256\na.jpg,1\n", "line 2 must be a path, a size"),
        (f"path,size,sha256\na.jpg,x,{'0' * 64}\n", "line 2 must be a path, a size"),
        (f"path,size,sha256\n../a.jpg,1,{'0' * 64}\n", r"line 2 names '../a.jpg', which is not a path below"),
    ],
)
def test_a_manifest_that_is_none_is_explained(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "m.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_manifest(file)
