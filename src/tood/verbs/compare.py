"""``tood compare``: a study's tables, figures and report."""

from tood.config.study import load_study
from tood.reporting.comparison import compare as compare_runs
from tood.reporting.comparison import comparison_study
from tood.reporting.figures import draw_figures
from tood.reporting.report import write_report
from tood.reporting.tables import write_tables
from tood.verbs.locate import PARAMS, RESULTS, Echo
from tood.verbs.runs import open_dataset


def compare(reference: str, echo: Echo) -> None:
    """Write ``comparison.csv/.md/.tex``, ``figures/`` and ``report.html`` into ``results/<study>``."""
    study = load_study(reference, PARAMS)
    folder = RESULTS / study.name
    split = open_dataset(study.dataset).split(study.split)
    echo(f"comparing {len(study.runs)} runs on {split.image_count:,} images")
    comparison = compare_runs(comparison_study(study, folder, split))
    write_tables(comparison, folder)
    figures = draw_figures(comparison, folder / "figures")
    write_report(comparison, figures, folder / "report.html")
    echo(f"report: {folder / 'report.html'}")
