"""``tood compare``: a study's tables, figures and report."""

import logging

from tood.config.parts import code_of
from tood.config.study import load_study
from tood.config.study_file import Selection
from tood.reporting.alignment_figures import draw_alignment_figures
from tood.reporting.alignment_table import alignment_table, write_alignment_tables
from tood.reporting.comparison import compare as compare_runs
from tood.reporting.comparison import comparison_study
from tood.reporting.figures import draw_figures
from tood.reporting.report import write_report
from tood.reporting.table_files import write_tables
from tood.verbs.folders import PARAMS, RESULTS
from tood.verbs.open_run import open_dataset
from tood.workflow.code_digest import code_behind
from tood.workflow.dvc_pipelines import write_reported
from tood.workflow.standing import changed_since

log = logging.getLogger(__name__)


def compare(reference: str, selection: Selection, threads: int) -> None:
    """Write ``comparison.csv/.md/.tex``, ``figures/`` and ``report.html`` into ``results/<study>``.

    Where the study asks for the alignment analysis, ``alignment.csv/.md`` too.
    """
    study = load_study(reference, PARAMS, selection=selection)
    folder = RESULTS / study.name
    split = open_dataset(study.dataset).split(study.split)
    changed = {
        name: changed_since(folder / name, code_behind("train", code_of(run.method)))
        for name, run in study.runs.items()
    }
    log.info("comparing %d runs on %s images", len(study.runs), f"{split.image_count:,}")
    comparison = compare_runs(comparison_study(study, folder, split, changed), processes=threads)
    write_tables(comparison, folder)
    figures = draw_figures(comparison, folder / "figures")
    alignment = alignment_table(comparison) if "alignment" in study.analysis else None
    write_alignment_tables(alignment, folder)
    write_report(
        comparison,
        figures,
        folder / "report.html",
        alignment=alignment,
        alignment_figures=draw_alignment_figures(alignment, folder / "figures"),
    )
    write_reported(RESULTS)
    log.info("report: %s", folder / "report.html")
