"""Opening an MLflow store (server, database file or folder) within seconds, or with one sentence why it failed.

MLflow itself waits for minutes if a server is silent or a file is no database, and cannot continue with a database
whose creation was interrupted. So a server has to answer first, a database file is inspected first, and a new one
gets its name when it is complete.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from tood.io.deadline import with_deadline
from tood.io.errors import TransientError, UserError
from tood.io.lock import announce_wait, lock_file
from tood.io.os_errors import machine_failure, refusal
from tood.io.write import atomic_path
from tood.mlflow_mirror.address import SAFE, database_file, mask_credentials, store_address

_ANSWER = 3.0  # seconds for the first sign of life
_CALL = 10.0  # seconds for anything that is asked of a server
_BYTES_A_SECOND = 200_000  # in which an artifact has to be on its way
_DATABASE = 2.0  # seconds to wait for another process' transaction
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_REQUESTS = {_TIMEOUT: f"{_CALL:.0f}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_SQLITE = "sqlite:///"

log = logging.getLogger(__name__)


@contextmanager
def open_store(uri: str, results: Path) -> Iterator[Any]:
    """An MLflow client of an address that has answered, for one process at a time.

    Raises UserError where the store cannot be used as it is, and TransientError where it may be later: both say
    what to do.
    """
    file = database_file(uri)
    try:
        # Two that open a fresh database at once leave it unusable.
        lock = results / ".sync.lock" if file is None else file.with_name(f".{file.name}.lock")
        waits = f"waiting for another process that mirrors into MLflow, which holds {lock}"
        with lock_file(lock, file or lock, announce_wait(waits)):
            yield _reach(uri) if file is None else _open_database(uri, file)
    except UserError:
        raise
    except Exception as error:  # three libraries below, each with exceptions of its own
        raise (_server_error(uri, error) if file is None else _database_error(file, error)) from error


@contextmanager
def readable_store(uri: str) -> Iterator[Any]:
    """A client that reads alone: nothing is made or locked. Raises UserError and TransientError alike."""
    file = database_file(uri)
    if file is not None and not file.is_file():
        raise UserError(f"{file}: no such MLflow database; set MLFLOW_TRACKING_URI, or work in the project's folder.")
    try:
        if file is not None:
            _inspect_database(file)
        yield _reach(uri) if file is None else _client(uri)
    except UserError:
        raise
    except Exception as error:
        reason, shown = _reason(uri, error), mask_credentials(uri, uri)
        raise TransientError(
            f"MLflow at {shown} cannot be read ({reason}); mend that, or set MLFLOW_TRACKING_URI to another address."
        ) from error


def deadline_for(size: int) -> float:
    """Seconds in which so many bytes have to be on their way."""
    return _CALL + size / _BYTES_A_SECOND


def _reach(uri: str) -> Any:
    """A client of a server, each of whose calls has an end; what the user set in the environment is his own."""
    own = {name for name, value in _REQUESTS.items() if os.environ.setdefault(name, value) != value}
    patience = float(os.environ[_TIMEOUT]) if _TIMEOUT in own else _ANSWER
    if uri.startswith(("http://", "https://")):
        began = time.monotonic()
        _knock(uri, patience)
        patience = max(patience / 2, patience - (time.monotonic() - began))
    client = _client(uri)
    with_deadline(patience, lambda: client.search_experiments(max_results=1))
    return client if own else _Bounded(client)


def warn_if_silent() -> None:
    """Say so if the store is a server that does not answer: nobody need wait for the end of a study to learn it."""
    uri = store_address(None)
    if not uri.startswith(("http://", "https://")):
        return
    try:
        _knock(uri, _ANSWER)
    except Exception as error:  # whatever it is, MLflow is asked again at the end
        log.warning(
            "MLflow at %s cannot be used now (%s); the study goes on, and is mirrored at its end or by 'tood sync'",
            mask_credentials(uri, uri),
            _reason(uri, error),
        )


def _knock(uri: str, seconds: float) -> None:
    """Check that a server answers with anything but a server error; MLflow checks permissions and certificates."""
    address = urlsplit(uri)
    plain = address._replace(netloc=address.netloc.rpartition("@")[2], path=f"{address.path.rstrip('/')}/health")
    try:
        answer = with_deadline(seconds, lambda: requests.get(plain.geturl(), timeout=seconds))
    except requests.exceptions.SSLError:
        return
    except requests.exceptions.ConnectionError as error:
        raise ConnectionError("it cannot be reached, or breaks off") from error
    if answer.status_code >= 500:
        raise ConnectionError(f"it answered {answer.status_code} {answer.reason}")


class _Bounded:
    """An MLflow client with a deadline for each call; MLflow's own time-outs are for the next byte only."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            size = Path(arguments[1]).stat().st_size if name in ("log_artifact", "log_model_artifact") else 0
            return with_deadline(deadline_for(size), lambda: method(*arguments, **named))

        return call


