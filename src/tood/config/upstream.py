"""Upstream of a data set: archives at a fixed version, and what their files must be."""

from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from tood.config.base import Config, PositiveInt


def _stays_inside(place: str) -> str:
    if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
        raise ValueError(f"'{place}' leads out of the data set's folder")
    return place


Inside = Annotated[str, AfterValidator(_stays_inside)]
"""A path that stays below the folder it is relative to."""


def _names_a_file(url: str) -> str:
    name = unquote(PurePosixPath(urlsplit(url).path).name)  # raises a ValueError of its own for an invalid address
    if name in ("", ".", "..") or not name.isprintable() or "/" in name or "\\" in name or len(name) > 200:
        raise ValueError(f"'{url}' must end with the name of a file")
    return url


class Archive(Config):
    """One archive to download and unpack; the checksum is the publisher's, where one is known."""

    url: Annotated[str, AfterValidator(_names_a_file)]
    size: PositiveInt | None = Field(None, description="Bytes, checked when given.")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    checksum_source: str = Field("", description="Where the size or checksum was published.")
    strip: Inside = Field("", description="Folder inside the archive that becomes the data set's root.")


class Source(Config):
    """Upstream of a data set: archives at a fixed version and a manifest of their files."""

    archives: list[Archive] = Field(min_length=1)
    manifest: Inside | None = Field(None, description="CSV of path,size,sha256 that every file must match.")
    counts: dict[Inside, PositiveInt] = Field(
        default_factory=dict,
        description="Folder (or file) to number of files (or records), where there is no manifest.",
    )
    origin: str = ""
    license: str = ""
