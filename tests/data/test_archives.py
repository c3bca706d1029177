import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tood.data.fetch.archives import unpack
from tood.io.errors import UserError

FILES = {"set/a.txt": b"a", "set/sub/b.txt": b"bb", "other/c.txt": b"ccc"}


def make_zip(path: Path, files: dict[str, bytes], *, link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link is not None:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def make_tar(path: Path, files: dict[str, bytes], *, link: str | None = None, kind: bytes = tarfile.SYMTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return path


MAKERS = [pytest.param(make_zip, id="zip"), pytest.param(make_tar, id="tar")]


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("make", MAKERS)
def test_everything_is_unpacked_or_a_folder_of_it_or_what_is_wanted(tmp_path: Path, make) -> None:
    archive = make(tmp_path / "x", FILES)
    assert unpack(archive, tmp_path / "all") == 3
    assert tree(tmp_path / "all") == FILES
    assert unpack(archive, tmp_path / "part", strip="set") == 2
    assert tree(tmp_path / "part") == {"a.txt": b"a", "sub/b.txt": b"bb"}
    assert unpack(archive, tmp_path / "one", strip="set", wanted={"sub/b.txt"}) == 1
    assert tree(tmp_path / "one") == {"sub/b.txt": b"bb"}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["../evil.txt", "set/../../evil.txt", "/tmp/evil.txt", "C:/evil.txt", "..\\evil.txt"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / "x", {name: b"evil"})
    with pytest.raises(UserError, match="which leads outside; the archive is refused"):
        unpack(archive, tmp_path / "in" / "here")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["x"]


@pytest.mark.parametrize("make", MAKERS)
def test_links_are_refused(tmp_path: Path, make) -> None:
    with pytest.raises(UserError, match="holds the link 'set/link'"):
        unpack(make(tmp_path / "x", FILES, link="set/link"), tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_hard_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(UserError, match="holds "):
        unpack(make_tar(tmp_path / "x", {}, link="odd", kind=kind), tmp_path / "out")
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("make", MAKERS)
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, make) -> None:
    with pytest.raises(UserError, match="no files in the folder 'missing'"):
        unpack(make(tmp_path / "x", FILES), tmp_path / "out", strip="missing")


@pytest.mark.parametrize("make", MAKERS)
def test_damage_is_one_sentence(tmp_path: Path, make) -> None:
    noise = b"".join(bytes([index * 7 % 251, index * 13 % 241]) for index in range(20_000))
    archive = make(tmp_path / "x", {"a": noise})
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "out")
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "out")


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("<html>Not found</html>")
    with pytest.raises(UserError, match="is neither a zip nor a tar archive"):
        unpack(tmp_path / "x", tmp_path / "out")
