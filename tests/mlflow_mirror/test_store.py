"""A store that cannot be used says so in one sentence, soon, and is mirrored exactly once it can."""

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from surroundings import fill, make_read_only, small_disk

from tood.io import lock as locks
from tood.io.errors import TransientError, UserError
from tood.mlflow_mirror import store
from tood.mlflow_mirror.tracking import sync_study
from tood.reporting.comparison import ComparisonStudy

Make = Callable[..., ComparisonStudy]
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html>Welcome"


def silent(connection: socket.socket) -> None:
    connection.recv(1)
    time.sleep(5)


def trickling(connection: socket.socket) -> None:
    for byte in PAGE.replace(b"13", b"9999"):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def failing(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(PAGE.replace(b"200 OK", b"500 Internal Server Error"))


def refusing(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(PAGE.replace(b"200 OK", b"401 Unauthorized"))


def showing_a_page(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(PAGE)


def breaking_off(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.fixture
def project(tmp_path: Path, make_study: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_study(rows={"tood": ("tood", 0.8)}, images=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "_ANSWER", 0.5)
    monkeypatch.setattr(store, "_DATABASE", 0.1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("MLFLOW_TRACKING_URI", *store._REQUESTS):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def sync() -> str:
    return sync_study(Path("results"), "cells").summary().split(" in ")[0]


def refused(kind: type[UserError] = UserError) -> str:
    with pytest.raises(kind) as caught:
        sync()
    assert type(caught.value) is kind
    assert "nothing is lost" in str(caught.value) or "then repeat the command" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (silent, "it does not answer in time"),
        (trickling, "it does not answer in time"),
        (failing, "it answered 500 Internal Server Error"),
        (refusing, "failed with error code 401"),
        (showing_a_page, "not in a valid JSON format"),
        (breaking_off, "it cannot be reached, or breaks off"),
    ],
)
def test_a_bad_server_is_one_sentence_and_the_files_are_complete(
    project: Path, monkeypatch: pytest.MonkeyPatch, behaviour: Callable[[socket.socket], None], reason: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                behaviour(connection)

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert reason in refused(TransientError)


def test_a_server_that_falls_silent_in_between_is_given_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Client:
        def search_experiments(self, **_: object) -> None:
            asked.append("first")

        def get_experiment_by_name(self, name: str) -> None:
            asked.append(name)
            time.sleep(5)

    monkeypatch.setattr(store, "_knock", lambda uri, seconds: None)
    monkeypatch.setattr(store, "_client", lambda uri: Client())
    monkeypatch.setattr(store, "_CALL", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for _ in range(2):  # as for the next study: what was set for MLflow is not taken for the user's
        assert "it does not answer in time" in refused(TransientError)
    assert asked == ["first", "cells", "first", "cells"]


def test_what_the_user_says_about_patience_holds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(store, "_knock", lambda uri, seconds: asked.append(seconds))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    refused(TransientError)
    assert [round(seconds) for seconds in asked] == [77]


def written(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


def changed(statement: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with closing(sqlite3.connect(file)) as database:
            database.execute(statement)
            database.commit()

    return change


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (written(bytes(range(256)) * 40), "file is not a database"),
        (cut_in_half, "malformed"),
        (changed("DROP TABLE alembic_version"), "no such table: alembic_version"),
        (changed("DELETE FROM alembic_version"), "its creation was cut short"),
        (changed("UPDATE alembic_version SET version_num = '451aebb31d03'"), "mlflow db upgrade sqlite:///"),
    ],
)
def test_a_database_that_is_none_is_named_and_left_alone(
    project: Path, empty_store: Path, damage: Callable[[Path], None], reason: str
) -> None:
    file = project / "mlflow.db"
    shutil.copy(empty_store, file)
    damage(file)
    before = file.read_bytes()
    said = refused()
    assert said.startswith(f"{file}: ")
    assert reason in said
    assert "move it away" in said
    assert file.read_bytes() == before


def test_a_database_that_could_not_be_written_is_not_called_broken(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, "mlflow.db")

    def fails(uri: str) -> None:
        raise RuntimeError("(sqlite3.OperationalError) disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_client", fails)
        said = refused()
    assert "mlflow.db: cannot be written ((sqlite3.OperationalError) disk I/O error); mend that, then run" in said
    assert "move it away" not in said
    assert sync() == "cells: 2 created"


@pytest.mark.parametrize("address", ["http://[::1", "nonsense://x", "http://user:secret@host:none"])
def test_an_address_of_no_store_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    said = refused()
    assert said.startswith("MLFLOW_TRACKING_URI '")
    assert "secret" not in said


def test_a_locked_database_is_named_and_mirrored_later(project: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, "mlflow.db")
    with closing(sqlite3.connect("mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "mlflow.db: another process has locked this MLflow database; close it" in refused(TransientError)
    assert sync() == "cells: 2 created"
    assert sync() == "cells: 2 unchanged"


@pytest.fixture
def database_in_vain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow is killed in the middle of making a database."""

    def create(file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(store, "_create", create)
        yield


def test_a_new_database_has_its_name_only_when_it_is_complete(project: Path, database_in_vain: None) -> None:
    for content in (None, b""):  # MLflow's own attempts may leave an empty file
        if content is not None:
            (project / "mlflow.db").write_bytes(content)
        with pytest.raises(KeyboardInterrupt):
            sync()
        assert not (project / "mlflow.db").exists() or not (project / "mlflow.db").stat().st_size


def test_a_full_disk_is_named_and_mirrored_to_once_there_is_room(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(project / "disk", "4m") as disk:
        shutil.copytree(project / "results", disk / "results")
        monkeypatch.chdir(disk)
        filler = fill(disk)
        assert "mlflow.db: cannot be written: No space left on device; free some space" in refused()
        filler.unlink()
        shutil.copy(empty_store, disk / "mlflow.db")
        filler = fill(disk)
        assert "mlflow.db: cannot be written" in refused()
        filler.unlink()
        assert sync() == "cells: 2 created"
        monkeypatch.chdir(project)


def test_a_read_only_folder_is_named(project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(project / "disk", "4m") as disk:
        shutil.copytree(project / "results", disk / "results")
        shutil.copy(empty_store, disk / "mlflow.db")
        make_read_only(disk)
        monkeypatch.chdir(disk)
        assert "cannot be written: Read-only file system; make it writable" in refused()
        monkeypatch.chdir(project)


@pytest.mark.parametrize("name", ['it\'s "mine" é字 #1 & 100% $HOME {x}', "what?", "%41"])
def test_any_name_of_the_project_s_folder_is_kept_to_or_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = project / name
    folder.mkdir()
    shutil.copytree(project / "results", folder / "results")
    monkeypatch.chdir(folder)
    if len(name) < 10:
        assert "rename the folder" in refused()
    else:
        assert sync() == "cells: 2 created"
        assert sync() == "cells: 2 unchanged"
        assert (folder / "mlruns").is_dir()
    made = {path.name for path in project.iterdir()} - {"results", "data", name}
    assert not made, "nothing beside the folder"


class EndOnceHeard(logging.Handler):
    """Lets another process end as soon as something is said."""

    def __init__(self, other: "subprocess.Popen[bytes]") -> None:
        super().__init__()
        self.other = other

    def emit(self, record: logging.LogRecord) -> None:
        assert self.other.stdin is not None
        self.other.stdin.close()


def test_a_second_mirroring_says_that_it_waits(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    shutil.copy(empty_store, "mlflow.db")
    monkeypatch.setattr(locks, "_SILENCE", 0.1)
    script = (
        "from filelock import FileLock; import sys\n"
        "with FileLock('.mlflow.db.lock'):\n    print(flush=True); sys.stdin.readline()"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    end, logger = EndOnceHeard(other), logging.getLogger("tood.io.lock")
    logger.addHandler(end)
    assert sync_study(Path("results"), "cells").created == ("cells", "tood")
    logger.removeHandler(end)
    other.wait()
    assert said == [f"waiting for another process that mirrors into MLflow, which holds {project}/.mlflow.db.lock"]
    assert os.path.exists("mlflow.db")