def _open_database(uri: str, file: Path) -> Any:
    if file.exists() and file.stat().st_size:
        _inspect_database(file)
    else:
        with atomic_path(file) as path:
            _create(path)
    return _client(uri)


def _create(file: Path) -> None:
    """A database with all tables; MLflow puts the folder of artifacts into SQL as it is, so quotes are encoded."""
    _silence_loggers()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    artifacts = Path.cwd() / "mlruns"
    SqlAlchemyStore(f"{_SQLITE}{file}", artifacts.as_uri() if "'" in str(artifacts) else str(artifacts))


def _inspect_database(file: Path) -> None:
    """Raise SQLite's error for a file that is locked, damaged, write-protected or no database of MLflow."""
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=_DATABASE)) as database:
        database.execute("BEGIN IMMEDIATE")
        found = database.execute("SELECT version_num FROM alembic_version").fetchall()
        database.rollback()
    if len(found) != 1:
        raise sqlite3.DatabaseError("its creation was cut short")


def _client(uri: str) -> Any:
    _silence_loggers()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _silence_loggers() -> None:
    """Silence the loggers of MLflow's libraries: errors are raised, and reported once."""
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    import mlflow  # which sets up its loggers

    for name in (mlflow.__name__, "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _database_error(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:240] or type(error).__name__
    if "database is locked" in reason:
        return TransientError(
            f"{file}: another process has locked this MLflow database; close it, then run 'tood sync' ({SAFE})."
        )
    if isinstance(error, OSError):
        return UserError(f"{refusal(file, error)} ({SAFE})")
    if "out-of-date database schema" in reason or "locate revision" in reason:
        return UserError(
            f"{file}: was made by another version of MLflow; run 'mlflow db upgrade {_SQLITE}{file}', or move it away; "
            f"then run 'tood sync', which mirrors all results into it or a new one ({SAFE})."
        )
    if machine_failure(error) is None and not _is_sound(file):
        return UserError(
            f"{file}: is no database that this version of MLflow can use ({reason}); move it away and run 'tood sync', "
            f"which mirrors all results into a new one ({SAFE})."
        )
    return UserError(f"{file}: cannot be written ({reason}); mend that, then run 'tood sync' ({SAFE}).")


def _is_sound(file: Path) -> bool:
    """Whether a database is whole and of a version that is known here: then it is not what went wrong."""
    try:
        _inspect_database(file)
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=_DATABASE)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)])
    except sqlite3.OperationalError as error:  # refuses to say: not its content
        return "no such table" not in str(error)
    except sqlite3.DatabaseError:
        return False


def _server_error(uri: str, error: Exception) -> UserError:
    return TransientError(
        f"MLflow at {mask_credentials(uri, uri)} could not be written to ({_reason(uri, error)}); {SAFE}: mend that or "
        "set MLFLOW_TRACKING_URI to another address, then run 'tood sync'."
    )


def _reason(uri: str, error: Exception) -> str:
    if isinstance(error, TimeoutError | requests.exceptions.Timeout):
        return "it does not answer in time"
    return mask_credentials(" ".join(str(error).split()), uri)[:240] or type(error).__name__
