"""Submission files for the COCO evaluation server: a result list and its zip archive."""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tood.evaluation.detections import write_results
from tood.io.write import write_with

_DATE = (1980, 1, 1, 0, 0, 0)  # the same detections give the same archive


def submission_name(split: str, name: str) -> str:
    """The file's name without suffix, as the server wants it: the test set, then the algorithm."""
    return f"detections_{split}_{name}_results"


def write_submission(folder: Path, split: str, name: str, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write the COCO result list and the archive to be uploaded, whose path is returned."""
    stem = submission_name(split, name)
    listing = folder / f"{stem}.json"
    write_results(listing, [dict(one) for one in results])
    archive = folder / f"{stem}.zip"
    write_with(archive, lambda path: _pack(path, listing))
    return archive


def _pack(archive: Path, listing: Path) -> None:
    entry = zipfile.ZipInfo(listing.name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with (
        listing.open("rb") as source,
        zipfile.ZipFile(archive, "w") as packed,
        packed.open(entry, "w", force_zip64=True) as target,
    ):
        shutil.copyfileobj(source, target)
