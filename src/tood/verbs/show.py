"""``tood show``: print a study's comparison table and the paths of its files."""

import logging

from tood.config.study import load_study
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, RESULTS

log = logging.getLogger(__name__)


def show(reference: str) -> None:
    study = load_study(reference, PARAMS)
    folder = RESULTS / study.name
    table = folder / "comparison.md"
    if not table.exists():
        raise UserError(f"{table}: no such file; make it with: snakemake --cores all --config study={reference}")
    log.info(table.read_text(encoding="utf-8").rstrip())
    log.info("")
    log.info("report    %s   (one file, opens in any browser)", folder / "report.html")
    log.info("table     %s, .md, .tex", folder / "comparison.csv")
    log.info("figures   %s/", folder / "figures")
    log.info("runs      %s/<run>/  (config.yaml, history.csv, metrics.json, model.pt, samples/)", folder)
    log.info("curves    mlflow ui   (then open the address it prints)")
