"""The folder that replaces downloads, as people name it on a command line or in the environment."""

import os
from pathlib import Path

from tood.io.errors import UserError


def mirror_folder(written: str, named: str) -> Path:
    """The folder that replaces downloads; UserError, beginning with ``named``, if it is none."""
    folder = Path(os.path.expanduser(written))  # a '~' in quotes is left to us by the shell
    if not os.path.isdir(folder):
        problem = "is a file" if os.path.exists(folder) else "no such folder"
        raise UserError(f"{named}: {problem}; give the folder that holds the files of the data set.")
    return folder
