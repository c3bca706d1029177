"""Addresses of MLflow stores, as people write them: read as meant where that is certain, else refused in one sentence.

Nothing here imports MLflow or asks a server, so that a study is refused before it trains and not when it is mirrored.
"""

import logging
import os
import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tood.config.messages import nearest
from tood.io.errors import UserError

_SQLITE = "sqlite:///"
DEFAULT_URI = f"{_SQLITE}mlflow.db"
SAFE = "nothing is lost, for the files under results/ are the record"
_KINDS = ("http", "https", "file", "sqlite", "mysql", "postgresql", "mssql", "databricks", "databricks-uc", "uc")
_WORDS = ("databricks", "databricks-uc", "uc")  # complete addresses
_HOST = r"(?:[^\s/@]+@)?(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
_HOST_AND_PORT = re.compile(rf"{_HOST}:\d{{1,5}}(?:/\S*)?")
_FEW_MARKS = re.compile(r"(https?|sqlite|file)(:/?|//)(?!/)(.*)", re.IGNORECASE)
_DATABASES = (".db", ".sqlite", ".sqlite3")
_FOLDERS = "MLFLOW_ALLOW_FILE_STORE"

log = logging.getLogger(__name__)


def store_address(given: str | None) -> str:
    """``given``, else ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here, which is what ``mlflow ui`` opens.

    A host with its port is a server's and a file of a database the database's, which is said. MLflow keeps one store
    per address in a process, so that of a database file must not depend on the folder. Raises UserError for what
    MLflow cannot open.
    """
    source = "--to" if given else "MLFLOW_TRACKING_URI"
    written = given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    uri = _as_meant(written, f"{source} '{written.rpartition('@')[2]}'")
    if uri != written:
        log.info("%s '%s': is read as %s", source, mask_credentials(written, uri), mask_credentials(uri, uri))
    file = database_file(uri)
    if file is None or file.is_absolute():
        return uri
    here = str(Path.cwd())
    if "?" in here or unquote(here) != here:
        raise UserError(
            f"{here}: MLflow takes the '?' or '%' for something else; rename the folder, or set MLFLOW_TRACKING_URI to "
            f"an address that does not lead through it ({SAFE})."
        )
    _, mark, options = uri.partition("?")
    return f"{_SQLITE}{Path.cwd() / file}{mark}{options}"


def refuse_wrong_address(targets: Collection[str] = ()) -> None:
    """Raise the UserError of ``store_address`` if the mirror is among a workflow's ``targets``."""
    if is_mirrored(targets):
        store_address(None)


def is_mirrored(targets: Collection[str] = ()) -> bool:
    """Whether the mirror is among a workflow's targets (none means all)."""
    return not targets or any(one in ("all", "track") or one.endswith("/tracked.json") for one in targets)


def database_file(uri: str) -> Path | None:
    """The file behind an address, without options; None where it is a server's."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def mask_credentials(text: str, uri: str) -> str:
    """The text without the password that the address may hold."""
    password = urlsplit(uri).password
    return text.replace(f":{password}@", ":***@") if password else text


def _as_meant(written: str, named: str) -> str:
    """The address in MLflow's form; ``named`` is what was written, and where, without credentials."""
    text = written.strip().strip("'\"").strip()
    scheme, mark, rest = text.partition("://")
    if mark:
        return _with_scheme(scheme.lower(), rest, named)
    if text in _WORDS:
        return text
    if _HOST_AND_PORT.fullmatch(text) and not _FEW_MARKS.match(text):
        return _with_scheme("http", text, named)
    if few := _FEW_MARKS.match(text):
        return _with_few_marks(few[1].lower(), few[2], few[3], named)
    return _path(text, named)


def _with_scheme(scheme: str, rest: str, named: str) -> str:
    kind, uri = scheme.partition("+")[0], f"{scheme}://{rest}"
    if kind not in _KINDS:
        raise _refusal(named, f"has the scheme '{scheme}', which MLflow does not know", nearest(kind, _KINDS))
    if kind == "file":
        return _folder(uri, Path(unquote(urlsplit(uri).path)), named)
    if kind == "sqlite" and not rest.startswith("/"):
        raise _refusal(named, "has too few slashes", f"; did you mean '{_SQLITE}{rest}'?")
    if kind in ("http", "https") and not _has_host(uri):
        raise _refusal(named, "has no host, or a port that is no number up to 65535", "; write it as http://host:5000.")
    return uri


def _has_host(uri: str) -> bool:
    try:
        address = urlsplit(uri)
        return bool(address.hostname) and address.port != 0 and not re.search(r"\s", uri)
    except ValueError:
        return False


def _with_few_marks(scheme: str, marks: str, rest: str, named: str) -> str:
    """What lacks a colon or slashes behind its scheme; a ``file:`` address may have one slash."""
    if scheme == "file":
        path = Path("/" if marks.endswith("/") else "") / rest
        return _folder(path.absolute().as_uri(), path, named)
    slash = "/" if scheme == "sqlite" and marks.endswith("/") else ""
    meant = f"{_SQLITE if scheme == 'sqlite' else f'{scheme}://'}{slash}{rest.rpartition('@')[2]}"
    raise _refusal(named, f"has too few marks behind '{scheme}'", f"; did you mean '{meant}'?")


def _path(text: str, named: str) -> str:
    """A path without scheme: a database by its suffix or content, a folder, or the name of a host without port."""
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise _refusal(named, "names a user that is not known here", "; write the whole path.") from error
    if path.suffix.lower() in _DATABASES or _is_database(path):
        return f"{_SQLITE}{path}"
    if "/" in text or text.startswith((".", "~")) or text == "mlruns" or os.path.isdir(path):
        return _folder(str(path.absolute()), path, named)
    host, sqlite = text.rpartition("@")[2], DEFAULT_URI
    if re.fullmatch(_HOST, host):
        sqlite = f"{_SQLITE}{host}.db"
    else:
        host = "host"
    raise _refusal(named, "has no scheme", f"; for a server write http://{host}:5000, for a database file {sqlite}.")


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(15) == b"SQLite format 3"
    except (OSError, ValueError):
        return False


def _folder(uri: str, path: Path, named: str) -> str:
    """The address of a folder, where MLflow has been allowed to use one."""
    if os.environ.get(_FOLDERS, "").strip().lower() in ("true", "1"):
        return uri
    raise _refusal(
        named,
        f"is the folder {path}, and MLflow writes into folders no more",
        f"; use a database file such as {DEFAULT_URI}, or set {_FOLDERS}=true to have the folder all the same.",
    )


def _refusal(named: str, problem: str, remedy: str) -> UserError:
    return UserError(f"{named}: {problem} ({SAFE}){remedy}")
