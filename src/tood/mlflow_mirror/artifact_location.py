"""Where MLflow keeps files: a folder of this machine, or an address."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def as_path(location: str) -> Path:
    """MLflow keeps a path as it is, whatever characters it has, or as a ``file:`` address."""
    return Path(url2pathname(urlsplit(location).path) if location.startswith("file:") else location)


def local_folder(location: str) -> Path | None:
    """The folder of a location; None for an address of a server or bucket."""
    return as_path(location) if location.startswith(("/", "file:")) else None
