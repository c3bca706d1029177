"""``tood sync``: mirror results into MLflow."""

import dataclasses
import logging

from tood.config.messages import nearest
from tood.io.errors import UserError
from tood.io.write import write_json
from tood.mlflow_mirror.entries import find_studies
from tood.mlflow_mirror.tracking import sync_study
from tood.verbs.folders import RESULTS

log = logging.getLogger(__name__)


def sync(study: str | None, address: str | None, *, models: bool = True) -> None:
    """Mirror one study, or all that have results; ``results/<study>/tracked.json`` keeps what was done.

    Without ``models`` those in MLflow are left as they are.
    """
    present = find_studies(RESULTS)
    if not present:
        raise UserError(f"{RESULTS}: holds no results yet; make some with: snakemake --cores all")
    if study is not None and study not in present:
        raise UserError(f"--study {study}: {RESULTS} has no results of it{nearest(study, present)}")
    studies = [study] if study else present
    for name in studies:
        report = sync_study(RESULTS, name, address, None if models else ())
        write_json(RESULTS / name / "tracked.json", dataclasses.asdict(report))
        log.info(report.summary())
