"""Archives made to fill a disk, to write twice or to where they should not: refused, and nothing of them is left."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tood.config.upstream import Archive, Source
from tood.data.fetch import archives
from tood.data.fetch.archives import unpack
from tood.data.fetch.sources import obtain
from tood.io.errors import UserError

Entries = list[tuple[str, bytes]]
ZEROS = bytes(1 << 20)


def make_zip(path: Path, entries: Entries, **options: Any) -> Path:
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(path, "w", **{"compression": zipfile.ZIP_DEFLATED} | options) as file,
    ):
        warnings.simplefilter("ignore")  # of names given twice
        for name, content in entries:
            file.writestr(name, content)
    return path


def make_tar(path: Path, entries: Entries) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def refusal(archive: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        unpack(archive, archive.parent / "out", **options)
    sentence = str(caught.value)
    assert sentence.startswith(str(archive.parent))
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a", "a"], "holds 'a' twice"),
        (["a/b", "./a//b"], "holds 'a/b' twice"),
        (["a", "a/b"], "below something that is a file"),
        (["a/b", "a"], "both as a file and as a folder"),
        (["a\nb"], "'a\\nb', which is too long or not all of it can be written"),
        (["\x1b[31ma"], "'\\x1b[31ma', which is too long"),
        (["n" * 300], "which is too long"),
        (["/".join(["n" * 200] * 6)], "which is too long"),
    ],
)
def test_names_that_clash_or_cannot_be_files(
    tmp_path: Path, make: Callable[..., Path], names: list[str], sentence: str
) -> None:
    assert sentence in refusal(make(tmp_path / "x", [(name, b"1") for name in names]))


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_file_cannot_take_the_place_of_the_folder(tmp_path: Path, make: Callable[..., Path]) -> None:
    assert "a file in the place of its folder" in refusal(make(tmp_path / "x", [("a", b"1")]), strip="a")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_disk_that_ignores_case_is_noticed(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a disk finds the file ``A`` where ``a`` is asked for."""
    archive = make(tmp_path / "x", [("A", b"1"), ("a", b"2")])
    assert unpack(archive, tmp_path / "sensitive") == 2
    lexists, lstat = os.path.lexists, Path.lstat
    monkeypatch.setattr(os.path, "lexists", lambda path: lexists(str(path).replace("/a", "/A")))
    monkeypatch.setattr(Path, "lstat", lambda path: lstat(Path(str(path).replace("/a", "/A"))))
    assert "holds 'a' twice, or under names that this disk takes for the same" in refusal(archive)


def test_a_name_in_a_zip_that_ends_at_a_nul_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x", [("ab", b"1")])
    archive.write_bytes(archive.read_bytes().replace(b"ab", b"a\0"))
    assert "'a\\x00', which is too long or not all of it can be written" in refusal(archive)


def bomb(path: Path, compressed: Callable[..., Any], megabytes: int) -> Path:
    """A compressed tar of one file of zeros."""
    info = tarfile.TarInfo("zeros")
    info.size = megabytes << 20
    with compressed(path, "wb") as file:
        file.write(info.tobuf())
        for _ in range(megabytes):
            file.write(ZEROS)
        file.write(bytes(1024))
    return path


@pytest.mark.parametrize("wanted", [None, ("other",)], ids=["unpacked", "passed over"])
@pytest.mark.parametrize("compressed", [gzip.open, bz2.open, lzma.open])
def test_tars_that_unpack_to_many_times_their_size(
    tmp_path: Path, compressed: Callable[..., Any], wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_EXPANSION", 1 << 20)
    archive = bomb(tmp_path / "x", compressed, 24)
    assert "unpacks to more than" in refusal(archive, wanted=wanted)
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) < 20 << 20


def test_zips_that_say_that_they_unpack_to_many_times_their_size_are_not_begun(tmp_path: Path) -> None:
    assert "unpacks to more than 64 MB" in refusal(make_zip(tmp_path / "x", [("zeros", ZEROS * 70)]))
    assert not (tmp_path / "out").exists()


def test_zips_that_lie_about_it_are_cut_off(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x", [("zeros", ZEROS * 70)])
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<I", 70 << 20), struct.pack("<I", 10)))
    assert "is damaged" in refusal(archive)
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) <= 10


def test_entries_of_a_zip_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x", [("a", ZEROS * 40)])
    content = bytearray(archive.read_bytes())
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry, tail = content[start:end], content[end:]
    tail[8:16] = struct.pack("<HHI", 2, 2, 2 * len(entry))
    archive.write_bytes(content[:start] + entry + entry[:46] + b"b" + entry[47:] + tail)
    assert "unpacks to more than 64 MB" in refusal(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_ways_of_packing_without_a_bound_on_memory_are_refused(tmp_path: Path, method: int) -> None:
    assert "is packed in an unusual way" in refusal(make_zip(tmp_path / "x", [("a", b"1")], compression=method))


def test_a_sparse_file_counts_as_what_it_becomes(tmp_path: Path) -> None:
    """One byte at the end of 300 MB of nothing, as GNU tar writes it."""
    size = 300 << 20
    info = tarfile.TarInfo("hole")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (size - 512, 512)
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x").write_bytes(bytes(header) + b"1" * 512 + bytes(1024))
    assert "unpacks to more than 64 MB" in refusal(tmp_path / "x")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_without_end_are_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 40 << 20
    with gzip.open(tmp_path / "x", "wb") as file:
        file.write(info.tobuf())
        for _ in range(40):
            file.write(ZEROS)
    assert "holds a header of 40 MB" in refusal(tmp_path / "x")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_disk_without_room_is_named_before_it_is_full(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ROOM_LEFT", 1 << 60)
    assert "which is not enough to unpack into; free some space" in refusal(make(tmp_path / "x", [("a", b"1")]))


def test_nothing_of_a_refused_archive_is_left(tmp_path: Path) -> None:
    """As ``tood data prepare`` unpacks it: in a folder that becomes the data set's when all is well."""
    mirror, target = tmp_path / "mirror", tmp_path / "data/raw"
    mirror.mkdir()
    make_tar(mirror / "set.tgz", [("good", b"1"), ("../evil", b"2")])
    source = Source(archives=[Archive(url="https://example.org/set.tgz")])
    with pytest.raises(UserError, match="leads outside"):
        obtain(source, target, work=tmp_path / "data/.work", mirror=mirror, manifest=None)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["mirror/set.tgz"]


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "https://example.org/..%2F..%2Fevil.zip"},
        {"url": "https://example.org/"},
        {"url": "https://example.org/a%00.zip"},
        {"url": "https://[example.org/a.zip"},
        {"url": "https://example.org/a.zip", "strip": "../up"},
    ],
)
def test_addresses_and_folders_that_lead_elsewhere_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must end with the name of a file|Invalid IPv6|leads out of"):
        Archive(**fields)
    with pytest.raises(ValueError, match="leads out of"):
        Source(archives=[Archive(url="https://example.org/a.zip")], counts={"../up": 1})
