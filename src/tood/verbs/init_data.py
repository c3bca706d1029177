"""``tood init``: recognise a folder of pictures and annotations, and write the data set's file for it."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tood.config.blocks import refuse_name
from tood.config.datasets import load_dataset
from tood.data.findings import printable
from tood.data.recognise.place import look_at
from tood.data.recognise.recognise import recognise
from tood.data.recognise.recognised import Choices, Recognised
from tood.data.recognise.written import dataset_yaml
from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.write import write_text
from tood.verbs.folders import PARAMS

_LONGEST = 400  # characters of a value that are shown
log = logging.getLogger(__name__)


def init(name: str, place: Path, choices: Choices, *, force: bool) -> bool:
    """Write ``params/datasets/<name>.yaml`` for the data set at ``place`` and check it; returns whether it can be used.

    Raises UserError, before anything is written, for a name that cannot be one or is taken (unless ``force``), and
    where nothing is recognised or an option has to say what is meant.
    """
    if not PARAMS.is_dir():
        raise UserError(f"{PARAMS}: no such folder; run this in the project's folder.")
    refuse_name("datasets", name)
    file = PARAMS / "datasets" / f"{name}.yaml"
    if os.path.lexists(file) and not force:
        raise UserError(f"{file}: is there already; choose another name, or replace it with --force.")
    try:
        files = look_at(_absolute(place))
        log.info("%s: %s", printable(files.root), files.content())
        images = None if choices.images is None else _images(choices.images, files.root)
        found = recognise(files, replace(choices, images=images))
    except OSError as error:
        raise UserError(f"{error.filename or place}: cannot be read: {error.strerror or error}.") from error
    text = dataset_yaml(name, found)
    _say(found)
    write_text(file, text)
    load_dataset(name, PARAMS)
    from tood.verbs.check_data import check  # takes seconds to import (torch), which a refusal shall not cost

    log.info("Written: %s (change it as you like; tood data check %s checks it again)", file, name)
    log.info("")
    ok = check(name, None, None)
    log.info("")
    next_command = f"snakemake --cores all --config study=own dataset={name} seeds=1"
    if ok:
        log.info("Next: %s    (a first look; three seeds, for a conclusion, without seeds=1)", next_command)
    else:
        log.info("Put the errors above right, in the data or in %s, then: tood data check %s", file, name)
        log.info("and after that: %s", next_command)
    return ok


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _images(given: Path, root: Path) -> Path:
    """The folder of ``--images``: below the data set's, or where the path leads by itself."""
    for folder in (root / given.expanduser(), _absolute(given)):
        if folder.is_dir():
            return Path(os.path.abspath(folder))
    raise UserError(f"--images {given}: no such folder, neither below {root} nor by itself.")


def _say(found: Recognised) -> None:
    log.info("Found: %s", found.what)
    for field in found.fields:
        log.info("  %s: %s%s", field.name, _shown(field.value), f" ({field.why})" if field.why else "")
    for said in found.said:
        log.info("  note: %s", said)


def _shown(value: Any) -> str:
    """A value as the file has it, in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=_LONGEST, allow_unicode=True)
    return escape(text.removesuffix("...\n").strip(), most=_LONGEST)
