"""``tood sync``: mirror results into MLflow."""

import dataclasses

from tood.errors import UserError
from tood.files import write_json
from tood.reporting.mirrored import find_studies
from tood.reporting.tracking import sync_study
from tood.verbs.locate import RESULTS, Echo


def sync(study: str | None, address: str | None, echo: Echo) -> None:
    """Mirror one study, or all that have results; ``results/<study>/tracked.json`` keeps what was done."""
    studies = [study] if study else find_studies(RESULTS)
    if not studies:
        raise UserError(f"{RESULTS}: holds no results yet; make some with: snakemake --cores all")
    for name in studies:
        report = sync_study(RESULTS, name, address, echo)
        write_json(RESULTS / name / "tracked.json", dataclasses.asdict(report))
        echo(report.summary())
