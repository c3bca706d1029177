"""``tood new``: make a project outside of a clone, with the files that the package brings along."""

import logging
import os
import shlex
import shutil
import tempfile
from pathlib import Path

from tood import __version__
from tood.io.errors import UserError
from tood.io.os_errors import refusal
from tood.workflow.project_files import copy_files, files_root
from tood.workflow.project_path import refuse_path

README = Path(__file__).with_name("new_project.md")
log = logging.getLogger(__name__)


def new_project(folder: Path) -> None:
    """Make ``folder`` a project: parameters, rules, profiles, pipelines and a README.

    Raises UserError, with nothing written, for a folder that is not empty, that Snakemake cannot work in or that the
    disk refuses, and where the package was installed without these files.
    """
    target = Path(os.path.realpath(folder.expanduser()))
    refuse_path(target)
    root = files_root()
    if root is None:
        raise UserError(
            "this installation of tood lacks the files of a project; install a wheel (pip wheel --no-deps CLONE) or "
            "work in a clone."
        )
    try:
        _refuse_occupied(folder, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tood-", dir=target.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            copy_files(root, temporary)
            text = README.read_text(encoding="utf-8")
            (temporary / "README.md").write_text(text.format(version=__version__), encoding="utf-8")
            temporary.rename(target)  # onto an empty folder, too; should it have been filled meanwhile, it stays
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(refusal(folder, error)) from error
    log.info("Made: %s (its README.md says what is where)", folder)
    log.info("Next: cd %s && snakemake --cores all", shlex.quote(str(target)))


def _refuse_occupied(folder: Path, target: Path) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UserError(f"{folder}: is a file; name a folder that is new or empty.")
    if any(target.iterdir()):
        raise UserError(f"{folder}: is not empty; name a folder that is new or empty.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
