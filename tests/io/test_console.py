"""Saying something never stops the work, whatever has become of the console and the log."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import fill, make_read_only, small_disk

from tood.io import console
from tood.io.errors import UserError

SCRIPT = """
import logging, sys
from pathlib import Path
from tood.io import console
console.start()
console.open_log(Path(sys.argv[1]))
for number in range(3000):
    logging.getLogger("tood.speaker").info("%d \\u00e9\\u5b57 \\udcff %s", number, 40 * "x")
Path(sys.argv[1]).with_name("done").touch()
"""

LEVELS = """
import logging
from pathlib import Path
from tood.io import console
log, run_log = logging.getLogger("tood.speaker"), console.run_log("tood.speaker", "atss")
log.info("as a library")
log.error("as a library")
console.start()
console.start()
console.open_log(Path("log"))
run_log.info("trained: %s", "model.pt")
run_log.debug("Traceback")
log.info("100 %")
log.error("tood: bad\\x1b\\nworse")
console.leave_out_progress()
log.info("of another process")
log.debug("its traceback")
log.error("its failure")
"""


def talk(log: Path, tail: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Say 3000 lines in a process of its own, whose output goes through ``tail`` of a shell's command line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = f'"$0" -c "$1" "$2" {tail}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, SCRIPT, str(log)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def test_each_line_goes_where_its_level_belongs_and_names_its_run(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", LEVELS], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "atss         trained: model.pt\n100 %\n"
    assert said.stderr == "tood: bad\\x1b\nworse\nits failure\n"
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines if line != "worse")
    assert [line[9:] for line in lines if line != "worse"] == [
        "atss         trained: model.pt",
        "atss         Traceback",
        "100 %",
        "tood: bad\\x1b",
        "its traceback",
        "its failure",
    ]


@pytest.mark.parametrize("tail", ["| head -n 1", ">&-", ">&- 2>&-"])
def test_a_console_that_went_away_is_given_up(tmp_path: Path, tail: str) -> None:
    said = talk(tmp_path / "log", tail)
    assert said.stderr == ""
    assert (tmp_path / "done").exists()
    assert len((tmp_path / "log").read_text().splitlines()) == 3000


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_console_shows_what_it_can_of_any_name(tmp_path: Path, encoding: str) -> None:
    said = talk(tmp_path / "log", PYTHONIOENCODING=encoding, LC_ALL="C", PYTHONUTF8="0")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[2999].startswith("2999 ")
    assert "é字" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_full_disk_costs_the_log_and_the_output_but_not_the_work(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        filler = fill(disk)
        said = talk(tmp_path / "disk" / "log")
        assert said.returncode == 0
        assert len(said.stdout.splitlines()) == 3000
        assert said.stderr == f"tood: --log {disk}/log: goes on without it for now (No space left on device)\n"
        said = talk(tmp_path / "log", f"> {disk}/output")
        assert (
            said.stderr == "tood: the console's output cannot be written (No space left on device); going on silently\n"
        )
        assert len((tmp_path / "log").read_text().splitlines()) == 3000
        filler.unlink()
        assert talk(disk / "log").stderr == ""
        assert len((disk / "log").read_text().splitlines()) == 3000


def test_a_log_that_can_never_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--log .*file/log: cannot be written: File exists"):
        console.open_log(tmp_path / "file" / "log")
    with small_disk(tmp_path / "disk") as disk:
        make_read_only(disk)
        with pytest.raises(UserError, match=r"--log .*disk/log: cannot be written: Read-only file system; make it"):
            console.open_log(disk / "log")
    assert console.log_file() is None
