"""Examination of all pictures of a data set: each is decoded as training would, and what changes its pixels is noted.

Headers alone show neither a truncated file nor transparency.
"""

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import get_args

import PIL
from pydantic import ValidationError

from tood.config.base import Config
from tood.data.decode import Change, examine_image
from tood.data.findings import Findings, plural
from tood.data.formats.headers import refuse_picture
from tood.data.formats.records import RawDataset
from tood.io.console import thread_count
from tood.io.count_line import CountLine
from tood.io.errors import UserError, listed
from tood.io.read import read_json
from tood.io.text import without_path
from tood.io.write import write_json

log = logging.getLogger(__name__)

_KEEP_EVERY = 30.0  # seconds between two times that the record is written
_NAMED = 3
_SAID: dict[Change, str] = {
    "transparency": "transparent, laid over white",
    "sixteen_bits": "of 16 bits, scaled to 8",
    "few_bits": "of 16 bits of which fewer are used, scaled by those to 8",
    "cmyk": "in CMYK, made RGB without a colour profile",
    "pages": "of several pages or an animation, of which the first is used",
    "one_colour": "of a single colour",
    "ended_early": "ending early, used as far as they can be decoded",
}


class _Examined(Config):
    """Pictures that were decoded once, by the digest of their file."""

    by: str
    """Version of the decoder, and the changes that it was asked for."""
    changes: dict[str, list[Change]]


class ExaminedPictures:
    """What pictures of known digests were examined for already, on this machine.

    A damaged or missing record costs decoding them again, nothing else.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._by = f"Pillow {PIL.__version__}: {', '.join(get_args(Change))}"
        self._known: dict[str, list[Change]] = {}
        with suppress(UserError, ValidationError):
            kept = _Examined.model_validate(read_json(record))
            self._known = kept.changes if kept.by == self._by else {}

    def examine(self, digests: Mapping[Path, str], findings: Findings) -> None:
        """Note and refuse what is found in the pictures, given with the digests of their files.

        What is found is kept now and then and when it is interrupted, so that a repeated command goes on there.
        """
        found = {path: frozenset(self._known[sha]) for path, sha in digests.items() if sha in self._known}
        rest = [path for path in digests if path not in found]
        kept, count = time.monotonic(), len(self._known)
        with closing(examine_pictures(rest, findings, before=len(found))) as examined:
            try:
                for path, changes in examined:
                    found[path] = changes
                    self._known[digests[path]] = sorted(changes)
                    if time.monotonic() - kept > _KEEP_EVERY:
                        self._keep()
                        kept, count = time.monotonic(), len(self._known)
            finally:
                if len(self._known) > count:
                    self._keep()
        note_changes(found, findings)

    def _keep(self) -> None:
        with suppress(UserError):
            write_json(self._record, _Examined(by=self._by, changes=self._known).model_dump(), indent=None)


def pictures_of(dataset: RawDataset) -> dict[Path, None]:
    """All image files of a data set, each once."""
    return {split.path(image): None for split in dataset.splits for image in split.images}


def examine_pictures(
    paths: Sequence[Path], findings: Findings, *, before: int = 0
) -> Generator[tuple[Path, frozenset[Change]]]:
    """The changes of each picture that can be decoded; the others become findings.

    All cores are used, for decoders do their work without Python's lock. Closing the generator leaves undone what was
    not begun. ``before`` pictures are known from an earlier command, for the progress.
    """
    line = CountLine(log, "pictures read", before + len(paths), before=before)
    pool = ThreadPoolExecutor(thread_count(0))
    try:
        for number, (path, found) in enumerate(zip(paths, pool.map(_examine, paths), strict=True), before + 1):
            if isinstance(found, UserError):
                refuse_picture(path, without_path(found, path), found, findings)
            else:
                yield path, found
            line.show(number)
    finally:
        pool.shutdown(cancel_futures=True)


def note_changes(examined: Mapping[Path, frozenset[Change]], findings: Findings) -> None:
    """One note for each kind of change, with the number of pictures and the first names."""
    for change in get_args(Change):
        names = sorted(path.name for path, changes in examined.items() if change in changes)
        if names:
            findings.note(plural(len(names), "picture"), f"{_SAID[change]} ({listed(names, _NAMED)})")


def _examine(path: Path) -> frozenset[Change] | UserError:
    try:
        return examine_image(path)[1]
    except UserError as error:
        return error
