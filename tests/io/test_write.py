"""A file is there completely or not at all, and a disk that refuses says so in one sentence."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from surroundings import fill, make_read_only, small_disk

from tood.io import write as files
from tood.io.errors import UserError
from tood.io.write import atomic_path, visible, write_json, write_text, write_with

NOISE = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)
FLOATS = np.random.default_rng(0).random(200_000)


def figure(path: Path) -> None:
    shown = matplotlib.figure.Figure()
    shown.subplots().imshow(NOISE)
    shown.savefig(path, dpi=200)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.json": lambda path: path.write_text(json.dumps(FLOATS.tolist())),
    "a.csv": lambda path: pd.DataFrame({"x": FLOATS}).to_csv(path),
    "a.png": PICTURE.save,
    "a.jpg": lambda path: PICTURE.save(path, quality=100, subsampling=0),
    "figure.png": figure,
    "a.pt": lambda path: torch.save(torch.from_numpy(FLOATS), path),
    "a.npz": lambda path: np.savez_compressed(path, x=FLOATS),
}


@pytest.fixture
def limited() -> Iterator[None]:
    """No file may grow beyond 100 kB: a full disk for those who may not mount one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_every_library_s_refusal_is_one_sentence_and_the_old_file_stays(
    tmp_path: Path, name: str, limited: None
) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=rf"{name}: cannot be written: File too large; .*ulimit -f.*\.$"):
        write_with(tmp_path / name, WRITERS[name])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


def test_a_full_disk_says_so_and_a_read_only_one_too(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        write_text(disk / "kept.json", "old")
        fill(disk)
        for name, writer in {**WRITERS, "kept.json": WRITERS["a.json"]}.items():
            with pytest.raises(UserError, match=f"{name}: cannot be written: No space left on device; free some space"):
                write_with(disk / name, writer)
        make_read_only(disk)
        with pytest.raises(UserError, match=r"kept.json: cannot be written: Read-only file system; make it writable"):
            write_text(disk / "kept.json", "new")
        with pytest.raises(UserError, match=r"new/kept.json: cannot be written: Read-only file system"):
            write_text(disk / "new" / "kept.json", "new")
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "kept.json"]
        assert (disk / "kept.json").read_text() == "old"


def test_a_mistake_of_the_program_stays_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), atomic_path(tmp_path / "a"):
        raise RuntimeError("mine")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", object())
    with pytest.raises(UserError, match=r"source.json: No such file or directory"), atomic_path(tmp_path / "a"):
        (tmp_path / "source.json").open()
    assert not list(tmp_path.iterdir())


def test_content_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("synced"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append("named"), replace(path, target))[1])
    write_text(tmp_path / "a", "b")
    assert done == ["synced", "named"]


def test_what_a_killed_writer_left_goes_with_the_next_write_but_not_a_living_writer_s(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tood.io.write import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as path:\n    path.write_text('half'); print(flush=True); time.sleep(60)"
    )
    writers = []
    for name in ("a.png", "b.png"):
        command = [sys.executable, "-c", script, str(tmp_path / name)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert writers[-1].stdout is not None
        writers[-1].stdout.readline()
    writers[0].send_signal(signal.SIGKILL)
    writers[0].wait()
    left = set(tmp_path.iterdir())
    assert len(left) == 2
    assert visible(tmp_path.glob("*.png")) == []
    write_text(tmp_path / "c.txt", "whole")
    assert len(left & set(tmp_path.iterdir())) == 1
    writers[1].kill()
    writers[1].wait()
    files._swept.clear()
    write_text(tmp_path / "c.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["c.txt"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "b")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
