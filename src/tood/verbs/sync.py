"""``tood sync``: mirror results into MLflow."""

import dataclasses
from pathlib import Path

from tood.errors import UserError
from tood.files import write_json
from tood.reporting.mirrored import find_studies
from tood.reporting.tracking import sync_study
from tood.verbs.locate import RESULTS, Echo


def sync(study: str | None, address: str | None, record: Path | None, echo: Echo) -> None:
    """Mirror one study, or all that have results; ``record`` keeps what was done."""
    studies = [study] if study else find_studies(RESULTS)
    if not studies:
        raise UserError(f"{RESULTS}: holds no results yet; make some with: snakemake --cores all")
    reports = []
    for name in studies:
        report = sync_study(RESULTS, name, address)
        reports.append(dataclasses.asdict(report))
        echo(report.summary())
    if record is not None:
        write_json(record, reports)
