"""Addresses of MLflow are read as meant, or refused in one sentence before anything is asked or written."""

import logging
from pathlib import Path

import pytest

from tood.io.errors import UserError
from tood.mlflow_mirror import store
from tood.mlflow_mirror.address import refuse_wrong_address, store_address


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("10.0.0.1:80/mlflow", "http://10.0.0.1:80/mlflow"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("HTTP://host:5000", "http://host:5000"),
        (" 'http://host:5000' ", "http://host:5000"),
        ("~/mlflow.db", "sqlite:///{here}/home/mlflow.db"),
        ("runs.sqlite", "sqlite:///{here}/runs.sqlite"),
        ("/data/mlflow.db", "sqlite:////data/mlflow.db"),
    ],
)
def test_what_can_mean_one_thing_only_is_read_so_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], written: str, read: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", written)
    assert store_address(None) == read.format(here=tmp_path)
    assert len(said) == 1
    assert said[0].startswith(f"MLFLOW_TRACKING_URI '{written}': is read as ")


@pytest.mark.parametrize("written", ["http://host:5000", "sqlite:////x.db", "postgresql://host/db", "databricks", ""])
def test_addresses_in_full_need_no_words(monkeypatch: pytest.MonkeyPatch, said: list[str], written: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", written)
    assert store_address(None).startswith(written)
    assert not said


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("~/mlruns", ("home/mlruns", "sqlite:///mlflow.db", "MLFLOW_ALLOW_FILE_STORE")),
        ("mlruns", ("the folder", "sqlite:///mlflow.db")),
        ("file:///data/mlruns", ("the folder /data/mlruns", "sqlite:///mlflow.db")),
        ("file:/data/mlruns", ("the folder /data/mlruns",)),
        ("htp://host:5000", ("'htp'", "did you mean 'http'?")),
        ("nonsense://x", ("'nonsense'", "valid are databricks", "http", "sqlite")),
        ("localhost", ("http://localhost:5000", "sqlite:///localhost.db")),
        ("sqlite://x.db", ("did you mean 'sqlite:///x.db'?",)),
        ("sqlite:/x.db", ("did you mean 'sqlite:////x.db'?",)),
        ("http:/host:5000", ("did you mean 'http://host:5000'?",)),
        ("http//host:5000", ("did you mean 'http://host:5000'?",)),
        ("http://", ("no host",)),
        ("http://host:99999", ("65535",)),
        ("host:99999", ("65535",)),
        ("http://[::1", ("no host",)),
        ("~nobody-of-that-name/x", ("write the whole path",)),
        ("user:secret@host", ("http://host:5000",)),
        ("http:/user:secret@host", ("'http://host'",)),
        ("C:\\mlruns", ("no scheme", "http://host:5000")),
    ],
)
def test_the_rest_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, written: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", written)
    with pytest.raises(UserError) as caught:
        store_address(None)
    sentence = str(caught.value)
    assert sentence.startswith(f"MLFLOW_TRACKING_URI '{written.rpartition('@')[2]}': ")
    assert sentence[-1] in ".?"
    assert "secret" not in sentence
    assert all(word in sentence for word in words), sentence


def test_an_option_of_the_command_line_is_called_so() -> None:
    with pytest.raises(UserError, match=r"^--to 'htp://x'"):
        store_address("htp://x")


def test_folders_are_taken_where_mlflow_is_allowed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert store_address("~/mlruns") == str(tmp_path / "home/mlruns")
    assert store_address("file:///data/mlruns") == "file:///data/mlruns"


@pytest.mark.parametrize("name", ["what?", "a%20b"])
def test_a_folder_that_mlflow_would_misread_is_refused_with_both_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match="rename the folder, or set MLFLOW_TRACKING_URI") as caught:
        store_address(None)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert store_address("http://host:5000") == "http://host:5000"


def test_a_percent_sign_that_escapes_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "50% off").mkdir()
    monkeypatch.chdir(tmp_path / "50% off")
    assert store_address(None) == f"sqlite:///{tmp_path}/50% off/mlflow.db"


@pytest.mark.parametrize(
    ("targets", "refused"),
    [((), True), (("all",), True), (("results/demo/tracked.json",), True), (("data/shapes/dataset.json",), False)],
)
def test_a_workflow_refuses_a_wrong_address_only_where_it_would_use_it(
    monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...], refused: bool
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    if not refused:
        refuse_wrong_address(targets)
        return
    with pytest.raises(UserError):
        refuse_wrong_address(targets)


def test_a_server_that_is_down_is_named_at_the_start_without_its_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("tood"), "propagate", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    store.warn_if_silent()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "127.0.0.1:9" in line
    assert "secret" not in line
    assert "tood sync" in line
