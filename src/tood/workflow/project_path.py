"""The project's own path: which ones Snakemake cannot work in."""

import re
from pathlib import Path

from tood.io.errors import UserError
from tood.io.escape import escape, is_unicode

_WILDCARD = re.compile(r"\{\s*(\w+)\s*(,[^{}]*)?\}")
_PLAIN = re.compile(r"\{[A-Za-z_]\w*\}")
_ITS_OWN = "{n}"  # the wildcard of Snakemake's pattern for its lock files, which the path stands before


def refuse_path(folder: Path) -> None:
    """Raise UserError for a project's folder in which Snakemake breaks down, now or when it is repeated."""
    path = str(folder.absolute())
    if not is_unicode(path):
        raise UserError(
            f"{escape(path)}: the project's folder has bytes in its name that are not UTF-8, and Snakemake cannot "
            "write them; rename the folder."
        )
    for found in _WILDCARD.finditer(path):
        if found[0] == _ITS_OWN or not _PLAIN.fullmatch(found[0]):
            raise UserError(
                f"{path}: Snakemake takes '{found[0]}' in the name of the project's folder for a pattern; rename the "
                "folder."
            )
