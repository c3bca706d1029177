"""``tood show``: a study's table, and where its files are."""

from tood.config.study import load_study
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, RESULTS, Echo


def show(reference: str, echo: Echo) -> None:
    study = load_study(reference, PARAMS)
    folder = RESULTS / study.name
    table = folder / "comparison.md"
    if not table.exists():
        raise UserError(f"{table}: no such file; make it with: snakemake --cores all --config study={reference}")
    echo(table.read_text(encoding="utf-8").rstrip())
    echo("")
    echo(f"report    {folder / 'report.html'}   (one file, opens in any browser)")
    echo(f"table     {folder / 'comparison.csv'}, .md, .tex")
    echo(f"figures   {folder / 'figures'}/")
    echo(f"runs      {folder}/<run>/  (config.yaml, history.csv, metrics.json, model.pt, samples/)")
    echo("curves    mlflow ui   (then open the address it prints)")
